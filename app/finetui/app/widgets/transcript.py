"""What has been said with one who answers: questions, answers as they come, and a line of state below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from finetui.app.themes import MUTED
from finetui.chat.dialogue import Turn
from finetui.chat.who import Piece
from finetui.core.messages import t
from finetui.core.text import safe_text

_MOST_SHOWN = 100_000
_NEW_LINE = "⏎\n"


class Transcript(Vertical):
    """One of the panes of a chat."""

    BINDINGS: ClassVar[list[BindingType]] = []
    DEFAULT_CSS = """
    Transcript { border: round $panel; border-title-color: $foreground; padding: 0 1; width: 1fr; }
    Transcript:focus-within { border: round $primary; }
    Transcript > VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    Transcript Static { height: auto; width: 1fr; }
    Transcript .said { margin-bottom: 1; }
    Transcript > #state { color: $text-muted; max-height: 4; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._last: Static | None = None
        self._question = ""
        self._state = Content("")

    def compose(self) -> ComposeResult:
        """The words, and the state below."""
        yield VerticalScroll(id="words")
        yield Static(id="state", markup=False)

    def on_mount(self) -> None:
        """New words stay in view unless one has scrolled up."""
        self.query_one(VerticalScroll).anchor()

    def name_it(self, name: str) -> None:
        """Write who answers here into the frame."""
        self.border_title = Content(name)

    def state(self, line: Content) -> None:
        """What is going on, in a line."""
        if not line.is_same(self._state):
            self._state = line
            self.query_one("#state", Static).update(line)

    def show(self, turns: Sequence[Turn]) -> None:
        """Show these words in place of all others."""
        self._put([Content("\n").join(_said(turn)) for turn in turns])

    def show_raw(self, pieces: Sequence[Piece]) -> None:
        """Show what was sent and what came back, as it is."""
        self._put([Content.assemble(*_raw(pieces))])

    def begin(self, question: str) -> None:
        """Show a question; what `stream` is given stands below it."""
        self._question = question
        self._last = Static(Content("\n").join(_said(Turn(question))), markup=False, classes="said")
        self.query_one(VerticalScroll).mount(self._last)

    def stream(self, text: str) -> None:
        """Show what has come of the answer so far."""
        if self._last is not None:
            self._last.update(Content("\n").join([_asked(self._question), _answered(text)]))

    def finish(self, turn: Turn) -> None:
        """Show the answer whole, with what is to be said of it."""
        if self._last is not None:
            self._last.update(Content("\n").join(_said(turn)))

    def _put(self, parts: Sequence[Content]) -> None:
        self._last = None
        words = self.query_one(VerticalScroll)
        words.remove_children()
        words.mount_all([Static(part, markup=False, classes="said") for part in parts])

    def turn_page(self, up: bool) -> None:
        """A page up or down."""
        words = self.query_one(VerticalScroll)
        (words.scroll_page_up if up else words.scroll_page_down)(animate=False)


def _said(turn: Turn) -> Iterator[Content]:
    yield _asked(turn.question)
    if turn.answer is not None:
        yield _answered(turn.answer.text)
        yield Content.styled(remark(turn), MUTED)


def remark(turn: Turn) -> str:
    """Why an answer ended, how long it is and how fast it came."""
    answer = turn.answer
    if answer is None:
        return ""
    known = answer.stop_reason in ("stop", "length", "cancelled", "lost")
    why = t(f"chat.why-{answer.stop_reason}") if known else t("chat.why-other", reason=answer.stop_reason)
    return t("chat.remark", why=why, tokens=answer.tokens, speed=round(answer.tokens_per_second, 1))


def _asked(text: str) -> Content:
    return Content.styled(f"› {_shown(text)}", "bold $primary")


def _answered(text: str) -> Content:
    return Content(_shown(text))


def _shown(text: str) -> str:
    return safe_text(text, _MOST_SHOWN).expandtabs(4)


def _raw(pieces: Sequence[Piece]) -> Iterator[tuple[str, str]]:
    """Every other token underlined, so that one sees where each ends without a sign that is not in the text."""
    for number, piece in enumerate(pieces):
        style = "bold $accent" if piece.special else "$foreground" if piece.answered else MUTED
        text = _shown(piece.text).replace("\n", _NEW_LINE)
        yield text, style + (" underline" if number % 2 else "")
