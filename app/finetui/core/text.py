"""Foreign text made harmless for a terminal.

Dataset cells, model output, file names and logs may hold control codes that move the cursor, write the clipboard or
hide text. `safe_text` is applied where such text is about to be shown; data that is trained on is never changed.
"""

from __future__ import annotations

import re
import unicodedata

PATH_LIMIT = 4096
"""Characters of a path that are shown where it may not be shortened."""

# ECMA-48 sequences: strings (OSC, DCS, SOS, PM, APC) up to their terminator, CSI, and two-character escapes.
_SEQUENCE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
_LINE_BREAKS = re.compile("\r\n|[\r\x85\u2028\u2029]")
_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_VARIATION_SELECTORS = range(0xE0100, 0xE01F0)


def safe_text(text: str, limit: int | None = None) -> str:
    """`text` with nothing left in it that a terminal would obey or hide.

    Control sequences are dropped; other C0 codes become control pictures (tab and newline stay), C1 codes, surrogates
    and direction marks U+FFFD; invisible and tag characters are dropped; NEL, LS, PS and CR become newlines. Joiners
    and variation selectors stay, since emoji and several scripts need them. Cut to `limit` characters, with `…`.
    """
    if limit is not None and len(text) > 4 * limit + 64:
        text = text[: 4 * limit + 64]
    if not text.isprintable():
        text = _SEQUENCE.sub("", text)
        text = _LINE_BREAKS.sub("\n", text)
        text = _SUSPECT.sub(lambda match: _harmless(match[0]), text)
    if limit is not None and len(text) > limit:
        return text[: max(0, limit - 1)] + "…"
    return text


def one_line(text: str, limit: int = 200) -> str:
    """`safe_text` on a single line: newlines and tabs shown as signs."""
    return safe_text(text, limit).replace("\n", "⏎").replace("\t", "→")


def _harmless(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code < 0xA0 or character in _BIDI or unicodedata.category(character) == "Cs":
        return "�"
    return character if code in _VARIATION_SELECTORS else ""
