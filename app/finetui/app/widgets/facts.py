"""Facts with their labels: two columns, the second folded where it is long; and bars for shares."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from finetui.app.themes import MUTED
from finetui.app.widgets.lines import Lines

Row = tuple[str, str, str]
"""A label, a text, and a style; all of it safe to be drawn."""
_STYLES = {"yellow": "$warning", "bold": "bold", "": ""}
"""Styles as the command line has them, in the colours of the theme."""


class Facts(Lines):
    """Rows of facts."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[Row] = ()

    def tell(self, rows: Sequence[Row]) -> None:
        """Put these in place of those that are there."""
        self._rows = rows
        self.show(laid_out(rows, self.size.width or self.app.size.width))

    def on_resize(self) -> None:
        """Fold at the width that there is now."""
        self.tell(self._rows)


def laid_out(rows: Sequence[Row], width: int) -> list[Content]:
    """The rows as lines of at most so many cells."""
    left = max((cell_len(label) for label, _, _ in rows), default=0) + 2
    lines = []
    for label, text, style in rows:
        pieces = Content(text).wrap(max(8, width - left - 1)) or [Content("")]
        for place, piece in enumerate(pieces):
            shown = label if place == 0 else ""
            padding = " " * (left - cell_len(shown))
            said = piece.stylize(_STYLES.get(style, style)) if style else piece
            lines.append(Content.assemble(" ", (shown, MUTED), padding, said))
    return lines


def bar(share: float, width: int) -> str:
    """A share from 0 to 1 as a bar."""
    filled = round(width * min(1.0, max(0.0, share)))
    return "█" * filled + "░" * (width - filled)
