"""A line that one types in; Enter takes it."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import BindingType
from textual.widgets import Input

from finetui.app.registry import bindings


class Line(Input):
    """An Input as low as its text, whose Enter the footer tells."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("line")
    DEFAULT_CSS = """
    Line { height: 1; border: none; padding: 0 1; background: $surface; }
    Line:focus { border: none; }
    Pane Line { background: $panel; }
    """
