"""The one full pass over the files: every row parsed, converted, checked and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from finetui.core.errors import FinetuiError, Problem
from finetui.data.choose.placeholders import Filling
from finetui.data.detection.detect import Detection, detect
from finetui.data.files.containers import DataFile, rows
from finetui.data.files.sample import take
from finetui.data.files.streams import opened
from finetui.data.problems import (
    REPAIRED,
    SET_ASIDE,
    Note,
    Place,
    RowProblem,
    Saying,
    Tally,
    text_notes,
)
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.repeats.duplicates import DUPLICATE
from finetui.data.repeats.tallies import Repeats
from finetui.data.sources.find import Spec, blamed, find_files
from finetui.data.sources.found import FoundFile
from finetui.data.turning import Batch, turn

REJECTED_LIMIT = 0.01
"""More than this share of rows set aside needs a yes."""
_TOLD_ROWS = 1000


@dataclass
class FileReport:
    """One file after its pass."""

    found: FoundFile
    detection: Detection
    sha256: str = ""
    """Of the file's own bytes."""
    total: int = 0
    usable: int = 0
    repaired: int = 0

    @property
    def file(self) -> DataFile:
        """What it is made of."""
        return self.found.file

    @property
    def rejected(self) -> int:
        """Rows set aside."""
        return self.total - self.usable


class Record(NamedTuple):
    """One canonical record and where it comes from."""

    record: dict[str, Any]
    line: bytes
    """The record as one line of data.jsonl, newline included."""
    place: Place


@dataclass(frozen=True)
class Rejected:
    """One row that was set aside."""

    place: Place
    code: str
    detail: str
    raw: bytes


Aside = Callable[[Rejected], None] | None
"""Told of every row that is set aside, in order."""
Progress = Callable[[int, int], None]
"""Told now and then how many bytes on disk were read, of how many."""


@dataclass
class Input:
    """The files of one call: found, sampled, recognised, and read in order by `read`."""

    files: list[FileReport]
    notes: list[Saying]
    """What is to be said of the search for them: files left out, splits not read."""
    asked: tuple[str, ...]
    """The data as the user named it."""
    tally: Tally = field(default_factory=Tally)
    filling: Filling = field(default_factory=lambda: Filling({}))
    """Texts for placeholders, and where they were put."""
    current: FileReport | None = None
    """The file that the record given last stands in."""
    similarity: float | None = None
    """Share of their text from which two rows are told as near duplicates; None for not at all."""
    on_progress: Progress | None = None
    _behind: int = 0
    """Bytes of the files that were read through."""

    @property
    def format(self) -> str | None:
        """The layout that all files have, or None."""
        formats = {report.detection.format for report in self.files}
        return formats.pop() if len(formats) == 1 else None

    @property
    def belongs_together(self) -> bool:
        """Whether there is one layout; the entries of a registry may have several, for records of one stage."""
        if self.format is not None or not all(report.found.of.registry for report in self.files):
            return self.format is not None
        stages = {report.detection.stage for report in self.files}
        return len(stages) == 1 and None not in stages

    @property
    def converts(self) -> bool:
        """Whether all files belong together and can be converted."""
        return self.belongs_together and all(report.detection.adapter for report in self.files)

    @cached_property
    def size(self) -> int:
        """Bytes on disk of all files."""
        return sum(report.file.bytes for report in self.files)

    @property
    def total(self) -> int:
        """Rows read."""
        return sum(report.total for report in self.files)

    @property
    def usable(self) -> int:
        """Rows that became records."""
        return sum(report.usable for report in self.files)

    @property
    def repaired(self) -> int:
        """Usable rows that were mended."""
        return sum(report.repaired for report in self.files)

    @property
    def over_limit(self) -> bool:
        """Whether more rows were set aside than goes without a yes."""
        return self.total - self.usable > REJECTED_LIMIT * self.total

    def afresh(self) -> Input:
        """The same files, recognised and not yet read."""
        self.filling.rows.clear()
        files = [FileReport(report.found, report.detection) for report in self.files]
        return replace(self, files=files, tally=Tally(), current=None, _behind=0)

    def read(self, on_rejected: Aside = None) -> Iterator[Record]:
        """Every usable row of every file as a record, in order; afterwards the counts, digests and tally are complete.

        Raises FinetuiError where a file cannot be read to its end; every such file is named.
        """
        repeats = Repeats([report.file.name for report in self.files], self.similarity)
        for file, batch in self._batches(repeats):
            yield from self._settled(file, batch, repeats, on_rejected)

    def lines(self, on_rejected: Aside = None) -> Iterator[bytes]:
        """The same as blocks of lines of data.jsonl: next to nothing is done for a row that has nothing to tell.

        Raises FinetuiError as `read` does.
        """
        repeats = Repeats([report.file.name for report in self.files], self.similarity)
        for file, batch in self._batches(repeats):
            if batch.bare and batch.clean and repeats.none_in(batch.bodies):
                self.files[file].total += len(batch.rows)
                self.files[file].usable += len(batch.rows)
                yield batch.lines
            else:
                yield b"".join([record.line for record in self._settled(file, batch, repeats, on_rejected)])

    def _batches(self, repeats: Repeats) -> Iterator[tuple[int, Batch]]:
        """The rows of every file that is converted, with the index of the file; the others are counted alone."""
        problems: list[Problem] = []
        converts = self.converts
        for number, report in enumerate(self.files):
            self.current = report
            try:
                if converts:
                    for batch in self._turned(report):
                        yield number, batch
                else:
                    self._count(report)
            except FinetuiError as error:
                problems.extend(error.problems)
            self._behind += report.file.bytes
            self._tell_progress(0)
        if problems:
            raise FinetuiError(problems)
        repeats.tell(self.tally)
        empty = [report.file.name for report in self.files if not report.total]
        if empty:
            raise FinetuiError(Problem("data.no-rows", {}, name) for name in empty)

    def _turned(self, report: FileReport) -> Iterator[Batch]:
        adapter = report.detection.adapter
        assert adapter is not None
        with opened(report.file.path, report.file.name) as source:
            found = rows(report.file, source.stream)
            for batch in turn(adapter.expand(found) if adapter.expand else found, adapter.convert):
                self._tell_progress(source.position)
                yield batch
            report.sha256 = source.sha256()

    def _settled(self, file: int, batch: Batch, repeats: Repeats, aside: Aside) -> Iterator[Record]:
        """The records of a batch; what is to be told of its rows is counted on the way."""
        report = self.files[file]
        name, number, new = report.file.name, report.total, tuple.__new__  # as Place(…) does, in half the time
        clean, are_new = batch.clean, repeats.none_in(batch.bodies)
        report.total += len(batch.rows)
        report.usable += len(batch.rows)
        for record, body, meta, plain, noted, raw, line, byte in batch.rows:
            number += 1
            place = new(Place, (name, number, line, byte))
            try:
                if type(record) is RowProblem:
                    raise record.with_traceback(None)
                notes = noted if clean and plain else [*noted, *text_notes(body, clean, plain)]
            except RowProblem as problem:
                report.usable -= 1
                self.tally.add(problem.code, problem.detail, place)
                if aside is not None:
                    aside(Rejected(place, problem.code, problem.detail, raw))
                continue
            if not are_new and repeats.is_one(body, record, file, place):
                notes = [*notes, (DUPLICATE, "")]
            if notes:
                report.repaired += _tell(notes, self.tally, place)
            written = b'%b,"meta":%b}\n' % (body[:-2], meta) if meta else body
            yield new(Record, (record, written, place))

    def _tell_progress(self, position: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self._behind + position, self.size)

    def _count(self, report: FileReport) -> None:
        """Count the rows of a file that is not converted, and those of them that cannot be read."""
        with opened(report.file.path, report.file.name) as source:
            for value, _, line, byte in rows(report.file, source.stream):
                report.total += 1
                if report.total % _TOLD_ROWS == 0:
                    self._tell_progress(source.position)
                if type(value) is RowProblem:
                    place = Place(report.file.name, report.total, line, byte)
                    self.tally.add(value.code, value.detail, place)
            report.sha256 = source.sha256()


def open_input(specs: Sequence[Spec], reading: Reading = AS_DETECTED, evaluation: Sequence[Spec] = ()) -> Input:
    """Find the files that `specs` name, and those of `evaluation`, which are not trained; and recognise each.

    Raises FinetuiError with every obstacle, before anything is converted.
    """
    files, notes = find_files(specs, reading, evaluation)
    filling = Filling(reading.fill)
    reports: list[FileReport] = []
    problems: list[Problem] = []
    for found in files:
        try:
            reports.append(FileReport(found, filling.onto(detect(take(found.file), found.reading))))
        except FinetuiError as error:
            error = blamed(error, found)
            problems += [problem for problem in error.problems if problem not in problems]
            exit_code = error.exit_code
    if problems:
        raise FinetuiError(problems, exit_code)
    return Input(reports, notes, tuple(map(str, specs)), filling=filling)


def _tell(notes: Sequence[Note], tally: Tally, place: Place) -> int:
    """Count a row's notes; 1 where the row was repaired, else 0."""
    repaired = 0
    for code, detail in notes:
        if code == REPAIRED:
            repaired = 1
        else:
            assert code not in SET_ASIDE
            tally.add(code, detail, place)
    return repaired
