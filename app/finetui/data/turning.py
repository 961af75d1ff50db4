"""Rows into canonical records, in small batches: what is looked for in every text is looked for in many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetui.data.files.parsing import Repaired, dump, dump_line, has_wide_number, load_exactly, may_hold_wide_number
from finetui.data.files.splitter import Row
from finetui.data.formats.layout import Convert
from finetui.data.problems import REPAIRED, Note, RowProblem, are_clean, are_plain

_BATCH_BYTES = 1 << 14


Turned = tuple[Any, bytes, bytes, bool, Sequence[Note], bytes, int | None, int | None]
"""One row as it turned out, for speed no class: the record, or the RowProblem that sets the row aside; the record as a
line of JSON, without its meta, and its meta as JSON, each empty where there is none; what `are_plain` says of it; its
notes; the raw row, its line and byte."""


@dataclass(slots=True)
class Batch:
    """Rows one after another."""

    rows: list[Turned] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """The records, each as a line of JSON without its meta."""
    bare: bool = True
    """Whether every row is a record of plain texts, without meta or notes."""
    lines: bytes = b""
    """The bodies as one."""
    clean: bool = False
    """What `are_clean` says of them."""

    def closed(self) -> Batch:
        """The same, complete."""
        self.lines = b"".join(self.bodies)
        self.clean = are_clean(self.lines)
        return self


def turn(rows: Iterable[Row], convert: Convert) -> Iterator[Batch]:
    """Every row as it turned out, in order; an error with which the rows break off comes after those before it."""
    batch, size = Batch(), 0
    notes: list[Note] = []
    try:
        for value, raw, line, byte in rows:
            try:
                record = convert(value, notes) if type(value) is dict else _other(value, convert, notes)
                if len(record) == 1 and "messages" in record and are_plain(record["messages"]):
                    body, meta, plain = dump_line(record), b"", True
                else:
                    record, body, meta, plain = _checked(record, value, raw, convert, notes)
                batch.bodies.append(body)
            except RowProblem as problem:
                record, body, meta, plain = problem, b"", b"", False
                notes.clear()
            if notes or meta or not plain:
                batch.bare = False
            batch.rows.append((record, body, meta, plain, tuple(notes), raw, line, byte))
            notes.clear()
            size += len(body) or len(raw)
            if size >= _BATCH_BYTES:
                yield batch.closed()
                batch, size = Batch(), 0
    except Exception:
        yield batch.closed()
        raise
    yield batch.closed()


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
