"""The last look at every line before it reaches the terminal: nothing in it that a terminal would obey, and where the
locale is not UTF-8 nothing beyond ASCII.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from finetui.cli.ascii import in_ascii
from finetui.core.text import safe_text


class Harmless(LineFilter):
    """Takes from every text what a terminal would obey: a net under `safe_text` at the edges."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The line without it."""
        return [
            segment if segment.control or segment.text.isprintable() else segment._replace(text=_flat(segment.text))
            for segment in segments
        ]


class Ascii(LineFilter):
    """Writes every text in ASCII, in as many cells."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The line in ASCII."""
        return [
            segment if segment.control or segment.text.isascii() else segment._replace(text=in_ascii(segment.text))
            for segment in segments
        ]


def _flat(text: str) -> str:
    return safe_text(text).replace("\n", " ").replace("\t", " ")
