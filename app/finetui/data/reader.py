"""The one full pass over the files: every row parsed, converted, checked and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from finetui.core.errors import FinetuiError, Problem
from finetui.data.choose.placeholders import Filling
from finetui.data.containers import DataFile, rows
from finetui.data.detect import Detection, detect
from finetui.data.found import TRAIN, VALIDATION, FoundFile
from finetui.data.parsing import Repaired, dump, has_wide_number, load_exactly
from finetui.data.problems import REPAIRED, SET_ASIDE, Note, Place, RowProblem, Saying, Tally, text_notes
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.sample import take
from finetui.data.sources import Spec, blamed, find_files
from finetui.data.streams import opened

REJECTED_LIMIT = 0.01
"""More than this share of rows set aside needs a yes."""


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
    _seen: set[int] = field(default_factory=set)

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
        return Input(files, self.notes, self.asked, filling=self.filling)

    def read(self, on_rejected: Callable[[Rejected], None] | None = None) -> Iterator[Record]:
        """Every usable row of every file as a record, in order; afterwards the counts, digests and tally are complete.

        Raises FinetuiError where a file cannot be read to its end; every such file is named.
        """
        problems: list[Problem] = []
        for report in self.files:
            self.current = report
            try:
                if self.converts:
                    yield from self._records(report, on_rejected)
                else:
                    self._count(report)
            except FinetuiError as error:
                problems.extend(error.problems)
        if problems:
            raise FinetuiError(problems)
        empty = [report.file.name for report in self.files if not report.total]
        if empty:
            raise FinetuiError(Problem("data.no-rows", {}, name) for name in empty)

    def _records(self, report: FileReport, on_rejected: Callable[[Rejected], None] | None) -> Iterator[Record]:
        adapter = report.detection.adapter
        assert adapter is not None
        convert, name, seen = adapter.convert, report.file.name, self._seen
        notes: list[Note] = []
        number = rejected = 0
        with opened(report.file.path, name) as source:
            found = rows(report.file, source.stream)
            for value, raw, line, byte in adapter.expand(found) if adapter.expand else found:
                number += 1
                place = Place(name, number, line, byte)
                try:
                    record = _record(value, raw, convert, notes)
                    body, written = _written(record, notes)
                except RowProblem as problem:
                    notes.clear()
                    rejected += 1
                    self.tally.add(problem.code, problem.detail, place)
                    if on_rejected is not None:
                        on_rejected(Rejected(place, problem.code, problem.detail, raw))
                    continue
                fingerprint = hash(body)
                if fingerprint in seen:
                    notes.append(("duplicate", ""))
                else:
                    seen.add(fingerprint)
                if notes:
                    report.repaired += _tell(notes, self.tally, place)
                    notes.clear()
                yield Record(record, written, place)
            report.total, report.usable, report.sha256 = number, number - rejected, source.sha256()

    def _count(self, report: FileReport) -> None:
        """Count the rows of a file that is not converted, and those of them that cannot be read."""
        with opened(report.file.path, report.file.name) as source:
            for value, _, line, byte in rows(report.file, source.stream):
                report.total += 1
                if type(value) is RowProblem:
                    place = Place(report.file.name, report.total, line, byte)
                    self.tally.add(value.code, value.detail, place)
            report.sha256 = source.sha256()


def open_input(specs: Sequence[Spec], reading: Reading = AS_DETECTED, evaluation: Sequence[Spec] = ()) -> Input:
    """Find the files that `specs` name, and those of `evaluation`, which are not trained; and recognise each.

    Raises FinetuiError with every obstacle, before anything is converted.
    """
    files, notes = find_files(specs, reading)
    if evaluation:
        held, more = find_files(evaluation, reading)
        files += [replace(found, part=VALIDATION) for found in held if found.part == TRAIN]
        notes += more
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


def _record(value: Any, raw: bytes, convert: Callable[[Any, list[Note]], dict[str, Any]], notes: list[Note]) -> Any:
    """The canonical record of a row's value.

    Raises RowProblem where the row is set aside.
    """
    kind = type(value)
    if kind is RowProblem:
        raise value
    if kind is Repaired:
        notes.append((REPAIRED, "NaN"))
        value = value.value
    record = convert(value, notes)
    if len(record) > 1 and kind is not Repaired and has_wide_number(record):
        notes.clear()
        record = convert(load_exactly(raw), notes)
    return record


def _written(record: dict[str, Any], notes: list[Note]) -> tuple[bytes, bytes]:
    """A record without its meta, serialised, for comparing; and its whole line of data.jsonl.

    Raises RowProblem where it cannot be written, or where its text is an image.
    """
    if "meta" not in record:
        body = dump(record)
        simple = len(record) == 1 and "messages" in record
        notes += text_notes(body, len(record["messages"]) + 1 if simple else 0)
        return body, body + b"\n"
    body = dump({key: value for key, value in record.items() if key != "meta"})
    notes += text_notes(body, 0)
    return body, b'%b,"meta":%b}\n' % (body[:-1], dump(record["meta"]))


def _tell(notes: Iterable[Note], tally: Tally, place: Place) -> int:
    """Count a row's notes; 1 where the row was repaired, else 0."""
    repaired = 0
    for code, detail in notes:
        if code == REPAIRED:
            repaired = 1
        else:
            assert code not in SET_ASIDE
            tally.add(code, detail, place)
    return repaired
