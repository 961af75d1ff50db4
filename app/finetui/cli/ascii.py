"""What a terminal shows whose locale is not UTF-8: the same words, in ASCII."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from rich.cells import cell_len

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


def locale_is_utf8(environment: Mapping[str, str], *, utf8_mode: bool) -> bool:
    """Whether the locale that this process was started in writes UTF-8.

    Python itself sets LC_CTYPE where it finds the C locale, and is in its UTF-8 mode then: that says nothing.
    """
    lc_all, lc_ctype = environment.get("LC_ALL"), environment.get("LC_CTYPE")
    if utf8_mode and "PYTHONUTF8" not in environment and lc_ctype == "C.UTF-8":
        lc_ctype = None
    name = lc_all or lc_ctype or environment.get("LANG") or ""
    return "utf8" in name.lower().replace("-", "")


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
