"""Rows before they are records: what a layout needs of them, and those that it makes out of a container's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetui.data.files.parsing import Repaired, dump, has_wide_number, load_exactly
from finetui.data.files.splitter import Row
from finetui.data.formats.content import refuse_media
from finetui.data.problems import RowProblem, excerpt


def checked(row: Any, columns: Sequence[str]) -> dict[str, Any]:
    """The row, where it is an object with these columns and no image, audio or video.

    Raises RowProblem `not-an-object`, `missing-key` or `multimodal`.
    """
    if type(row) is not dict:
        raise RowProblem("not-an-object", excerpt(row))
    for column in columns:
        if column not in row:
            raise missing(column, row)
    refuse_media(row)
    return row


def missing(column: str, row: dict[str, Any]) -> RowProblem:
    """The problem of a row without a column that its layout needs."""
    return RowProblem("missing-key", f"{column or '[row]'} (columns: {excerpt(', '.join(row))})")


def taken_apart(row: Row) -> tuple[Any, bool]:
    """A row's value with its integers as they are written, and whether it had to be repaired to be read."""
    value, raw, *_ = row
    if type(value) is Repaired:
        return value.value, True
    return exact(value, raw), False


def exact(value: Any, raw: bytes) -> Any:
    """The value of a JSON text with its integers beyond 64 bits as they are written there."""
    if type(value) is not dict or not has_wide_number(value):
        return value
    try:
        return load_exactly(raw)
    except (ValueError, RecursionError):
        return value  # of a container that is no JSON


def made(value: Any, repaired: bool, line: int | None, byte: int | None, source: bytes) -> Row:
    """A row whose raw bytes are its own JSON; or the problem, with the bytes of its source, where it has none."""
    try:
        return (Repaired(value) if repaired else value), dump(value), line, byte
    except RowProblem as problem:
        return problem, source, line, byte
