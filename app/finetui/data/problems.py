"""What can be wrong with a row, and the tally of it over a whole input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line

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

_ESCAPE = re.compile(rb"\\[ubf]")
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:u00|[bf])|\x7f|\xc2[\x80-\x9f]")
_PLACEHOLDER = re.compile(rb"\{\{\s*[A-Za-z_][\w .-]{0,40}\}\}")
_IMAGE_TAG = re.compile(rb"<img>[^<]{1,4096}</img>")
# UTF-8 read as Latin-1 or Windows-1252 and written as UTF-8 again: Ã©, â€™, ï¼Œ, ã€‚ and their like.
_DECODED_TWICE = re.compile(
    rb"\xc3\x83\xc2[\x80-\xbf]|\xc3\xa2(?:\xe2\x82\xac|\xc2\x80)|\xc3\xaf\xc2\xbc|\xc3\xa3\xe2\x82\xac"
)
_REPLACEMENT, _GBK_SIGN = "\ufffd", "锟"
_REPLACED, _REPLACED_GBK = re.compile(_REPLACEMENT.encode()), re.compile("锟斤拷".encode())


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
        """The sentence in the language in force, or in `lang`; a fact that is a sentence itself is worded too."""
        worded = {key: fact.text(lang) if isinstance(fact, Saying) else fact for key, fact in self.facts.items()}
        return t(self.code, lang, **worded)


class Place(NamedTuple):
    """Where a row stands: its file, its number and line from 1, and its first byte in the decompressed stream."""

    file: str
    row: int
    line: int | None
    byte: int | None

    def to_json(self) -> dict[str, Any]:
        """The place as `--json` prints it."""
        return {"file": one_line(self.file, PATH_LIMIT), "row": self.row, "line": self.line, "byte": self.byte}


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

    def add_many(self, code: str, count: int, examples: Sequence[tuple[Place, str]]) -> None:
        """Count so many more occurrences, of which `examples` are the first."""
        if count:
            self.counts[code] = self.counts.get(code, 0) + count
            shown = self.examples.setdefault(code, [])
            shown += examples[: EXAMPLES - len(shown)]

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


def are_plain(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether messages are text alone, without a brace or a sign that stands for what could not be decoded.

    A search for one character of a text is many times faster than any other, and than one for several bytes.
    """
    for message in messages:
        text = message.get("content")
        if len(message) != 2 or text is None or "{" in text:
            return False
        if not text.isascii() and (_REPLACEMENT in text or _GBK_SIGN in text):
            return False
    return True


def are_clean(bodies: bytes) -> bool:
    """Whether many records, serialised by orjson, hold nothing that `text_notes` looks for, beyond what is plain."""
    suspect = b"<" in bodies or b"\x7f" in bodies or b"\xc2" in bodies or b"\xc3" in bodies
    return not suspect and _ESCAPE.search(bodies) is None


def unfit(value: Any, where: str) -> RowProblem:
    """The problem of a value that is null, or of another type than its layout has."""
    return RowProblem("null-content" if value is None else "wrong-type", f"{where}: {excerpt(value)}")


def text_notes(body: bytes, clean: bool, plain: bool) -> list[Note]:
    """What is suspicious in the texts of a record, found in its serialised form (orjson's escapes).

    `clean` is what `are_clean` says of it, `plain` what `are_plain` says of its messages where it holds nothing else.

    Raises RowProblem `multimodal` for an image tag of Qwen-VL.
    """
    found: list[Note] = []
    wrong: re.Match[bytes] | None = None
    if not clean:
        if b"<" in body and (tag := _IMAGE_TAG.search(body)):
            raise RowProblem("multimodal", _shown(body, tag))
        suspect = (b"\\" in body and _ESCAPE.search(body)) or b"\x7f" in body or b"\xc2" in body
        if suspect and (control := _CONTROL.search(body)):
            found.append(("control-characters", _shown(body, control)))
        wrong = _DECODED_TWICE.search(body) if b"\xc3" in body else None
    if not plain:
        if placeholder := _PLACEHOLDER.search(body):
            found.append(("placeholder", _shown(body, placeholder)))
        if not (wrong or body.isascii()):
            wrong = _REPLACED.search(body) or _REPLACED_GBK.search(body)
    if wrong:
        found.append(("mojibake", _shown(body, wrong)))
    return found


def _shown(body: bytes, found: re.Match[bytes]) -> str:
    return excerpt(body[found.start() : found.start() + 60].decode("utf-8", "ignore"))
