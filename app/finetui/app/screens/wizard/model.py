"""The second step: which model, what it is, and a row of the data as it will see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList

from finetui.app.registry import bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.wizard.step import Step
from finetui.app.themes import MUTED
from finetui.app.widgets.choices import Choices, Options
from finetui.app.widgets.facts import Facts, Row
from finetui.app.widgets.line import Line
from finetui.app.widgets.printed import Printed
from finetui.cli.as_seen import Look, look
from finetui.core.errors import FinetuiError, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.offers import ModelOffer, can_be_fetched, fetched, model, models
from finetui.steps import model_facts, model_size

if TYPE_CHECKING:
    pass


@dataclass
class HowFar(Message):
    """How much of a model has been fetched."""

    model: str
    percent: int


class ModelStep(Step):
    """Models on this machine."""

    NAME = "model"
    BINDINGS: ClassVar[list[BindingType]] = bindings("model")
    DEFAULT_CSS = """
    ModelStep #models { height: auto; max-height: 8; }
    ModelStep #about { height: 1fr; padding: 0 1; margin-top: 1; }
    ModelStep #as-seen { margin-top: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._models: list[ModelOffer] | None = None
        self._shown: ModelOffer | FinetuiError | None = None
        self._look: Look | None = None

    def compose(self) -> ComposeResult:
        """A name to type, what is here, what the highlighted one is."""
        yield Line(id="name", select_on_focus=False)
        yield Options(id="models")
        with VerticalScroll(id="about"):
            yield Facts(id="model-facts")
            yield Printed(id="as-seen")

    def enter(self) -> None:
        """Look at what is here."""
        self.query_one("#models").focus()
        self.newest("models", models, self._found)
        self.speak()

    def missing(self) -> str | None:
        """A model."""
        return None if self.draft.model else "wizard.no-model"

    def line(self) -> Input:
        """The name."""
        return self.query_one("#name", Input)

    def close(self) -> bool:
        """Empty the name."""
        field = self.query_one("#name", Input)
        if field.value:
            field.value = ""
            self.query_one("#models").focus()
            return True
        return False

    def _found(self, found: list[ModelOffer] | FinetuiError) -> None:
        self._models = [] if isinstance(found, FinetuiError) else found
        chosen = self.draft.model
        if chosen and chosen not in [offer.reference for offer in self._models]:
            self._models.insert(0, ModelOffer(chosen))
        self.speak()
        places = [place for place, offer in enumerate(self._offered()) if offer.reference == chosen]
        if places:
            self.query_one("#models", Choices).highlighted = places[0]

    def _offered(self) -> list[ModelOffer]:
        typed = self.query_one("#name", Input).value.strip().lower()
        return [offer for offer in self._models or [] if typed in offer.reference.lower()]

    @on(Input.Changed, "#name")
    def _typed(self) -> None:
        self._offer()

    @on(Input.Submitted, "#name")
    def _entered(self, event: Input.Submitted) -> None:
        word = event.value.strip()
        chosen = self.query_one("#models", Choices).chosen
        if word and word not in [offer.reference for offer in self._models or []]:
            if chosen is not None:
                self._take(chosen)
            else:
                self.newest("named", lambda: model(word), lambda found: self._named(word, found))
        elif word or chosen:
            self._take(word or str(chosen))

    def _named(self, word: str, found: ModelOffer | FinetuiError) -> None:
        if not isinstance(found, FinetuiError):
            self._models = [found, *(self._models or [])]
            self._take(found.reference)
            return
        self._show(found)
        if can_be_fetched(word):
            text = t("wizard.fetch-text", model=one_line(word))
            answers = [(name, t(f"wizard.fetch-{name}")) for name in ("yes", "no")]
            self.app.push_screen(
                Ask(t("wizard.fetch-title"), text, answers),
                lambda answer: self._fetch(word) if answer == "yes" else None,
            )

    def _fetch(self, word: str) -> None:
        def tell(facts: Mapping[str, Any]) -> None:
            total = facts.get("total")
            self.post_message(HowFar(word, int(100 * facts["done"] / total) if total else 0))

        self.newest("named", lambda: fetched(word, tell), lambda found: self._named(word, found))
        self.post_message(HowFar(word, 0))

    @on(HowFar)
    def _told(self, how_far: HowFar) -> None:
        self._shown, self._look = None, None
        text = t("wizard.fetching", model=one_line(how_far.model), percent=how_far.percent)
        self.query_one("#model-facts", Facts).tell([("", text, "")])

    @on(OptionList.OptionHighlighted, "#models")
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        offer = next((each for each in self._models or [] if each.reference == event.option_id), None)
        if offer is not None and offer != self._shown:
            self._show(offer)

    @on(OptionList.OptionSelected, "#models")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self._take(event.option_id)

    def key_down(self) -> None:
        """From the name into the list below it."""
        if self.screen.focused is self.query_one("#name"):
            self.query_one("#models").focus()

    def _take(self, reference: str) -> None:
        offer = next((each for each in self._models or [] if each.reference == reference), None)
        if offer is not None and offer.problems:
            self._show(offer)
        elif offer is not None and offer.outline is not None and offer.outline.custom_code:
            self._ask_about_code(reference, offer.outline.custom_code)
        else:
            self._go_on_with(reference)

    def _ask_about_code(self, reference: str, files: tuple[str, ...]) -> None:
        def answered(answer: str | None) -> None:
            if answer == "accept":
                self._go_on_with(reference)

        text = t("wizard.code-text", model=one_line(reference), files=one_line(", ".join(files)))
        answers = [(name, t(f"wizard.code-{name}")) for name in ("back", "accept")]
        self.app.push_screen(Ask(t("wizard.code-title"), text, answers), answered)

    def _go_on_with(self, reference: str) -> None:
        self.wizard.change(replace(self.draft, model=reference))
        self.wizard.action_next()

    def action_template(self) -> None:
        """Choose the template that the rows are written in."""
        from finetui.core.encode import BUILTIN

        def answered(answer: str | None) -> None:
            if answer is not None:
                self.wizard.change(replace(self.draft, template=answer.removeprefix("=") or None))
                if self._shown is not None:
                    self._show(self._shown)

        answers = [("=", t("wizard.template-own")), *((f"={name}", name) for name in BUILTIN)]
        self.app.push_screen(Ask(t("wizard.template-title"), t("wizard.template-text"), answers), answered)

    def _show(self, found: ModelOffer | FinetuiError) -> None:
        self._shown, self._look = found, None
        draft = self.draft
        self._tell()
        if isinstance(found, ModelOffer) and found.outline is not None and found.outline.has_tokenizer:
            folder = found.outline.folder
            self.newest("look", lambda: look(draft, folder), self._looked)
        else:
            self.drop("look")

    def _looked(self, seen: Look | FinetuiError) -> None:
        self._look = None if isinstance(seen, FinetuiError) else seen
        self._tell()

    def on_resize(self) -> None:
        """Names get what room there is."""
        self._offer()

    def speak(self) -> None:
        """Everything that is known, in the language in force."""
        self.query_one("#name", Input).placeholder = t("wizard.model-name")
        self._offer()
        self._tell()

    def _offer(self) -> None:
        width = min(48, max((cell_len(one_line(offer.reference)) for offer in self._models or []), default=0))
        self.query_one("#models", Choices).offer([(offer.reference, _line(offer, width)) for offer in self._offered()])

    def _tell(self) -> None:
        found = self._shown
        facts = self.query_one("#model-facts", Facts)
        if isinstance(found, FinetuiError):
            facts.tell([("", line, "$error") for line in render(found.problems).splitlines()])
        elif found is not None:
            facts.tell(list(_facts(found, self._look)))
        seen = self._look
        self.query_one("#as-seen", Printed).show(None if seen is None else seen.show)


def _line(offer: ModelOffer, width: int) -> Content:
    name = set_cell_size(one_line(offer.reference), max(4, width))
    if offer.outline is None:
        return Content.assemble(
            name, "  ", (t("wizard.model-unusable" if offer.problems else "wizard.model-made"), MUTED)
        )
    outline = offer.outline
    return Content.assemble(
        name,
        "  ",
        (model_size(outline.parameters).rjust(7), ""),
        "  ",
        (f"{outline.dtype}  {one_line(outline.architecture, 40)}", MUTED),
    )


def _facts(offer: ModelOffer, seen: Look | None) -> Iterator[Row]:
    if offer.problems:
        yield from (("", line, "$error") for line in render(offer.problems).splitlines())
        return
    for label, text, is_odd in model_facts(offer, seen.template if seen else "…"):
        yield label, text, "$warning" if is_odd else ""
