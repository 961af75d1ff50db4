"""The first step: which data, how it is read, what is in it, which of its rows are taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList

from finetui.app.registry import bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.wizard.paths import Paths
from finetui.app.screens.wizard.step import Step
from finetui.app.themes import MUTED
from finetui.app.widgets.bubbles import bubbles
from finetui.app.widgets.choices import Choices, Entry, Options
from finetui.app.widgets.form import Field, Form
from finetui.app.widgets.lines import Lines
from finetui.app.widgets.printed import Printed
from finetui.cli.hanging import padded
from finetui.core.errors import FinetuiError, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.steps import PARTS, Seen, choosing, look_into, read_through, suggestion, unmapped

if TYPE_CHECKING:
    from rich.console import Console

    from finetui.data import Record, Rejected
    from finetui.data.detection.readings import Question
    from finetui.draft import Draft

_ROWS = 3


@dataclass
class HowFar(Message):
    """How much of the chosen data has been read."""

    percent: int


class _Unwanted(Exception):
    """Other data was chosen while this was read."""


class DataStep(Step):
    """Files and folders, and what they hold."""

    NAME = "data"
    BINDINGS: ClassVar[list[BindingType]] = bindings("data")
    DEFAULT_CSS = """
    DataStep #question { padding: 0 1; color: $warning; text-style: bold; }
    DataStep #replies { height: auto; max-height: 7; }
    DataStep #card { height: 1fr; padding: 0 1; }
    DataStep #rows { height: auto; margin-top: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: Seen | FinetuiError | None = None
        self._seen_of: Draft | None = None
        self._percent = 0
        self._columns: tuple[str, ...] = ()
        self._is_sampling = False

    def compose(self) -> ComposeResult:
        """A path to type, what is near it, what was chosen and what that is."""
        yield Paths()
        yield Lines(id="question")
        yield Options(id="replies")
        with VerticalScroll(id="card"):
            yield Printed(id="facts")
            yield Lines(id="rows")
        yield Form(id="sampling")

    def enter(self) -> None:
        """Look at what is here, or again at what was chosen."""
        self.query_one("#path").focus()
        self._paths.look()
        self._look_into()
        self.speak()

    def missing(self) -> str | None:
        """Data, of which something can be trained."""
        if not self.draft.data:
            return "wizard.no-data"
        if isinstance(self._seen, FinetuiError) or (self._seen and self._seen.inspection.refusals()):
            return "wizard.unusable-data"
        if self._seen and self._seen.whole and not self._seen.inspection.input.usable:
            return "wizard.no-usable-row"
        return None

    def missing_facts(self) -> dict[str, object]:
        """How many rows there are."""
        return {"rows": self._seen.inspection.input.total} if isinstance(self._seen, Seen) else {}

    def line(self) -> Input | None:
        """The path."""
        return None if self._is_sampling else self._paths.field

    def close(self) -> bool:
        """Close the form, or empty the path."""
        if self._is_sampling:
            if not self.query_one(Form).close():
                self.action_rows()
            return True
        return self._paths.close()

    # ---- choosing

    @property
    def _paths(self) -> Paths:
        return self.query_one(Paths)

    @on(Paths.Typing)
    def _typing(self) -> None:
        self._show_parts()

    @on(Paths.Taken)
    def _take(self, taken: Paths.Taken) -> None:
        if taken.word not in self.draft.data:
            self._change(replace(self.draft, data=(*self.draft.data, taken.word)))

    @on(Paths.Dropped)
    def _drop(self, dropped: Paths.Dropped) -> None:
        left = tuple(each for each in self.draft.data if each != dropped.word)
        self._change(replace(self.draft, data=left))
        if not left:
            self.query_one("#path").focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is something to take back where the focus is on it, and rows to be chosen of some data."""
        if action == "rows":
            return bool(self.draft.data)
        focused = self.screen.focused
        return action != "remove" or (focused is not None and focused.id in ("picked", "replies"))

    def action_remove(self) -> None:
        """Take back the highlighted data, or what was said of the highlighted column."""
        kind, _, column = (self.query_one("#replies", Choices).chosen or "").partition(":")
        if self.screen.focused is self.query_one("#picked"):
            self._paths.take_back()
        elif kind == "column":
            self._map(column, None)

    def key_down(self) -> None:
        """From the path into the list below it."""
        if self.screen.focused is self.query_one("#path"):
            asked = self.query_one("#replies").display
            self.query_one("#near" if self._paths.is_choosing else "#replies" if asked else "#card").focus()

    @on(OptionList.OptionSelected, "#replies")
    def _replied(self, event: OptionList.OptionSelected) -> None:
        kind, _, said = (event.option_id or "").partition(":")
        question = self._question()
        if kind == "column":
            self._ask_about(said)
        elif kind == "suggested":
            self._reply(("--map", said))
        elif question is not None:
            self._reply(next(option.flags for option in question.options if option.value == said))

    def _reply(self, flags: Sequence[str]) -> None:
        self._change(self.draft.reading_as(flags))
        self.query_one("#path").focus()

    def _ask_about(self, column: str) -> None:
        def answered(part: str | None) -> None:
            if part is not None:
                self._map(column, part)

        answers = [(part, t(f"wizard.part-{part}")) for part in PARTS]
        self.app.push_screen(Ask(one_line(column), t("wizard.column-text", column=column), answers), answered)

    def _map(self, column: str, part: str | None) -> None:
        self._change(self.draft.saying(column, part))

    def action_rows(self) -> None:
        """Which rows are taken; and back."""
        self._is_sampling = bool(self.draft.data) and not self._is_sampling
        self.speak()
        self.query_one("#fields" if self._is_sampling else "#path").focus()

    @on(Form.Said)
    def _set(self, said: Form.Said) -> None:
        if said.is_done:
            self.wizard.change(self.draft.setting(said.name, said.value))
            self.speak()

    @on(Form.Left)
    def _unset(self, left: Form.Left) -> None:
        self.wizard.change(self.draft.setting(left.name, None))
        self.speak()

    def _change(self, draft: Draft) -> None:
        self.wizard.change(draft)
        self._look_into()
        self.speak()

    # ---- looking

    def _look_into(self) -> None:
        """Recognise the chosen data, then read it through."""
        draft = self.draft
        asked = replace(draft, model="", recipe="", assignments=())
        if asked == self._seen_of:
            return
        self._seen_of, self._seen, self._percent = asked, None, 0
        self.drop("whole")
        if not draft.data:
            self.drop("card")
            return

        self.newest("card", lambda: look_into(draft), self._recognised)

    def _recognised(self, seen: Seen | FinetuiError) -> None:
        self._seen = seen
        if not isinstance(seen, FinetuiError):
            self._columns = unmapped(seen.inspection) or (self._columns if self.draft.reading.mapping else ())
        elif not self.draft.reading.mapping:
            self._columns = ()
        self.speak()
        if isinstance(seen, FinetuiError):
            return
        draft = self.draft

        wanted = self.is_newest("whole")

        def tell(done: int, total: int) -> None:
            if not (wanted() and self.is_attached):
                raise _Unwanted
            self.post_message(HowFar(int(100 * done / max(1, total))))

        def read() -> Seen:
            try:
                return read_through(draft, seen, tell)
            except _Unwanted:
                return seen

        self.newest("whole", read, self._read)

    @on(HowFar)
    def _told(self, how_far: HowFar) -> None:
        if how_far.percent != self._percent and isinstance(self._seen, Seen) and not self._seen.whole:
            self._percent = how_far.percent
            self.speak()

    def _read(self, seen: Seen | FinetuiError) -> None:
        self._seen = seen
        self.speak()

    def _question(self) -> Question | None:
        seen = self._seen
        return None if seen is None or isinstance(seen, FinetuiError) else seen.inspection.question

    # ---- saying

    def on_resize(self) -> None:
        """Bubbles fold at the width that there is."""
        self.speak()

    def speak(self) -> None:
        """Everything that is known, in the language in force."""
        seen, said = self._seen, self.draft.set_values()
        asks, replies = self._asked(seen)
        self.query_one("#question", Lines).show([asks] if asks else [])
        self.query_one("#replies", Choices).offer(replies)
        self.query_one(Form).offer([Field(name, value, "", name in said) for name, value in choosing(self.draft)])
        facts, rows = self.query_one("#facts", Printed), self.query_one("#rows", Lines)
        rows.show([])
        if seen is None:
            facts.show(lambda console: console.print(t("wizard.looking")) if self.draft.data else None)
        elif isinstance(seen, FinetuiError):
            facts.show(lambda console: console.print(render(seen.problems), style="red"))
        else:
            percent = self._percent
            facts.show(lambda console: _describe(console, seen, percent))
            rows.show(list(_row_lines(seen.rows, self.size.width - 4)))
        self._show_parts()

    def _asked(self, seen: Seen | FinetuiError | None) -> tuple[str, list[Entry]]:
        """What is asked about the data, and the answers there are."""
        question, mapping = self._question(), self.draft.reading.mapping
        if question is not None:
            return question.text.text(), [
                (f"option:{option.value}", option.label.text()) for option in question.options
            ]
        if not self._columns:
            return "", []
        parts = {column: part for part, column in mapping.items()}
        cells = seen.cells if isinstance(seen, Seen) else {}
        width = max(cell_len(one_line(column, 40)) for column in self._columns)
        columns: list[Entry] = [
            (f"column:{column}", _column_line(column, cells.get(column, ""), parts.get(column), width))
            for column in self._columns
        ]
        likely = None if mapping or seen is None or isinstance(seen, FinetuiError) else suggestion(seen.inspection)
        if likely:
            columns.insert(0, (f"suggested:{likely}", t("wizard.columns-suggested", mapping=likely)))
        return t("wizard.columns"), columns

    def _show_parts(self) -> None:
        sampling = self._is_sampling
        self._paths.show(self.draft.data, alone=sampling)
        choosing, asked = self._paths.is_choosing, self.query_one("#replies", Choices).option_count > 0
        for part in ("#question", "#replies"):
            self.query_one(part).display = asked and not choosing and not sampling
        self.query_one("#card").display = not choosing and not sampling
        self.query_one("#sampling").display = sampling


def _describe(console: Console, seen: Seen, percent: int) -> None:
    from finetui.cli.describe import describe

    console.print(describe(seen.inspection))
    if not seen.whole:
        console.print(t("wizard.reading", percent=percent), style="cyan")


def _column_line(column: str, cell: str, part: str | None, width: int) -> Content:
    """A column, what it is said to hold, and what stands in its first row."""
    said = "" if part is None else f"→ {t(f'wizard.part-{part}') if part in PARTS else part}  "
    return Content.assemble(padded(one_line(column, 40), width + 2), (said, "bold $accent"), (cell, MUTED))


def _row_lines(rows: Sequence[Record | Rejected], width: int) -> Iterator[Content]:
    from finetui.data import Rejected

    for row in rows:
        facts = {"row": row.place.row, "file": one_line(row.place.file)}
        yield Content.styled(t("wizard.row", **facts), MUTED)
        if isinstance(row, Rejected):
            yield Content.styled(f"{row.code}: {t(f'data.row-{row.code}')}", "$error")
        else:
            yield from bubbles(row.record, width)
