"""The last look at every line before it reaches the terminal: nothing in it that a terminal would obey, and where the
locale is not UTF-8 nothing beyond ASCII.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from finetui.core.text import safe_text

_SIGNS = {
    **dict.fromkeys("━═▅▆", "="),
    **dict.fromkeys("─╌┄┈—–‐‑▔▀▃▄", "-"),
    **dict.fromkeys("█▇▓", "#"),
    **dict.fromkeys("│┃║▎▏▕▌▐▋▊▍▉", "|"),
    "▁": "_",
    "▂": ".",
    "░": ".",
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋", "+"),
    **dict.fromkeys("·•∙", "."),
    **dict.fromkeys("★✓●◆■▪", "*"),
    **dict.fromkeys("○◇□▫", "o"),
    **dict.fromkeys("▸▶→❯›", ">"),
    **dict.fromkeys("◂◀←‹", "<"),
    **dict.fromkeys("▲↑▴", "^"),
    **dict.fromkeys("▼↓▾", "v"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("‘’", "'"),
    "…": "~",
    "×": "x",
    "✗": "x",
    "≤": "<",
    "≥": ">",
    "°": " ",
    "\u00a0": " ",
}
"""An ASCII sign for each of ours, of the same width."""


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


def in_ascii(text: str) -> str:
    """The text in ASCII: letters without accents, signs by ones that resemble them, `?` for each other cell."""
    return "".join(map(_ascii_of, text))


@lru_cache(4096)
def _ascii_of(character: str) -> str:
    if character.isascii():
        return character
    if sign := _SIGNS.get(character):
        return sign
    width = cell_len(character)
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if len(plain) == width and plain.isprintable() else "?" * width


def _flat(text: str) -> str:
    return safe_text(text).replace("\n", " ").replace("\t", " ")
