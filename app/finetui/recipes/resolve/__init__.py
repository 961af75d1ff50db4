"""From recipe, model, data and hardware to settings: every knob with a value, every value with its reason."""

from __future__ import annotations

from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.recipes.recipe import inapplicable
from finetui.recipes.resolve.cost import cost_of, time_of
from finetui.recipes.resolve.facts import facts_of
from finetui.recipes.resolve.plan import Plan
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.rules import Rule, broken
from finetui.recipes.resolve.settings import Choice, Settings
from finetui.recipes.resolve.settle import Settled, settle
from finetui.recipes.resolve.targets import missing
from finetui.recipes.resolve.tokens import Tokens
from finetui.recipes.resolve.ways import ways_out


def resolve(request: Request) -> Plan:
    """Settle every knob and predict what that takes; where it does not fit, find what would.

    Raises FinetuiError with everything that cannot work together: exit 5 where another machine or package would do for
    all of it, else 3.
    """
    settled = settle(request)
    facts = facts_of(settled)
    found = broken(facts)
    refused = [rule for rule in found if rule.refuses]
    problems = [rule.problem(facts) for rule in refused]
    others = _unfitting(settled, refused)
    if problems or others:
        raise FinetuiError([*problems, *others], MACHINE if _would_do(refused) and not others else BAD_INPUT)
    time = time_of(settled)
    return Plan(
        settled=settled,
        ways_out=() if settled.fits else ways_out(settled),
        warnings=tuple(rule.problem(facts) for rule in found if rule.warns),
        untrained=tuple(rule.problem(facts) for rule in found if rule.planned),
        time=time,
        cost=cost_of(settled, time),
    )


def _would_do(rules: list[Rule]) -> bool:
    return all(rule.machine for rule in rules)


def _unfitting(settled: Settled, refused: list[Rule]) -> list[Problem]:
    """Settings that this training does not have, and layers that the model does not have."""
    request = settled.request
    told = {name for rule in refused for name in rule.knobs}
    others = {name: value for name, value in request.overrides.items() if name not in told}
    problems = inapplicable(request.recipe, others)
    if request.method == "lora":
        layers = ", ".join(sorted({layer.rpartition(".")[2] for layer in request.model.layers}))
        names = missing(request.model, settled.settings["target_modules"])
        problems += [Problem("recipes.no-layer", {"name": name, "layers": layers}) for name in names]
    return problems


__all__ = ["Choice", "Plan", "Request", "Settings", "Tokens", "resolve"]
