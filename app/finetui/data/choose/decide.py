"""The deciding pass: every usable row is read once and told by its hashes, then the rules are applied to them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import FinetuiError, Problem, ShellWords
from finetui.data.choose.choosing import NEAR, Choosing
from finetui.data.choose.facts import Fact, Facts, Hasher
from finetui.data.choose.groups import Grouping
from finetui.data.choose.rules import NOT_DRAWN, TOO_LONG, TOO_SHORT, draw_samples, drop_duplicates, drop_leaks, weigh
from finetui.data.choose.split import split
from finetui.data.files.parsing import dump
from finetui.data.reader import FileReport, Input, Record
from finetui.data.repeats.duplicates import Spot
from finetui.data.repeats.near import NearDuplicates
from finetui.data.sources.found import PARTS, TRAIN

Count = Callable[[Mapping[str, Any]], int | None]
"""Tokens of a record, None where they cannot be counted."""
_NO_SPOT = Spot(0, 0, 0, 0)
_KNOBS = {TOO_LONG: "max_tokens", TOO_SHORT: "min_tokens", NOT_DRAWN: "max_samples"}
"""The knob that drops rows for a reason; the others are flags."""


@dataclass(frozen=True)
class Decision:
    """What becomes of every row, and of which files that was decided."""

    facts: Facts
    digests: list[str]
    """SHA-256 of each file."""
    ungrouped: int
    """Rows without the field that rows are grouped by."""
    uncounted: int
    """Rows whose tokens could not be counted."""


def decide(inputs: Sequence[Input], choosing: Choosing, count: Count | None = None) -> Decision:
    """Read all rows and apply the rules.

    Raises FinetuiError where a file cannot be read to its end, or where what was asked cannot be had of these rows.
    """
    hasher = Hasher(choosing.seed)
    survey = _Survey(choosing, hasher, count)
    files = [report for read in inputs for report in read.files]
    weights = survey.number(files)
    for read in inputs:
        for record in read.read():
            assert read.current is not None
            survey.add(record, read.current)
    survey.finish()
    _apply(survey.facts, choosing, hasher, weights)
    _refuse_nothing(survey.facts)
    ungrouped = survey.grouping.missed if choosing.group_by else 0
    return Decision(survey.facts, [report.sha256 for report in files], ungrouped, survey.uncounted)


class _Survey:
    """Turns records into facts."""

    def __init__(self, choosing: Choosing, hasher: Hasher, count: Count | None) -> None:
        self.facts = Facts()
        self.grouping = Grouping(choosing.group_by)
        self.uncounted = 0
        self._choosing = choosing
        self._hash = hasher
        self._count = count if choosing.counts_tokens else None
        self._near = NearDuplicates(choosing.near_duplicates) if choosing.dedupe == NEAR else None
        self._files: dict[int, tuple[int, int, int]] = {}

    def number(self, files: Sequence[FileReport]) -> list[float]:
        """Give files and datasets their numbers; the weight of each dataset."""
        datasets: dict[tuple[str, float], int] = {}
        for place, report in enumerate(files):
            found = report.found
            dataset = datasets.setdefault((found.dataset, found.weight), len(datasets))
            self._files[id(report)] = place, dataset, PARTS.index(found.part)
        return [weight for _, weight in datasets]

    def add(self, record: Record, report: FileReport) -> None:
        """Take in one record of a file."""
        place, dataset, part = self._files[id(report)]
        said = _body(record)
        body = self._hash(said)
        mark = self._hash.onto(body, record.line[len(said) - 1 :], str(record.place.row).encode())
        found = self.grouping.of(record.record)
        group = None if found is None else self._hash(dump(found))
        self.facts.add(Fact(place, record.place.row, dataset, part, body, mark, group, self._unfit(record)))
        if self._near is not None:
            self._near.add(body, record.record, _NO_SPOT)

    def finish(self) -> None:
        """Make the facts complete.

        Raises FinetuiError (exit 2) where no row has the field to group by.
        """
        self.facts.flush()
        self.grouping.judge()
        if self._near is not None:
            self.facts.join((number + 1, first + 1) for number, first, _ in self._near.joined())
            self._near.close()

    def _unfit(self, record: Record) -> str | None:
        """Why a row is dropped for its tokens, or None."""
        if self._count is None:
            return None
        tokens = self._count(record.record)
        if tokens is None:
            self.uncounted += 1
            return None
        if 0 < self._choosing.max_tokens < tokens:
            return TOO_LONG
        return TOO_SHORT if tokens < self._choosing.min_tokens else None


def _body(record: Record) -> bytes:
    """The conversation without its meta, which is what makes two rows the same."""
    if "meta" not in record.record:
        return record.line.rstrip(b"\n")
    return dump({key: value for key, value in record.record.items() if key != "meta"})


def _apply(facts: Facts, choosing: Choosing, hasher: Hasher, weights: Sequence[float]) -> None:
    drop_leaks(facts)
    draw = "mark"
    if choosing.dedupe != "none":
        drop_duplicates(facts, near=choosing.dedupe == NEAR)
        draw = "body"  # a mark that is the least among duplicates is small, and would be drawn sooner
    if choosing.max_samples:
        draw_samples(facts, choosing.max_samples, draw)
    weigh(facts, weights, draw)
    split(facts, choosing, hasher)


def _refuse_nothing(facts: Facts) -> None:
    """Raise FinetuiError where there were rows and none is left to train."""
    counts = [(part, why, rows) for part, why, rows, _ in facts.counts()]
    dropped = ", ".join(f"{why} {rows}" for _, why, rows in counts if why)
    if dropped and not any(part == TRAIN and why is None for part, why, _ in counts):
        most = max((rows, why) for _, why, rows in counts if why)[1]
        way = ShellWords(f"recipes explain {_KNOBS[most]}" if most in _KNOBS else "convert --help")
        raise FinetuiError(Problem("choose.nothing-left", {"rows": facts.rows, "dropped": dropped, "way": way}))
