"""The third step: which recipe, whether it fits, and its settings, each to be changed with its effect in sight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.events import DescendantFocus
from textual.timer import Timer
from textual.widgets import OptionList

from finetui.app.registry import bindings
from finetui.app.screens.wizard.step import Step
from finetui.app.themes import MUTED
from finetui.app.widgets.choices import Choices, Options
from finetui.app.widgets.facts import bar
from finetui.app.widgets.form import Field, Form
from finetui.app.widgets.lines import Lines
from finetui.core.errors import FinetuiError
from finetui.core.figures import duration, gib
from finetui.core.knobs import GROUPS, knobs
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.offers import RecipeOffer
from finetui.steps import lengths, planned_recipes, written

if TYPE_CHECKING:
    from finetui.draft import Draft
    from finetui.recipes.resolve import Plan, Tokens

_AFTER_S = 0.25
"""How long after the last key the prediction is made."""
_FIRST = ("schedule", "adapter", "length", "batch")
"""The groups of settings that are changed most."""
_BAR = 14
_WIDE_BAR = 30
_BINS = 12
_LOW = 30
"""Lines of a screen that has no room for catalogue and settings."""


class RecipeStep(Step):
    """The catalogue and the form of settings."""

    NAME = "recipe"
    BINDINGS: ClassVar[list[BindingType]] = bindings("recipe")
    DEFAULT_CSS = """
    RecipeStep #recipes { height: auto; max-height: 6; }
    RecipeStep #prediction { padding: 0 1; margin: 1 0; min-height: 4; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked: Draft | None = None
        self._offers: list[RecipeOffer] | None = None
        self._refused: FinetuiError | None = None
        self._plan: Plan | FinetuiError | None = None
        self._tried: Draft | None = None
        self._soon: Timer | None = None
        self._stage = ""

    def compose(self) -> ComposeResult:
        """The catalogue, the prediction, the settings."""
        yield Options(id="recipes")
        yield Lines(id="prediction")
        yield Form(id="settings")

    def enter(self) -> None:
        """Plan every recipe, where data or model are others now."""
        self._focus_catalogue()
        asked = replace(self.draft, recipe="", assignments=())
        if asked != self._asked or isinstance(self._plan, FinetuiError):
            self._asked, self._offers, self._plan = asked, None, None
            draft, self._stage = self.draft, ""
            self.newest("offers", lambda: planned_recipes(draft, self.tell), self._found)
        self.speak()

    def missing(self) -> str | None:
        """A recipe that can be planned."""
        if self._offers is None and self._refused is None:
            return "wizard.planning"
        if not self.draft.recipe:
            return "wizard.no-recipe"
        return "wizard.no-plan" if isinstance(self._plan, FinetuiError) else None

    def close(self) -> bool:
        """Leave the setting that is being typed, or the form."""
        if self.query_one(Form).close():
            return True
        if self.screen.focused is not self.query_one("#recipes"):
            self._focus_catalogue()
            return True
        return False

    def _focus_catalogue(self) -> None:
        self.query_one("#recipes").display = True
        self.query_one("#recipes").focus()

    @on(Step.Stage)
    def _told(self, stage: Step.Stage) -> None:
        if stage.text != self._stage:
            self._stage = stage.text
            self.speak()

    def _found(self, found: list[RecipeOffer] | FinetuiError) -> None:
        if isinstance(found, FinetuiError):
            self._refused = found
        else:
            self._offers, self._refused = found, None
        if self._offers and not self.draft.recipe:
            self.wizard.change(self.draft.following(self._offers[0].recipe.name))
        self.speak()
        places = [at for at, offer in enumerate(self._offers or ()) if offer.recipe.name == self.draft.recipe]
        if places:
            self.query_one("#recipes", Choices).highlighted = places[0]
            self._show(self._offers[places[0]] if self._offers else None)

    def _show(self, offer: RecipeOffer | None) -> None:
        if offer is not None:
            self._plan = offer.plan or FinetuiError(offer.problems)
            self._tried = None
            self.speak()

    @on(OptionList.OptionHighlighted, "#recipes")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        name = event.option_id
        if name and name != self.draft.recipe:
            self.wizard.change(self.draft.following(name))
            offer = next(each for each in self._offers or () if each.recipe.name == name)
            if self.draft.assignments:
                self._plan_again(self.draft)
            self._show(offer)

    @on(OptionList.OptionSelected, "#recipes")
    def _selected(self) -> None:
        self.wizard.action_next()

    # ---- settings

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There are settings as soon as there is a plan."""
        return action != "settings" or bool(self.query_one("#fields", Choices).option_count)

    def action_settings(self) -> None:
        """From the catalogue to the settings, and back."""
        self.query_one(Form).close()
        if self.screen.focused is self.query_one("#recipes"):
            self.query_one("#fields").focus()
        else:
            self._focus_catalogue()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """On a low screen the settings have the place of the catalogue while they are changed."""
        low = self.app.size.height < _LOW
        self.query_one("#recipes").display = not low or event.widget is self.query_one("#recipes")

    @on(Form.Said)
    def _said(self, said: Form.Said) -> None:
        draft = self.draft.setting(said.name, said.value)
        if said.is_done:
            self.wizard.change(draft)
        self._plan_soon(draft, now=said.is_done)

    @on(Form.Left)
    def _left(self, left: Form.Left) -> None:
        self.wizard.change(self.draft.setting(left.name, None))
        self._plan_soon(self.draft, now=True)

    @on(Form.Dropped)
    def _dropped(self) -> None:
        self._plan_soon(self.draft, now=True)

    def _plan_soon(self, draft: Draft, *, now: bool) -> None:
        if self._soon is not None:
            self._soon.stop()
        if now:
            self._plan_again(draft)
        else:
            self._soon = self.set_timer(_AFTER_S, lambda: self._plan_again(draft))

    def _plan_again(self, draft: Draft) -> None:
        def work() -> Plan:
            from finetui.wizard import plan

            return plan(draft)

        self.newest("plan", work, self._planned)

    def _planned(self, found: Plan | FinetuiError) -> None:
        self._plan = found
        self.speak()

    # ---- saying

    def on_resize(self) -> None:
        """Lines get what room there is."""
        self.speak()

    def speak(self) -> None:
        """Everything that is known, in the language in force."""
        width = self.size.width - 2
        offers = self._offers or []
        name = max((len(offer.recipe.name) for offer in offers), default=0)
        self.query_one("#recipes", Choices).offer([(o.recipe.name, _offer_line(o, name, width)) for o in offers])
        shown = self.query_one("#prediction", Lines)
        if self._refused is not None:
            shown.show([Content.styled(one_line(problem.message()), "$error") for problem in self._refused.problems])
        elif self._plan is None:
            shown.show([t("wizard.planning"), Content.styled(self._stage, MUTED)])
        elif isinstance(self._plan, FinetuiError):
            shown.show([Content.styled(one_line(problem.message()), "$error") for problem in self._plan.problems[:3]])
        else:
            lines = list(_prediction(self._plan))
            about = [o.recipe.about() for o in offers if o.recipe.name == self.draft.recipe]
            shown.show([*lines, *(Content.styled(one_line(text, 300), MUTED) for text in about)])
            form, before = self.query_one(Form), self.query_one("#fields", Choices).option_count
            form.offer(list(_fields(self._plan, self.draft)))
            if not before:
                self.refresh_bindings()


def _offer_line(offer: RecipeOffer, name: int, width: int) -> Content:
    title = offer.recipe.name.ljust(name)
    if offer.plan is None:
        why = offer.problems[0].message() if offer.problems else ""
        return Content.assemble(("✗ ", "$error"), (title, MUTED), "  ", (one_line(why), MUTED))
    plan = offer.plan
    high, free = plan.prediction.band[1], plan.free_bytes
    sign = ("✓ ", "$success") if offer.fits else ("✗ ", "$error")
    meter = (bar(high / max(1, free), _BAR), "$success" if plan.fits else "$error")
    time = "" if plan.seconds is None else duration(plan.seconds)
    return Content.assemble(
        sign,
        title,
        "  ",
        meter,
        f" {gib(high):>9}",
        (f"  {time:>7}  {one_line(offer.recipe.about(), 120)}", MUTED),
    )


def _prediction(plan: Plan) -> Iterator[Content | str]:
    low, high = plan.prediction.band
    free = plan.free_bytes
    style = "$success" if plan.fits else "$error"
    facts: dict[str, object] = {"low": gib(low), "high": gib(high), "free": gib(free)}
    yield Content.assemble(
        (bar(high / max(1, free), _WIDE_BAR), style),
        "  ",
        (t("wizard.fits" if plan.fits else "wizard.fits-not", **facts), style),
    )
    time = "–" if plan.seconds is None else duration(plan.seconds)
    facts = {"time": time, "steps": plan.settled.saving.steps or 0, "disk": gib(plan.disk_bytes)}
    where = plan.settled.frame.device.name
    yield Content.styled(t("wizard.takes-time", device=one_line(where), **facts), MUTED)
    if plan.tokens is not None:
        yield Content.assemble((lengths(plan.tokens), MUTED), "  ", (_histogram(plan.tokens), "$primary"))


def _histogram(tokens: Tokens) -> str:
    """How many rows there are of each length, from the shortest to the longest."""
    from finetui.data.profile.lengths import bins
    from finetui.runs.figures import sparkline

    return sparkline([float(count) for _, _, count in bins(tokens.train.tokens)], _BINS)


def _fields(plan: Plan, draft: Draft) -> Iterator[Field]:
    """Every setting, by group; what only chooses rows stands in the first step."""
    said, table, choices = draft.set_values(), knobs(), plan.settings.choices
    for group in (*_FIRST, *(group for group in GROUPS if group not in _FIRST)):
        for name, choice in choices.items():
            if table[name].group == group and table[name].locked != "data":
                yield Field(name, written(choice.value), one_line(choice.why(), 300), name in said)
