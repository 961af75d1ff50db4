"""Parquet and Arrow files, read a few rows at a time whatever the size of their row groups and batches."""

from __future__ import annotations

import mmap
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from finetui.core.errors import FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.files.cells import batch_rows
from finetui.data.files.splitter import Row
from finetui.data.files.streams import BLOCK

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_PARQUET, _ARROW_FILE = b"PAR1", b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_BATCH_ROWS = 1024
_BATCH_BYTES = 4 << 20
_BUFFER = 1 << 16
_DETAIL = 160

Span = tuple[int, int]
"""A run of rows: the number of the first from 0, and how many."""


def rows(path: Path, name: str, stream: IO[bytes] | None = None) -> Iterator[Row]:
    """Every row of a columnar file in order; `stream` gives its bytes where the file is compressed as a whole.

    Raises FinetuiError where it is cut short or broken.
    """
    with _unpacked(path, stream) as plain, _told(name):
        for batch in _parquet_batches(_parquet(plain)) if _is_parquet(plain) else _arrow_batches(plain):
            yield from batch_rows(batch)


def sample(path: Path, name: str, stream: IO[bytes] | None, count: int, spans: int, length: int) -> list[Any]:
    """Values of at most about `count` rows: all, or the head, the tail and `spans` runs of `length` between.

    Of row groups without number only the first pages are read; a few large ones are read through, since pages cannot be
    skipped. Raises FinetuiError as `rows`.
    """
    with _unpacked(path, stream) as plain, _told(name):
        if _is_parquet(plain):
            file = _parquet(plain)
            total = file.metadata.num_rows
            found = _parquet_spans(file, _spread(total, count, spans, length))
        else:
            total = sum(batch.num_rows for batch in _arrow_whole(plain))
            found = _arrow_spans(_arrow_whole(plain), _spread(total, count, spans, length))
        return [value for batch in found for value, *_ in batch_rows(batch)]


def _spread(total: int, count: int, spans: int, length: int) -> list[Span]:
    """Which rows of `total` to look at, in order and none twice."""
    if total <= count:
        return [(0, total)]
    head = count - spans * length
    step = (total - head) / spans
    chance = random.Random(total)
    starts = [head + int(step * place) for place in range(spans)]
    inner = [start + chance.randrange(max(1, int(step) - length)) for start in starts[:-1]]
    return [(0, head), *((start, length) for start in inner), (total - length, length)]


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _PARQUET


def _parquet(path: Path) -> ParquetFile:
    from pyarrow import parquet

    return parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)


def _parquet_batches(file: ParquetFile, groups: list[int] | None = None) -> Iterator[RecordBatch]:
    known = file.metadata
    bytes_ = sum(known.row_group(number).total_byte_size for number in range(known.num_row_groups))
    size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * known.num_rows // max(1, bytes_)))
    yield from file.iter_batches(size, row_groups=groups, use_threads=False)


def _parquet_spans(file: ParquetFile, spans: Sequence[Span]) -> Iterator[RecordBatch]:
    groups = range(file.metadata.num_row_groups)
    ends = list(accumulate(file.metadata.row_group(number).num_rows for number in groups))
    for number, end in zip(groups, ends, strict=True):
        begin = ends[number - 1] if number else 0
        wanted = [(start - begin, length) for start, length in spans if begin <= start < end]
        if len(groups) > len(spans):
            wanted = [(0, length) for _, length in wanted[:1]]
        at = 0
        for batch in _parquet_batches(file, [number]) if wanted else ():
            for start, length in wanted:
                if at - length < start < at + batch.num_rows:
                    yield batch.slice(max(0, start - at), start + length - max(at, start))
            at += batch.num_rows
            if at >= sum(wanted[-1]):
                break


def _arrow_whole(path: Path) -> Iterator[RecordBatch]:
    """The batches of an Arrow file or stream as they are, in memory that the file backs and that is given back."""
    from pyarrow import ArrowInvalid, BufferReader, ipc, py_buffer

    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    source = BufferReader(py_buffer(mapped))
    if mapped[: len(_ARROW_FILE)] == _ARROW_FILE:
        reader = ipc.open_file(source)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        reader = batches = ipc.open_stream(source)
    for batch in batches:
        yield batch
        mapped.madvise(mmap.MADV_DONTNEED)
    if batches is reader and mapped[source.tell() - len(_END_OF_STREAM) : source.tell()] != _END_OF_STREAM:
        raise ArrowInvalid("the stream has no end mark")


def _arrow_batches(path: Path) -> Iterator[RecordBatch]:
    for batch in _arrow_whole(path):
        batch.validate(full=True)
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES * batch.num_rows // max(1, batch.nbytes)))
        yield from (batch.slice(start, size) for start in range(0, batch.num_rows, size))


def _arrow_spans(batches: Iterator[RecordBatch], spans: Sequence[Span]) -> Iterator[RecordBatch]:
    begin = 0
    for batch in batches:
        wanted = [span for span in spans if begin - span[1] < span[0] < begin + batch.num_rows]
        if wanted:
            batch.validate(full=True)
        for start, length in wanted:
            yield batch.slice(max(0, start - begin), start + length - max(begin, start))
        begin += batch.num_rows


@contextmanager
def _unpacked(path: Path, stream: IO[bytes] | None) -> Iterator[Path]:
    """The file, or a temporary one with what `stream` gives: both kinds are read from their end."""
    if stream is None:
        yield path
        return
    with tempfile.NamedTemporaryFile() as file:
        shutil.copyfileobj(stream, file, BLOCK)
        file.flush()
        yield Path(file.name)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the reader of columnar files raises into an error that names the file."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        raise FinetuiError(Problem("data.broken-columnar", {"error": one_line(str(error), _DETAIL)}, name)) from error
