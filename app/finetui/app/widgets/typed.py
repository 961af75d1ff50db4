"""A text that one types and sends: Enter sends it, Alt+Enter begins a new line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import TextArea

from finetui.app.registry import bindings
from finetui.app.widgets.spoken import Spoken
from finetui.core.messages import t

_NOT_OURS = frozenset({"f6", "f7"})
"""Keys of TextArea that screens want."""


class Typed(TextArea, Spoken, inherit_bindings=False):
    """Grows with its text; Up in its first line brings back what was sent before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(each for each in TextArea.BINDINGS if isinstance(each, Binding) and each.key not in _NOT_OURS),
        *bindings("typed"),
    ]
    DEFAULT_CSS = """
    Typed { height: auto; max-height: 6; border: none; padding: 0 1; background: $surface; }
    Typed:focus { border: none; }
    """

    @dataclass
    class Sent(Message):
        """Enter was pressed."""

        typed: Typed
        """Where."""
        text: str
        """What stands there."""

        @property
        def control(self) -> Typed:
            """For `on`."""
            return self.typed

    def __init__(self, text: str = "", *, hint: str = "", id: str | None = None) -> None:
        super().__init__(text, id=id, theme="css", compact=True, highlight_cursor_line=False)
        self._hint = hint
        self._before: Sequence[str] = ()
        self._at = 0

    def on_mount(self) -> None:
        """The first words."""
        self.speak()

    def speak(self) -> None:
        """What may be typed, while nothing is."""
        if self._hint:
            self.placeholder = Content(t(self._hint))

    def recall(self, texts: Sequence[str]) -> None:
        """What Up brings back, the oldest first."""
        self._before, self._at = texts, len(texts)

    def action_send(self) -> None:
        """Hand over what stands here."""
        self.post_message(self.Sent(self, self.text))

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        """A line up; from the first one to what was sent before."""
        if select or self.cursor_location[0] or not self._at:
            super().action_cursor_up(select)
        else:
            self._show(self._at - 1)

    def action_cursor_down(self, select: bool = False) -> None:
        """A line down; from the last one to what was sent after."""
        if select or self.cursor_location[0] < self.document.line_count - 1 or self._at >= len(self._before):
            super().action_cursor_down(select)
        else:
            self._show(self._at + 1)

    def _show(self, at: int) -> None:
        self._at = at
        self.text = self._before[at] if at < len(self._before) else ""
        self.move_cursor(self.document.end)
