"""Settings as a form: a line each with value and reason, one line to type in, and its help in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static

from finetui.app.registry import bindings
from finetui.app.themes import MUTED
from finetui.app.widgets.choices import Choices
from finetui.app.widgets.explained import Explained
from finetui.app.widgets.line import Line
from finetui.core.errors import FinetuiError
from finetui.core.knobs import knobs, parse_assignments
from finetui.core.messages import t
from finetui.core.text import one_line

_VALUE = 14


@dataclass(frozen=True)
class Field:
    """One setting in the form."""

    name: str
    value: str
    """As `--set` takes it."""
    why: str = ""
    is_set: bool = False
    """Whether a person has said it, here."""


class FieldList(Choices, Explained):
    """The settings; Enter changes the highlighted one."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("form")

    def explain(self) -> str:
        """The glossary's words for the highlighted setting."""
        knob = knobs().get(self.chosen or "")
        return "" if knob is None else f"{knob.name}\n{knob.explain()}\n{knob.expected()}"

    def action_default(self) -> None:
        """Leave the highlighted setting to recipe and machine again."""
        if self.chosen is not None:
            self.post_message(Form.Left(self.chosen))

    def action_cycle(self) -> None:
        """The next word of a choice."""
        form = self.parent
        if isinstance(form, Form):
            form.cycle()


class Editor(Line, Explained):
    """Where the value of a setting is typed."""

    def explain(self) -> str:
        """The glossary's words for the setting, which is the highlighted one."""
        form = next(each for each in self.ancestors if isinstance(each, Form))
        return form.query_one(FieldList).explain()


class Form(Vertical):
    """Settings of the table of knobs."""

    DEFAULT_CSS = """
    Form { height: 1fr; }
    Form #fields { height: 1fr; }
    Form #edited { display: none; height: 1; }
    Form #edited.open { display: block; }
    Form #edited-name { width: auto; padding: 0 0 0 1; color: $accent; text-style: bold; }
    Form #editor { width: 1fr; }
    Form #about-field { height: 4; padding: 0 1; color: $text-muted; }
    Form #about-field.wrong { color: $error; }
    """

    @dataclass
    class Said(Message):
        """A value was typed that holds; so far, where `is_done` is false."""

        name: str
        value: str
        is_done: bool

    @dataclass
    class Left(Message):
        """A setting is left to recipe and machine."""

        name: str

    @dataclass
    class Dropped(Message):
        """What was typed is not wanted after all."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._fields: dict[str, Field] = {}
        self._editing: str | None = None

    def compose(self) -> ComposeResult:
        """The list, the line to type in, the help."""
        yield FieldList(id="fields")
        with Horizontal(id="edited"):
            yield Static(id="edited-name", markup=False)
            yield Editor(id="editor")
        yield Static(id="about-field", markup=False)

    def offer(self, fields: Sequence[Field]) -> None:
        """Put these in place of those that are there."""
        self._fields = {field.name: field for field in fields}
        width = max((len(field.name) for field in fields), default=0)
        self.query_one(FieldList).offer([(field.name, _line(field, width)) for field in fields])
        if self._editing is None:
            self._explain()
        else:
            self._check(self.query_one("#editor", Input).value)

    def close(self) -> bool:
        """Leave the line that is typed in, without its value; False where none is."""
        if self._editing is None:
            return False
        self._end()
        self.post_message(self.Dropped())
        return True

    def cycle(self) -> None:
        """The next word of the highlighted choice."""
        name = self.query_one(FieldList).chosen
        knob = knobs().get(name or "")
        if knob is None:
            return
        words = ("false", "true") if knob.type == "bool" else knob.choices
        if words:
            now = self._fields[knob.name].value
            self.post_message(
                self.Said(knob.name, words[(words.index(now) + 1) % len(words) if now in words else 0], True)
            )

    @on(OptionList.OptionHighlighted, "#fields")
    def _highlighted(self) -> None:
        if self._editing is None:
            self._explain()

    @on(OptionList.OptionSelected, "#fields")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is None:
            return
        knob = knobs()[event.option_id]
        if knob.type == "bool" or knob.choices:
            self.cycle()
            return
        self._editing = knob.name
        editor = self.query_one("#editor", Input)
        self.query_one("#edited").add_class("open")
        self.query_one("#edited-name", Static).update(f"{knob.name} =")
        editor.value = self._fields[knob.name].value
        editor.placeholder = f"{knob.name}: {knob.expected()}"
        editor.focus()

    @on(Input.Changed, "#editor")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        typed = event.value.strip()
        if self._editing and self._check(typed) and typed and typed != self._fields[self._editing].value:
            self.post_message(self.Said(self._editing, typed, False))

    @on(Input.Submitted, "#editor")
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        name = self._editing
        if name is None or not self._check(event.value):
            return
        self._end()
        self.post_message(self.Said(name, event.value.strip(), True) if event.value.strip() else self.Left(name))

    def _check(self, typed: str) -> bool:
        """Whether the value holds; if not, why stands below."""
        about = self.query_one("#about-field", Static)
        try:
            if typed.strip():
                parse_assignments([f"{self._editing}={typed}"])
        except FinetuiError as error:
            about.add_class("wrong")
            about.update("\n".join(filter(None, (error.problems[0].message(), error.problems[0].expected()))))
            return False
        self._explain()
        return True

    def _end(self) -> None:
        self._editing = None
        self.query_one("#edited").remove_class("open")
        self.query_one(FieldList).focus()
        self._explain()

    def _explain(self) -> None:
        name = self._editing or self.query_one(FieldList).chosen or ""
        knob, about = knobs().get(name), self.query_one("#about-field", Static)
        about.remove_class("wrong")
        if knob is None:
            about.update("")
            return
        takes = t("wizard.takes", expected=knob.expected())
        about.update("\n".join([" · ".join(filter(None, (self._fields[name].why, takes))), knob.explain()]))


def _line(field: Field, width: int) -> Content:
    value = one_line(field.value, 60) or "–"
    shown = set_cell_size(value, _VALUE) if cell_len(value) <= _VALUE else value
    return Content.assemble(
        field.name.ljust(width),
        "  ",
        (shown, "bold $accent" if field.is_set else "bold"),
        "  ",
        (field.why, MUTED),
    )
