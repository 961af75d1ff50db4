"""What a file is made of, by its content alone, and the rows that it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from finetui.core.errors import FinetuiError, Problem
from finetui.data.files import columnar
from finetui.data.files.delimited import Table, recognise, table_rows
from finetui.data.files.encodings import GB18030, PLAIN, UTF8, UTF8_BOM, UTF16_BE, UTF16_LE, Encoding, as_utf8, decoded
from finetui.data.files.encodings import recognise as encoding_of
from finetui.data.files.lines import json_lines, text_lines, text_paragraphs
from finetui.data.files.shapes import ARRAY, KEYED, LINES, is_scalars, json_shape
from finetui.data.files.splitter import Row, Splitter
from finetui.data.files.streams import opened
from finetui.data.problems import Saying
from finetui.data.reading import AS_DETECTED, Reading

PARQUET, ARROW, CSV, TSV, TEXT = "parquet", "arrow", "csv", "tsv", "text"
COLUMNAR = frozenset({PARQUET, ARROW})
HEAD_BYTES = 1 << 20
_COLUMNAR_MAGIC = ((b"PAR1", PARQUET), (b"ARROW1\0\0", ARROW), (b"\xff\xff\xff\xff", ARROW))
_FOREIGN = (
    (b"PARE", "encrypted Parquet"),
    (b"FEA1", "Feather V1"),
    (b"Obj\x01", "Avro"),
    (b"\x89HDF", "HDF5"),
    (b"PK\x03\x04", "ZIP or Excel"),
    (b"\xd0\xcf\x11\xe0", "Excel"),
    (b"%PDF", "PDF"),
    (b"SQLite format 3\0", "SQLite"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "RAR"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x89PNG", "PNG"),
    (b"\x93NUMPY", "NumPy"),
    (b"GGUF", "GGUF"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x04", "pickle"),
)
_TAR_MAGIC = slice(257, 262)
_BEFORE_A_PATH = re.compile(r"[.\[]")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_GUESSED = (GB18030, UTF16_LE, UTF16_BE)
_NAMED = 3
_NAMED_AS_TEXT = frozenset({"text", "content", "document"})


@dataclass(frozen=True)
class DataFile:
    """One source file and how its bytes are to be read."""

    path: Path
    name: str
    """The file as the user named it."""
    container: str
    compression: str | None
    encoding: str | None
    """None where the container holds no text of its own."""
    bytes: int
    """Size on disk."""
    text: Encoding = PLAIN
    """How the bytes become text."""
    table: Table | None = None
    """How a delimited file is read."""
    text_by: str = "line"
    """What a row of a plain text file is: `line` or `paragraph`."""

    @property
    def start(self) -> int:
        """Bytes of the byte order mark before the data."""
        return self.text.start

    @property
    def notes(self) -> list[Saying]:
        """What had to be guessed about how the file is read."""
        said: list[Saying] = []
        if self.encoding in _GUESSED and not self.start:
            said.append(Saying("containers.encoding", {"encoding": self.encoding.upper()}))
        if self.table is not None and not self.table.header:
            said.append(Saying("containers.no-header", {"columns": ", ".join(self.table.columns[:_NAMED])}))
        if self.container == TEXT:
            said.append(Saying(f"containers.by-{self.text_by}"))
        return said


def identify(path: Path, name: str, reading: Reading = AS_DETECTED) -> DataFile:
    """Find out what a file is made of from its first `HEAD_BYTES`; of `reading`, what tells text and objects apart.

    Raises FinetuiError where it cannot be read, is empty, or is neither text nor a container that is read.
    """
    with opened(path, name) as source:
        head = source.stream.read(HEAD_BYTES)
        whole = len(head) < HEAD_BYTES
        size, compression = source.size, source.compression
    for magic, container in _COLUMNAR_MAGIC:
        if head.startswith(magic):
            return DataFile(path, name, container, compression, None, size)
    encoding = encoding_of(head, whole)
    if problem := _refusal(head, encoding, name):
        raise FinetuiError(problem)
    assert encoding is not None
    text = decoded(head[encoding.start :], encoding.name, whole)
    if encoding.carriage:
        text = text.replace(b"\r", b"\n")
    if not text.strip():
        raise FinetuiError(Problem("data.empty-file", {}, name))
    container, table = _container(text, whole, reading)
    if container in (TEXT, CSV, TSV) and _is_noise(text):
        raise FinetuiError(Problem("data.binary", {}, name))
    return DataFile(path, name, container, compression, encoding.name, size, encoding, table, reading.text_by)


def rows(file: DataFile, stream: IO[bytes]) -> Iterator[Row]:
    """Every row of an open file, blank lines left out; without byte offsets where the text is not UTF-8 in the file.

    Raises FinetuiError where the file ends inside a value that spans lines, or where a columnar file is broken.
    """
    if file.container in COLUMNAR:
        return columnar.rows(file.path, file.name, stream if file.compression else None)
    found = rows_of(file, as_utf8(stream, file.text), file.start)
    if file.encoding in (UTF8, UTF8_BOM):
        return found
    return ((value, raw, line, None) for value, raw, line, _ in found)


def rows_of(file: DataFile, stream: IO[bytes], start: int = 0, *, headed: bool = True) -> Iterator[Row]:
    """The rows of text in UTF-8 that is made as `file` is, counting bytes from `start`; `headed` if it is its head."""
    if file.container == LINES:
        return json_lines(stream, start)
    if file.container == TEXT:
        return (text_lines if file.text_by == "line" else text_paragraphs)(stream, start)
    if file.table is not None:
        return table_rows(stream, file.table, headed=headed, start=start)
    splitter = Splitter(stream, file.name, array=file.container == ARRAY, start=start)
    return _with_keys(splitter) if file.container == KEYED else splitter.rows()


def _with_keys(splitter: Splitter) -> Iterator[Row]:
    """The values of an object; an object among them gets its key as `id`, unless it has one."""
    for key, (value, raw, line, byte) in splitter.entries():
        yield {"id": key, **value} if key is not None and type(value) is dict else value, raw, line, byte


def _container(text: bytes, whole: bool, reading: Reading) -> tuple[str, Table | None]:
    if shape := json_shape(text, whole, [_BEFORE_A_PATH.split(column)[0] for column in reading.mapping.values()]):
        return shape, None
    table = recognise(text, whole)
    if table is not None and (reading.format != "text" or not _NAMED_AS_TEXT.isdisjoint(table.columns)):
        return TSV if table.delimiter == "\t" else CSV, table
    return LINES if is_scalars(text, whole) else TEXT, None


def _refusal(head: bytes, encoding: Encoding | None, name: str) -> Problem | None:
    """What keeps a file from being read as text, from its head alone."""
    if not head:
        return Problem("data.empty-file", {}, name)
    kind = next((kind for magic, kind in _FOREIGN if head.startswith(magic)), None)
    if kind or head[_TAR_MAGIC] == b"ustar":
        return Problem("data.foreign-container", {"kind": kind or "tar"}, name)
    if encoding is None and _is_noise(head):
        return Problem("data.binary", {}, name)
    return Problem("data.not-utf8", {}, name) if encoding is None else None


def _is_noise(head: bytes) -> bool:
    return len(_CONTROL.findall(head[:4096])) > len(head[:4096]) / 20
