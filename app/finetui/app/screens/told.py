"""A text to be read, in a frame."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from finetui.app.registry import bindings
from finetui.app.screens.pane import Pane


class Told(Pane[None]):
    """A heading and a text; Escape or Enter closes it."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("told")

    DEFAULT_CSS = "Told #text { height: auto; max-height: 100%; }"

    def __init__(self, heading: str, text: str) -> None:
        super().__init__()
        self._heading = heading
        self._text = text

    def heading(self) -> str:
        """What the frame is called."""
        return self._heading

    def inside(self) -> ComposeResult:
        """The text."""
        with VerticalScroll(id="text"):
            yield Static(self._text, markup=False)
