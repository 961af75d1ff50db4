"""What a file is made of, by its content: JSON array, one object, JSON Lines, or objects one after another."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from finetui.core.errors import FinetuiError, Problem
from finetui.data.parsing import Repaired, load
from finetui.data.splitter import LONGEST_ROW, Row, Splitter
from finetui.data.streams import opened

ARRAY, OBJECT, LINES, OBJECTS = "json-array", "json-object", "jsonl", "json-objects"
HEAD_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_FOREIGN = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),
    (b"PK\x03\x04", "ZIP"),
    (b"%PDF", "PDF"),
    (b"SQLite format 3\0", "SQLite"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x89PNG", "PNG"),
    (b"GGUF", "GGUF"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x04", "pickle"),
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FEW_LINES = 50
_BLANK = object()
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True)
class DataFile:
    """One source file and how its bytes are to be read."""

    path: Path
    name: str
    """The file as the user named it."""
    container: str
    compression: str | None
    encoding: str
    bytes: int
    """Size on disk."""

    @property
    def start(self) -> int:
        """Bytes of the byte order mark before the data."""
        return len(_BOM) if self.encoding == "utf-8-sig" else 0


def identify(path: Path, name: str) -> DataFile:
    """Find out what a file is made of from its first `HEAD_BYTES`.

    Raises FinetuiError where it cannot be read, is empty, or holds nothing that is JSON in UTF-8.
    """
    with opened(path, name) as source:
        head = source.stream.read(HEAD_BYTES)
        whole = len(head) < HEAD_BYTES
        size, compression = source.size, source.compression
    problem = _refuse(head, name)
    if problem:
        raise FinetuiError(problem)
    marked = head.startswith(_BOM)
    container = _container(head[3:] if marked else head, whole)
    if container is None:
        raise FinetuiError(Problem("data.not-json", {}, name, 1))
    return DataFile(path, name, container, compression, "utf-8-sig" if marked else "utf-8", size)


def rows(file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """Every row of an open file, blank lines left out.

    Raises FinetuiError where the file ends inside a value that spans lines.
    """
    stream.read(file.start)
    return rows_of(file.container, file.name, stream, file.start)


def rows_of(container: str, name: str, stream: IO[bytes], start: int = 0) -> Iterator[Row]:
    """The rows of a stream in `container`, counting bytes from `start`."""
    if container == LINES:
        return _lines(stream, start)
    return Splitter(stream, name, array=container == ARRAY, start=start).rows()


def _lines(stream: IO[bytes], start: int) -> Iterator[Row]:
    byte, line, loads = start, 0, orjson.loads
    while raw := stream.readline(LONGEST_ROW):
        line += 1
        try:
            value = loads(raw)
        except orjson.JSONDecodeError:
            value = _BLANK if raw.isspace() else load(raw)
        if value is not _BLANK:
            yield value, raw, line, byte
        byte += len(raw)


def _refuse(head: bytes, name: str) -> Problem | None:
    """What keeps a file from being read as JSON in UTF-8, from its head alone."""
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        return Problem("data.empty-file", {}, name)
    for magic, kind in _FOREIGN:
        if head.startswith(magic):
            return Problem("data.foreign-container", {"kind": kind}, name)
    if head.startswith(_UTF16):
        return Problem("data.utf16", {}, name, 1)
    if _is_noise(head):
        return Problem("data.binary", {}, name)
    return _foreign_encoding(head, name)


def _is_noise(head: bytes) -> bool:
    return b"\0" in head[:4096] or len(_CONTROL.findall(head[:4096])) > len(head[:4096]) / 20


def _foreign_encoding(head: bytes, name: str) -> Problem | None:
    """A file of which many lines are not UTF-8 and none beyond ASCII is; a few such lines are row problems."""
    if head.isascii():
        return None
    lines = head.splitlines(keepends=True)
    first, bad, byte = (0, 0), 0, 0
    for number, line in enumerate(lines, 1):
        if not line.isascii():
            try:
                line.decode()
                return None
            except UnicodeDecodeError as error:
                if len(lines) > 1 and byte + len(line) == HEAD_BYTES:
                    break  # the head may end inside a character
                first = first if bad else (number, byte + error.start)
                bad += 1
        byte += len(line)
    return Problem("data.not-utf8", {"byte": first[1]}, name, first[0]) if 4 * bad >= len(lines) else None


def _container(head: bytes, whole: bool) -> str | None:
    text = head.lstrip()
    if b"\n" not in text.rstrip() and b"\r" in text.rstrip():
        return _spanning(text, whole) if text[:1] in (b"[", b"{") else None  # lines that only carriage returns end
    lines = [line for line in text.splitlines() if line.strip()] if whole else text.splitlines()[:-1] or [text]
    lines = [line for line in lines[: 4 * _FEW_LINES] if line.strip()][:_FEW_LINES]
    first = load(lines[0])
    if _is_row(first):
        if text[:1] == b"[" and len(lines) == 1 and not _is_chat(first):
            return ARRAY
        return OBJECT if text[:1] == b"{" and len(lines) == 1 and whole else LINES
    good = sum(_is_row(load(line)) for line in lines if line.lstrip()[:1] in (b"{", b"["))
    if text[:1] not in b"{[" or 2 * good > len(lines):
        return LINES if good else None
    return _spanning(text, whole)


def _spanning(text: bytes, whole: bool) -> str:
    """The container of JSON whose values span lines, or begin like that and are broken."""
    values = _first_values(text)
    if text[:1] == b"[":
        return OBJECTS if values and _is_chat(values[0]) else ARRAY
    return OBJECT if whole and len(values) == 1 else OBJECTS


def _first_values(text: bytes) -> list[Any]:
    values: list[Any] = []
    try:
        for value, *_ in Splitter(io.BytesIO(text), "", array=False).rows():
            values.append(value)
            if len(values) == 2:
                break
    except FinetuiError:
        pass  # the head may end inside a value; the full pass says whether the file does
    return values


def _is_row(value: Any) -> bool:
    return isinstance(value.value if isinstance(value, Repaired) else value, (dict, list))


def _is_chat(value: Any) -> bool:
    """Whether a list is one conversation rather than a list of rows."""
    return isinstance(value, list) and bool(value) and all(_is_message(item) for item in value)


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item and ("content" in item or "tool_calls" in item)
