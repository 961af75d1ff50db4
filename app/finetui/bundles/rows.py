"""Rows as they are trained: their lengths, their parquet, and a digest of their content apart from parquet's bytes."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from finetui.data.profile.lengths import spread, total

if TYPE_CHECKING:
    import pyarrow

UNTRAINED = -100
_GROUP_ROWS = 1024
_GROUP_TOKENS = 1 << 20


@dataclass(frozen=True)
class Row:
    """One record as it is trained."""

    record: str
    """The record as canonical JSON."""
    ids: list[int]
    """Token ids."""
    labels: list[int]
    """The id where a token is trained, else -100; as long as `ids`."""

    def trained(self) -> int:
        """Tokens that are predicted in training; the first of a row never is."""
        return len(self.labels[1:]) - self.labels[1:].count(UNTRAINED)

    def cut(self, length: int) -> Row:
        """The first `length` tokens."""
        return Row(self.record, self.ids[:length], self.labels[:length])


class ContentDigest:
    """SHA-256 over rows in order: record (UTF-8), ids and labels (int32), each after its size in bytes (8 bytes).

    Integers are little-endian. The trainer computes the same.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Take in one row."""
        for block in (row.record.encode(), _int32(row.ids), _int32(row.labels)):
            self._digest.update(len(block).to_bytes(8, "little"))
            self._digest.update(block)

    def hexdigest(self) -> str:
        """The digest so far, in hex."""
        return self._digest.hexdigest()


class PartWriter:
    """Writes one part of a bundle's data as rows come, a row group at a time; without rows there is no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokens: Counter[int] = Counter()
        self._trained_tokens = 0
        self._digest = ContentDigest()
        self._waiting: list[Row] = []
        self._waiting_tokens = 0
        self._stream: BinaryIO | None = None
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        if self._stream is not None:
            self._stream.close()

    def add(self, row: Row) -> None:
        """Take one row.

        Raises OSError where the file cannot be written.
        """
        self._tokens[len(row.ids)] += 1
        self._trained_tokens += row.trained()
        self._digest.add(row)
        self._waiting.append(row)
        self._waiting_tokens += len(row.ids)
        if len(self._waiting) >= _GROUP_ROWS or self._waiting_tokens >= _GROUP_TOKENS:
            self._flush()

    @property
    def rows(self) -> int:
        """Rows taken."""
        return self._tokens.total()

    def facts(self) -> dict[str, Any]:
        """What the lock says of this part."""
        return {
            "file": f"data/{self._path.name}",
            "rows": self.rows,
            "tokens": total(self._tokens),
            "trained_tokens": self._trained_tokens,
            "digest": self._digest.hexdigest(),
            "lengths": spread(self._tokens),
        }

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._waiting:
            return
        ids = pyarrow.list_(pyarrow.int32())
        schema = pyarrow.schema([("record", pyarrow.string()), ("input_ids", ids), ("labels", ids)])
        if self._writer is None:
            self._stream = self._path.open("wb")  # a stream, since pyarrow takes some paths for addresses
            self._writer = pyarrow.parquet.ParquetWriter(
                self._stream, schema, compression="zstd", use_dictionary=False, write_statistics=False
            )
        columns = [[row.record for row in self._waiting], [row.ids for row in self._waiting]]
        columns.append([row.labels for row in self._waiting])
        self._writer.write_table(pyarrow.table(columns, schema=schema))
        self._waiting.clear()
        self._waiting_tokens = 0


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of one part, in order.

    Raises OSError or ValueError where it is no such parquet.
    """
    import pyarrow.parquet

    with path.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as source:
        for batch in source.iter_batches(_GROUP_ROWS, columns=["record", "input_ids", "labels"]):
            for cells in batch.to_pylist():
                yield Row(cells["record"], cells["input_ids"], cells["labels"])


def content_digest(rows: Iterable[Row]) -> str:
    """The digest of these rows, as a lock states it."""
    digest = ContentDigest()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()


def _int32(values: list[int]) -> bytes:
    numbers = array("i", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
