"""What can be wrong with a row, and the tally of it over a whole input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetui.core.messages import t
from finetui.core.text import one_line

SET_ASIDE = frozenset(
    {"unparsable", "not-an-object", "encoding", "missing-key", "wrong-type", "null-content", "unknown-role"}
    | {"empty-user", "empty-assistant", "no-assistant", "bad-tool-json", "multimodal"}
)
"""Codes that keep a row out of what is trained; every other code is only reported."""
REPAIRED = "repaired"
"""The note of a converter that mended a row without guessing; counted, not a problem."""
EXAMPLES = 3
_DETAIL = 120

Note = tuple[str, str]
"""A reported code and where in the row it holds."""

_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:u00(?:[01][0-9a-f]|7f)|[bf])|\x7f|\xc2[\x80-\x9f]")
_PLACEHOLDER = re.compile(rb"\{\{\s*[A-Za-z_][\w .-]{0,40}\}\}")
_IMAGE_TAG = re.compile(rb"<img>[^<]{1,4096}</img>")
_MOJIBAKE = tuple(signs.encode() for signs in ("\ufffd", "锟斤拷", "â€", "Ã©", "Ã¨", "ï¼", "ã€"))


class RowProblem(Exception):
    """Why one row is set aside: a code of `SET_ASIDE`, and where in the row with what stands there."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


@dataclass(frozen=True)
class Saying:
    """A sentence of the message table with its facts, worded only when it is shown."""

    code: str
    facts: Mapping[str, object] = field(default_factory=dict)

    def text(self, lang: str | None = None) -> str:
        """The sentence in the language in force, or in `lang`."""
        return t(self.code, lang, **self.facts)


@dataclass(frozen=True)
class Place:
    """Where a row stands: its file, its number and line from 1, and its first byte in the decompressed stream."""

    file: str
    row: int
    line: int | None
    byte: int | None

    def to_json(self) -> dict[str, Any]:
        """The place as `--json` prints it."""
        return {"file": self.file, "row": self.row, "line": self.line, "byte": self.byte}


@dataclass
class Tally:
    """How often each code was met, with the first few examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[tuple[Place, str]]] = field(default_factory=dict)

    def add(self, code: str, detail: str, place: Place) -> None:
        """Count one occurrence."""
        self.counts[code] = self.counts.get(code, 0) + 1
        shown = self.examples.setdefault(code, [])
        if len(shown) < EXAMPLES:
            shown.append((place, detail))

    def to_json(self) -> list[dict[str, Any]]:
        """The problems as `--json` prints them: what sets rows aside first, the most frequent first."""
        order = sorted(self.counts, key=lambda code: (code not in SET_ASIDE, -self.counts[code], code))
        return [
            {
                "code": code,
                "count": self.counts[code],
                "examples": [{**place.to_json(), "detail": detail} for place, detail in self.examples[code]],
            }
            for code in order
        ]


def excerpt(value: object) -> str:
    """A foreign value on one harmless line, cut short."""
    return one_line(value if isinstance(value, str) else repr(value)[:_DETAIL], _DETAIL)


def text_notes(body: bytes) -> Iterable[Note]:
    """What is suspicious in the texts of a record, found in its serialised form (orjson's escapes).

    Raises RowProblem `multimodal` for an image tag of Qwen-VL.
    """
    if b"<img>" in body and (found := _IMAGE_TAG.search(body)):
        raise RowProblem("multimodal", excerpt(found[0].decode("utf-8", "replace")))
    if b"{{" in body and (found := _PLACEHOLDER.search(body)):
        yield "placeholder", excerpt(found[0].decode("utf-8", "replace"))
    if b"\\u00" in body or b"\\b" in body or b"\\f" in body or b"\x7f" in body or b"\xc2" in body:
        found = _CONTROL.search(body)
        if found:
            yield "control-characters", excerpt(body[found.start() : found.start() + 60].decode("utf-8", "replace"))
    for signs in _MOJIBAKE:
        if signs in body:
            at = body.index(signs)
            yield "mojibake", excerpt(body[at : at + 60].decode("utf-8", "replace"))
            break
