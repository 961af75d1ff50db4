"""Which encoding a file's text is in, by its bytes, and the same text as UTF-8 with line feeds."""

from __future__ import annotations

import codecs
import io
import re
from typing import IO, NamedTuple, cast

from finetui.data.files.streams import BLOCK

UTF8, UTF8_BOM, UTF16_LE, UTF16_BE, GB18030 = "utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "gb18030"
_MARKS = (
    (b"\xef\xbb\xbf", UTF8_BOM),
    (b"\xff\xfe", UTF16_LE),
    (b"\xfe\xff", UTF16_BE),
    (b"\x84\x31\x95\x33", GB18030),
)
_MARKED = "finetui-marked"
_UNREADABLE = "\udcff"
"""Stands for a sequence that cannot be decoded; written as the byte FF, so that its row is reported as `encoding`."""
codecs.register_error(_MARKED, lambda error: (_UNREADABLE, cast(UnicodeDecodeError, error).end))

_COMMON = frozenset(
    "，。、：；？！“”（）《》的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
    "三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正"
    "心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边"
    "请以下回答写出给什"
)
_FEW = 20
_IN_USE = re.compile(
    r"[\t\r\n -~\u00a0-\u06ff\u0900-\u0e7f\u1e00-\u206f\u2200-\u22ff\u2500-\u25ff"
    r"\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef]"
)
"""Characters of the scripts and signs that are in everyday use."""


class Encoding(NamedTuple):
    """How a file's bytes are text."""

    name: str
    start: int
    """Bytes of the byte order mark before the text."""
    carriage: bool
    """Whether lines end in carriage returns alone."""


PLAIN = Encoding(UTF8, 0, False)


def recognise(head: bytes, whole: bool) -> Encoding | None:
    """The encoding of a file by its first bytes, or None where it is none that is read.

    A few sequences that are broken do not count: their rows are reported in the full pass.
    """
    name, start = next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), (_unmarked(head), 0))
    if name is None:
        return None
    text = decoded(head[start:], name, whole)
    return Encoding(name, start, b"\r" in text and b"\n" not in text.rstrip())


def decoded(data: bytes, name: str, whole: bool = False) -> bytes:
    """Text in `name` as UTF-8; where `whole` is False, a character that the data ends in is left out."""
    if name in (UTF8, UTF8_BOM):
        return data
    text = codecs.getincrementaldecoder(name)(_MARKED).decode(data, final=whole)
    return text.encode("utf-8", "surrogateescape")


def as_utf8(stream: IO[bytes], encoding: Encoding) -> IO[bytes]:
    """The text of a stream after its byte order mark, in UTF-8, with line feeds."""
    stream.read(encoding.start)
    if encoding.name not in (UTF8, UTF8_BOM):
        stream = io.BufferedReader(_Decoded(stream, encoding.name), BLOCK)
    return io.BufferedReader(_LineFeeds(stream), BLOCK) if encoding.carriage else stream


class _Decoded(io.RawIOBase):
    """A byte stream read in one encoding and given in UTF-8."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder(name)(_MARKED)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = b"more"
        while data and not self._ready:
            data = self._source.read(BLOCK)
            text = self._decoder.decode(data, final=not data)
            self._ready = memoryview(text.encode("utf-8", "surrogateescape"))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


class _LineFeeds(io.RawIOBase):
    """A byte stream whose carriage returns are given as line feeds, so that every byte keeps its place."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


def _unmarked(head: bytes) -> str | None:
    zeros, odd = head.count(0), head[1::2].count(0)
    if zeros * 5 >= len(head) and not zeros < 20 * odd < 19 * zeros:
        return UTF16_LE if 2 * odd > zeros else UTF16_BE
    if _is_utf8(head):
        return UTF8
    text = head.decode("utf-8", "replace")
    broken = text.count("\ufffd") - head.count(b"\xef\xbf\xbd")
    if broken <= sum(character > "\x7f" for character in text) - text.count("\ufffd"):
        return UTF8
    if zeros and (utf16 := next(filter(lambda name: _is_clean(head, name), (UTF16_LE, UTF16_BE)), None)):
        return utf16
    if _is_chinese(head):
        return GB18030
    lines = head.splitlines()
    return UTF8 if 4 * sum(not line.isascii() for line in lines) < len(lines) else None


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder(UTF8)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _is_clean(head: bytes, name: str) -> bool:
    """Whether nearly all of the bytes are characters of the scripts in use, read in `name`."""
    text = codecs.getincrementaldecoder(name)(_MARKED).decode(head)
    return len(_IN_USE.findall(text)) * 20 >= len(text) * 19


def _is_chinese(head: bytes) -> bool:
    """Whether the bytes are GB18030 rather than one of the encodings that it decodes by accident.

    Over half of any Chinese text is in `_COMMON`, and of text misread at most a twelfth; a text of few characters is
    believed where GB 2312 has nearly all of them among its signs and common characters.
    """
    text = codecs.getincrementaldecoder(GB18030)(_MARKED).decode(head)
    foreign = [character for character in text if character > "\x7f"]
    if len(foreign) < _FEW:
        return 20 * sum(map(_is_usual, foreign)) >= 19 * len(foreign)
    return 50 * text.count(_UNREADABLE) <= len(foreign) <= 8 * sum(character in _COMMON for character in foreign)


def _is_usual(character: str) -> bool:
    lead = character.encode("gb2312", "ignore")[:1]
    return b"\xa1" <= lead <= b"\xa3" or b"\xb0" <= lead <= b"\xd7"
