"""The third step by lines: which recipe, whether it fits, and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from finetui.cli.plain.progress import HowFar
from finetui.cli.plain.settings import assigned, tell
from finetui.cli.plain.talk import Back, Option, choose, say, say_error
from finetui.core.errors import FinetuiError
from finetui.core.figures import duration, gib
from finetui.core.knobs import GROUPS, knobs
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.offers import RecipeOffer
from finetui.steps import attempt, lengths, planned_recipes, written
from finetui.wizard import plan

if TYPE_CHECKING:
    from finetui.cli.plain.wizard import Wizard
    from finetui.draft import Draft
    from finetui.recipes.resolve import Plan

_AFTER = ("go", "settings", "other")


def step(wizard: Wizard) -> None:
    """Until a recipe has been chosen that can be planned."""
    say(t("wizard.planning"))
    offers = planned_recipes(wizard.draft, HowFar())
    while True:
        options = [Option(offer.recipe.name, _words(offer)) for offer in offers]
        names = [option.word for option in options]
        default = wizard.draft.recipe if wizard.draft.recipe in names else names[0]
        word, typed = choose(t("plain.which-recipe"), options, default, about=_about(), is_free=True)
        changed = attempt(partial(wizard.draft.following, word or typed))
        if isinstance(changed, FinetuiError):
            say_error(changed)
            continue
        wizard.change(changed)
        try:
            if _settled(wizard):
                return
        except Back:
            continue


def _settled(wizard: Wizard) -> bool:
    """Whether this recipe is taken, with what was set over it."""
    found = _planned(wizard.draft)
    while True:
        options = [Option(word, t(f"plain.recipe-{word}")) for word in _AFTER]
        word, typed = choose(
            t("plain.next-or-set"), options, "other" if found is None else "go", about=_about(), is_free=True
        )
        if word == "other":
            return False
        if word == "go" and found is not None:
            return True
        if word == "go":
            say(t("wizard.no-plan"))
        elif word == "settings" and found is not None:
            _tell_settings(found)
        elif not word:
            found = _set(wizard, typed, found)


def _set(wizard: Wizard, typed: str, found: Plan | None) -> Plan | None:
    """Change a setting as it was typed, and plan anew."""
    known = _values(found) if found else {name: "" for name, knob in knobs().items() if knob.locked != "data"}
    changed = assigned(wizard.draft, typed, {**known, **wizard.draft.set_values()})
    if changed is None:
        return found
    name = typed.removeprefix("--set ").partition("=")[0].strip()
    planned = _planned(changed)
    if planned is None and found is not None:
        say(t("plain.not-set", name=name))
        return found
    wizard.change(changed)
    if planned is not None and name in planned.settings.choices:
        tell({name: _values(planned)[name]}, lambda each: one_line(planned.settings.choices[each].why(), 300))
    return planned


def _planned(draft: Draft) -> Plan | None:
    """Plan it and say what it takes, or why it cannot be planned."""
    found = attempt(lambda: plan(draft, HowFar()))
    if isinstance(found, FinetuiError):
        say_error(found)
        return None
    for line in _prediction(found):
        say(line)
    return found


def _prediction(plan: Plan) -> Iterator[str]:
    low, high = plan.prediction.band
    facts: dict[str, object] = {"low": gib(low), "high": gib(high), "free": gib(plan.free_bytes)}
    yield t("wizard.fits" if plan.fits else "wizard.fits-not", **facts)
    time = "–" if plan.seconds is None else duration(plan.seconds)
    facts = {"time": time, "steps": plan.settled.saving.steps or 0, "disk": gib(plan.disk_bytes)}
    yield t("wizard.takes-time", device=one_line(plan.settled.frame.device.name), **facts)
    if plan.tokens is not None:
        yield lengths(plan.tokens)


def _values(plan: Plan) -> dict[str, str]:
    """Every setting by group; what only chooses rows stands in the first step."""
    table, choices = knobs(), plan.settings.choices
    return {
        name: written(choice.value)
        for group in GROUPS
        for name, choice in choices.items()
        if table[name].group == group and table[name].locked != "data"
    }


def _tell_settings(plan: Plan) -> None:
    tell(_values(plan), lambda name: one_line(plan.settings.choices[name].why(), 300))


def _words(offer: RecipeOffer) -> str:
    name, about = offer.recipe.name, one_line(offer.recipe.about(), 300)
    if offer.plan is None:
        why = one_line(offer.problems[0].message(), 300) if offer.problems else ""
        return t("plain.recipe-refused", name=name, why=why)
    made = offer.plan
    facts = {"high": gib(made.prediction.band[1]), "free": gib(made.free_bytes), "about": about}
    time = "–" if made.seconds is None else duration(made.seconds)
    return t("plain.recipe-fits" if offer.fits else "plain.recipe-fits-not", name=name, time=time, **facts)


def _about() -> str:
    return "\n".join([t("app.help-step-recipe"), t("plain.help-settings")])
