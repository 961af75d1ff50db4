"""Lines of text that are drawn anew one by one: only those that have changed cost anything on a slow line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

Line = Content | str
"""A line, plain or with styles; foreign text in it has been through `safe_text`."""


class Lines(Widget):
    """Lines that are cut at the edge; the widget is as high as they are, unless its style says otherwise."""

    DEFAULT_CSS = "Lines { height: auto; width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self, lines: Sequence[Line] = (), *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines = _as_content(lines)

    def show(self, lines: Sequence[Line]) -> None:
        """Put these in place of those that are there."""
        before, self._lines = self._lines, _as_content(lines)
        if len(before) != len(self._lines):
            self.refresh(layout=True)
            return
        changed = [row for row, line in enumerate(self._lines) if not line.is_same(before[row])]
        if changed:
            self.refresh(*(Region(0, row, self.size.width, 1) for row in changed))

    @property
    def link_style(self) -> Style:
        """What can be clicked looks as its own style says, not underlined."""
        return Style.null()

    def render(self) -> Content:
        """All lines."""
        return Content("\n").join(self._lines)


def _as_content(lines: Sequence[Line]) -> list[Content]:
    return [line if isinstance(line, Content) else Content(line) for line in lines]
