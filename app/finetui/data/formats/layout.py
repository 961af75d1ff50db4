"""What a layout is to the rest of the room: how it recognises a row, and how it turns one into a canonical record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetui.data.files.splitter import Row
from finetui.data.problems import Note, Saying

Convert = Callable[[Any, list[Note]], dict[str, Any]]
"""A row to its canonical record; reported codes are appended to the notes.

Raises RowProblem where the row is to be set aside.
"""


Expand = Callable[[Iterable[Row]], Iterator[Row]]
"""The rows of a container to the rows that are counted, where one is not the other (threads of a forest, instances)."""


@dataclass(frozen=True)
class Adapter:
    """A layout fitted to one input: which of its columns are what."""

    mapping: Mapping[str, str]
    """Canonical part to the columns it comes from, as the lock keeps it."""
    cue: Saying
    """What gave the layout away."""
    convert: Convert
    expand: Expand | None = None
    """Run over the container's rows before `convert`; None where a row is a row."""


def without_meta(adapter: Adapter) -> Adapter:
    """The same adapter, its records without the columns beside what is trained."""

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        record = adapter.convert(row, notes)
        record.pop("meta", None)
        return record

    return replace(adapter, convert=convert)


Fit = Callable[[Sequence[Any]], Adapter]
"""Fits a layout to its sampled rows."""


@dataclass(frozen=True)
class Layout:
    """One layout of the inventory."""

    id: str
    recognise: Callable[[Any], bool]
    """Whether one sampled row has this layout; asked in the order of the table, strongest cue first."""
    stage: str | None = None
    """The stage that its records serve; None where it cannot be converted."""
    fit: Fit | None = None
    """Fit the layout to its sampled rows; None where nothing of it can be converted."""
    also: Mapping[str, Fit] = field(default_factory=dict)
    """Other stages that its rows can be read for when asked, and how."""
