"""A screen in front of another one: a frame with a title, closed with Escape."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from finetui.app.registry import bindings
from finetui.app.screens.letters import is_free_letter
from finetui.app.widgets.footer import Footer

Answer = TypeVar("Answer")


class Pane(ModalScreen[Answer | None], Generic[Answer]):
    """Something to be read or answered before one goes on; None is the answer of Escape."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("room")
    DEFAULT_CSS = """
    Pane { align: center middle; background: $background 60%; }
    Pane:ansi { background: transparent; }
    Pane > #pane { width: 76; max-width: 96%; height: auto; max-height: 90%; border: round $primary; padding: 0 1;
        background: $surface; }
    """

    def compose(self) -> ComposeResult:
        """The frame around what is in it, and the keys."""
        with Vertical(id="pane") as frame:
            frame.border_title = Content(self.heading())
            yield from self.inside()
        yield Footer(id="keys")

    def heading(self) -> str:
        """What the frame is called."""
        raise NotImplementedError

    def inside(self) -> ComposeResult:
        """What is in the frame."""
        raise NotImplementedError

    def on_key(self, event: events.Key) -> None:
        """No letter does anything to what is behind: `q` does not quit."""
        if is_free_letter(self, event):
            event.stop()

    def action_back(self) -> None:
        """Close it without an answer."""
        self.dismiss(None)
