"""Canonical records for the rooms above, raw and converted data alike, with what the lock keeps of their sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetui.core.errors import FinetuiError
from finetui.core.text import one_line
from finetui.data.reader import FileReport, Input, Record, Rejected, open_input
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.results import Inspection, over_limit
from finetui.data.sources.find import Spec
from finetui.data.sources.found import TRAIN


@dataclass(frozen=True)
class DataSource:
    """One source file as the lock keeps it: its name without folders, digest, size, layout and counts."""

    name: str
    sha256: str
    bytes: int
    format: str
    mapping: dict[str, str]
    rows: dict[str, int]
    """`total`, `usable`, `rejected`, `repaired`."""
    weight: float = 1.0
    """How often each of its rows was asked for."""
    part: str = TRAIN
    """What its rows are for."""

    @classmethod
    def of(cls, report: FileReport) -> DataSource:
        """One file after its pass."""
        found, adapter = report.found, report.detection.adapter
        counts = {"total": report.total, "usable": report.usable, "rejected": report.rejected}
        return cls(
            one_line(found.file.path.name),
            report.sha256,
            found.file.bytes,
            report.detection.format or "",
            dict(adapter.mapping) if adapter else {},
            {**counts, "repaired": report.repaired},
            found.weight,
            found.part,
        )

    def to_json(self) -> dict[str, Any]:
        """The entry of `data.sources` in lock.json; weight and part only where they say something."""
        entry = asdict(self)
        usual = {"weight": 1.0, "part": TRAIN}
        return {key: value for key, value in entry.items() if key not in usual or value != usual[key]}


class Records:
    """The records of an input, iterated once; `sources` and `inspection` are complete afterwards."""

    def __init__(self, read: Input, accept_rejected: bool, on_problem: Callable[[Rejected], None] | None) -> None:
        self._read = read
        self._accept = accept_rejected
        self._on_problem = on_problem
        self.inspection = Inspection(read)

    def __iter__(self) -> Iterator[Record]:
        """Every usable row in order.

        Raises FinetuiError at the end where more than 1 % of the rows were set aside and that was not accepted, or
        where nothing is usable.
        """
        yield from self._read.read(self._on_problem)
        refused = over_limit(self._read, self._accept)
        if refused:
            raise FinetuiError(refused)

    @property
    def sources(self) -> list[DataSource]:
        """The files read, in order."""
        return [DataSource.of(report) for report in self._read.files]


def iter_records(
    specs: Sequence[Spec],
    reading: Reading = AS_DETECTED,
    *,
    accept_rejected: bool = False,
    on_problem: Callable[[Rejected], None] | None = None,
) -> Records:
    """Open the data that `specs` name for one pass over its canonical records.

    Raises FinetuiError where a file cannot be read, or where the layout is none that can be converted.
    """
    read = open_input(specs, reading)
    records = Records(read, accept_rejected, on_problem)
    refused = records.inspection.refusals()
    if refused:
        raise FinetuiError(refused)
    return records
