"""What a command prints, as content of a widget: the app says it in the same words."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

if TYPE_CHECKING:
    from rich.console import Console

Draw = Callable[["Console"], None]
_LEAST = 40


def printed(draw: Draw, width: int) -> Content:
    """All that `draw` prints on a console of so many cells; it has made foreign text harmless, as commands do."""
    from rich.console import Console
    from rich.text import Text

    paper = io.StringIO()
    console = Console(
        file=paper,
        width=max(_LEAST, width),
        force_terminal=True,
        color_system="standard",
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    draw(console)
    return Content.from_rich_text(Text.from_ansi(paper.getvalue()))


class Printed(Static):
    """What a command would print, drawn anew where the width changes."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._draw: Draw | None = None
        self._width = 0

    def show(self, draw: Draw | None) -> None:
        """Print this in place of what is there."""
        self._draw = draw
        self._print()

    def on_resize(self) -> None:
        """Fold at the width that there is now."""
        if self.size.width != self._width:
            self._print()

    def _print(self) -> None:
        self._width = self.size.width
        width = self.size.width or self.app.size.width - 4
        self.update(printed(self._draw, width) if self._draw else "")
