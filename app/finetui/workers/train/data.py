"""The prepared rows: read from parquet, held against the lock's digest, padded into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .failure import Failure

IGNORED = -100
"""Label of a token that is not trained."""
_BATCH_ROWS = 1024
_PADDING_ID = 0


class Rows:
    """Rows of token ids and labels, kept flat; row `len(self)` is a blank that trains nothing."""

    def __init__(self, ids: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> None:
        """ids, labels: [tokens] int32; offsets: [rows + 1], where each row begins."""
        self._ids = ids
        self._labels = labels
        self._offsets = offsets
        self.lengths: np.ndarray = np.diff(offsets)
        # The first token of a row is predicted from nothing, so its label does not count.
        trained = np.concatenate(([0], np.cumsum(labels != IGNORED)))
        self.trained: np.ndarray = trained[offsets[1:]] - trained[np.minimum(offsets[:-1] + 1, offsets[1:])]

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids and labels of one row: [tokens] int32 each."""
        if row == len(self):
            return np.full(2, _PADDING_ID, np.int32), np.full(2, IGNORED, np.int32)
        part = slice(self._offsets[row], self._offsets[row + 1])
        return self._ids[part], self._labels[part]

    def hash(self, row: int) -> int:
        """64 bits that stand for the row's ids and labels."""
        ids, labels = self[row]
        digest = hashlib.sha256(ids.astype("<i4").tobytes() + labels.astype("<i4").tobytes()).digest()
        return int.from_bytes(digest[:8], "big")

    def batch_digest(self, rows: Sequence[int]) -> str:
        """16 hex digits that stand for a set of rows in any order: their hashes, added up modulo 2^64."""
        return f"{sum(map(self.hash, rows)) % 2**64:016x}"


def read_rows(path: Path, digest: str, max_length: int) -> Rows:
    """Read a parquet file of `record` (string), `input_ids` and `labels` (list of int32).

    Raises Failure (data-mismatch) where the content's digest is not the lock's, or a row could not be trained.
    """
    if not path.is_file():
        raise Failure("data-mismatch", f"{path.name} is not in the data folder")
    content = hashlib.sha256()
    parts: dict[str, list[np.ndarray]] = {"input_ids": [], "labels": []}
    lengths: list[np.ndarray] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["record", "input_ids", "labels"]):
            ids, labels = (_flat(batch.column(name)) for name in parts)
            if not np.array_equal(ids[1], labels[1]):
                raise Failure("data-mismatch", f"{path.name}: a row has as many labels as ids, and one here has not")
            _update_digest(content, batch.column("record").to_pylist(), ids, labels)
            parts["input_ids"].append(ids[0])
            parts["labels"].append(labels[0])
            lengths.append(np.diff(ids[1]))
    if content.hexdigest() != digest:
        raise Failure("data-mismatch", f"{path.name}: content digest {content.hexdigest()}, the lock has {digest}")
    offsets = np.concatenate(([0], np.cumsum(np.concatenate([*lengths, np.zeros(0, np.int64)])))).astype(np.int64)
    rows = Rows(*(np.concatenate([*part, np.zeros(0, np.int32)]) for part in parts.values()), offsets)
    _check_rows(rows, path.name, max_length)
    return rows


def collate(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Pad rows on the right into one batch.

    Gives `input_ids` [rows, length], `positions` [trained] (indices into the flattened [rows × length] from which a
    trained token is predicted) and `targets` [trained] (those tokens). There is no attention mask: a causal model
    sees nothing to the right, so no trained position sees padding, and attention without a mask is the quicker one.
    """
    longest = max(len(ids) for ids, _ in samples)
    input_ids = torch.full((len(samples), longest), _PADDING_ID, dtype=torch.long)
    labels = torch.full((len(samples), longest), IGNORED, dtype=torch.long)
    for row, (ids, row_labels) in enumerate(samples):
        input_ids[row, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        labels[row, : len(ids)] = torch.from_numpy(row_labels.astype(np.int64))
    return {"input_ids": input_ids, **_trained(labels)}


def lay(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Lay rows end to end into one pack.

    Gives `input_ids` and `position_ids` [1, tokens], the latter counting from 0 in each row, by which attention keeps
    rows apart, and `positions` and `targets` as `collate` does. No row's first token is predicted from the row before.
    """
    ids = np.concatenate([ids for ids, _ in samples]).astype(np.int64)
    labels = np.concatenate([np.concatenate(([IGNORED], labels[1:])) for _, labels in samples]).astype(np.int64)
    places = np.concatenate([np.arange(len(ids), dtype=np.int64) for ids, _ in samples])
    batch = {"input_ids": torch.from_numpy(ids)[None], "position_ids": torch.from_numpy(places)[None]}
    return {**batch, **_trained(torch.from_numpy(labels)[None])}


def _trained(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """`positions` and `targets` of labels [rows, length]: each token is predicted from the place before it."""
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    positions = (following != IGNORED).nonzero().flatten()
    return {"positions": positions, "targets": following[positions]}


def _flat(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The values [tokens] int32 and offsets [rows + 1] of a list column."""
    offsets = column.offsets.to_numpy()
    values = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return values.to_numpy(zero_copy_only=False).astype(np.int32, copy=False), offsets - offsets[0]


def _update_digest(
    content: hashlib._Hash, records: list[str], ids: tuple[np.ndarray, np.ndarray], labels: tuple[np.ndarray, ...]
) -> None:
    """Add rows to the digest: for each its record in UTF-8, ids and labels as little-endian int32, each after its size.

    A size is 8 bytes, little-endian, and counts bytes.
    """
    for row, record in enumerate(records):
        part = slice(ids[1][row], ids[1][row + 1])
        for block in (record.encode(), ids[0][part].astype("<i4").tobytes(), labels[0][part].astype("<i4").tobytes()):
            content.update(len(block).to_bytes(8, "little"))
            content.update(block)


def _check_rows(rows: Rows, name: str, max_length: int) -> None:
    if not len(rows):
        raise Failure("data-mismatch", f"{name} holds no rows")
    if rows.lengths.max() > max_length:
        row = int(rows.lengths.argmax())
        detail = f"{name}: row {row + 1} has {rows.lengths[row]} tokens, max_length is {max_length}"
        raise Failure("data-mismatch", detail)
    if rows.trained.min() < 1:
        raise Failure("data-mismatch", f"{name}: row {int(rows.trained.argmin()) + 1} has no trained token")
