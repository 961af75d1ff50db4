"""Rows into canonical records, in small batches: what is looked for in every text is looked for in many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from finetui.data.formats.layout import Convert
from finetui.data.parsing import Repaired, dump, dump_line, has_wide_number, load_exactly, may_hold_wide_number
from finetui.data.problems import REPAIRED, Note, RowProblem, are_plain
from finetui.data.splitter import Row

_BATCH_BYTES = 1 << 14


Turned = tuple[Any, bytes, bytes, bool, list[Note], bytes, int | None, int | None]
"""One row as it turned out, for speed no class: the record, or the RowProblem that sets the row aside; the record as a
line of JSON, without its meta, and its meta as JSON, each empty where there is none; what `are_plain` says of it; its
notes; the raw row, its line and byte."""


def turn(rows: Iterable[Row], convert: Convert) -> Iterator[list[Turned]]:
    """Every row as it turned out, in order; an error with which the rows break off comes after those before it."""
    batch: list[Turned] = []
    size = 0
    try:
        for value, raw, line, byte in rows:
            notes: list[Note] = []
            try:
                record = convert(value, notes) if type(value) is dict else _other(value, convert, notes)
                plain = len(record) == 1 and "messages" in record and are_plain(record["messages"])
                if plain:
                    body, meta = dump_line(record), b""
                else:
                    record, body, meta, plain = _checked(record, value, raw, convert, notes)
            except RowProblem as problem:
                batch.append((problem, b"", b"", False, notes, raw, line, byte))
                size += len(raw)
            else:
                batch.append((record, body, meta, plain, notes, raw, line, byte))
                size += len(body)
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except Exception:
        yield batch
        raise
    yield batch


def _other(value: Any, convert: Convert, notes: list[Note]) -> Any:
    """The record of a value that is no plain object.

    Raises RowProblem where the row is set aside.
    """
    if type(value) is RowProblem:
        raise value
    if type(value) is Repaired:
        notes.append((REPAIRED, "NaN"))
        value = value.value
    return convert(value, notes)


def _checked(
    record: dict[str, Any], value: Any, raw: bytes, convert: Convert, notes: list[Note]
) -> tuple[dict[str, Any], bytes, bytes, bool]:
    """A record that holds more than plain texts: with its numbers as they were written, and its meta apart."""
    if type(value) is not Repaired and may_hold_wide_number(raw) and has_wide_number(record):
        notes.clear()
        record = convert(load_exactly(raw), notes)
    if "meta" not in record:
        return record, dump_line(record), b"", False
    bare = {key: value for key, value in record.items() if key != "meta"}
    plain = "messages" in bare and len(bare) == 1 and are_plain(bare["messages"])
    return record, dump_line(bare), dump(record["meta"]), plain
