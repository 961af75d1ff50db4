"""The fourth step by lines: everything resolved, what differs from the recipe, and the commands that say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from finetui.cli.plain.progress import HowFar
from finetui.cli.plain.talk import Back, Option, choose, say, say_error
from finetui.cli.plan_settings import reason, shown
from finetui.cli.plan_view import figures, needs, verdict, what
from finetui.core.errors import FinetuiError, render_warnings
from finetui.core.figures import gib
from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line
from finetui.offers import bundle_folder
from finetui.steps import attempt, changes, write_commands
from finetui.wizard import plan

if TYPE_CHECKING:
    from finetui.cli.plain.wizard import Wizard
    from finetui.draft import Draft
    from finetui.recipes.resolve import Plan


def step(wizard: Wizard) -> None:
    """Until it has been agreed to; what cannot be locked leads back."""
    while True:
        draft = wizard.draft
        if draft.out.name == "" or draft.out.exists():
            draft = replace(draft, out=bundle_folder(draft))
            wizard.change(draft)
        found = attempt(partial(plan, draft, HowFar()))
        if isinstance(found, FinetuiError):
            say_error(found)
            raise Back
        for line in _lines(draft, found):
            say(line)
        if found.untrained:
            raise Back
        if _agreed(wizard, found):
            return


def _agreed(wizard: Wizard, plan: Plan) -> bool:
    """Whether it is locked as it stands; else something of it has been changed."""
    blocked = not plan.fits and not wizard.draft.accept_memory
    ways = [Option(f"way-{place}", way.text()) for place, way in enumerate(plan.ways_out)] if blocked else []
    go = Option("accept", t("wizard.memory-accept")) if blocked else Option("go", t("plain.review-go"))
    options = [*ways, go, Option("write", t("plain.review-write")), Option("back", t("plain.review-back"))]
    question = t("wizard.memory-title" if blocked else "plain.next")
    while True:
        word, _ = choose(question, options, "back" if blocked else "go", about=t("app.help-step-review"))
        if word == "back":
            raise Back
        if word == "write":
            _write(wizard.draft)
        elif word.startswith("way-"):
            wizard.change(wizard.draft.taking(plan.ways_out[int(word.removeprefix("way-"))]))
            return False
        else:
            wizard.change(replace(wizard.draft, accept_memory=wizard.draft.accept_memory or blocked))
            return True


def _lines(draft: Draft, plan: Plan) -> Iterator[str]:
    for label, value in (
        ("data", ", ".join(draft.data)),
        ("model", draft.model),
        ("recipe", draft.recipe),
        ("bundle", str(draft.out)),
    ):
        yield t("plain.fact", label=t(f"wizard.label-{label}"), fact=one_line(value, PATH_LIMIT))
    for change in changes(draft, plan):
        facts = {"name": change.name, "before": one_line(change.before, 60), "after": one_line(change.after, 60)}
        yield t("plain.changed", **facts)
    yield verdict(plan)
    yield what(plan)
    for name, size in (*plan.prediction.parts.items(), ("total", plan.prediction.total_bytes)):
        if size:
            yield t("plain.memory", part=t(f"plan.part-{name}"), size=gib(size))
    for code in plan.prediction.notes:
        yield t("plan.unmeasured", what=t(code))
    label = ""
    for head, fact in figures(plan):
        label = head or label
        yield t("plain.fact", label=label, fact=fact)
    yield t("plan.head-settings")
    for name, choice in plan.settings.choices.items():
        yield t("plain.setting-why", name=name, value=shown(choice.value), why=one_line(reason(choice), 300))
    if warnings := (*plan.untrained, *plan.warnings):
        yield render_warnings(warnings)
    if not plan.fits:
        yield t("plan.head-ways")
        for way in plan.ways_out:
            yield t("plain.fact", label=way.text(), fact=needs(way))
        if not plan.ways_out:
            yield t("plan.no-ways")
    yield t("wizard.commands")
    for words in draft.launching():
        yield one_line(words, PATH_LIMIT)


def _write(draft: Draft) -> None:
    """The commands that do the same, in a file."""
    written = attempt(partial(write_commands, draft))
    if isinstance(written, FinetuiError):
        say_error(written)
    else:
        say(t("wizard.saved", path=str(written)))
