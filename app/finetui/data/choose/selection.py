"""The chosen rows of an input: one pass to decide, another that gives them out; neither keeps rows in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, NamedTuple

from finetui.core.errors import FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.choose.choosing import Choosing
from finetui.data.choose.decide import Count, Decision, decide
from finetui.data.choose.facts import Fate
from finetui.data.choose.rules import LEAK
from finetui.data.problems import EXAMPLES
from finetui.data.reader import FileReport, Input, Record, Rejected
from finetui.data.sources.found import TRAIN


class Chosen(NamedTuple):
    """One row and what it is for."""

    part: str
    record: Record


@dataclass(frozen=True)
class Outcome:
    """What became of the usable rows: `usable` is the sum of `kept` and `dropped`."""

    usable: int
    """Rows that could have been taken."""
    kept: Mapping[str, int]
    """Rows taken, by part."""
    written: Mapping[str, int]
    """The same, each counted as often as its weight has it."""
    dropped: Mapping[str, int]
    """Rows left out, by reason."""
    ungrouped: int = 0
    """Rows without the field that rows are grouped by; each stands for itself."""
    uncounted: int = 0
    """Rows whose tokens cannot be counted; they are kept."""

    def to_json(self) -> dict[str, Any]:
        """The figures as a report keeps them."""
        facts = {"usable": self.usable, "kept": dict(self.kept), "dropped": dict(self.dropped)}
        repeated = sum(self.written.values()) - sum(self.kept.values())
        return {**facts, "repeated": repeated, "ungrouped": self.ungrouped, "uncounted": self.uncounted}


class Selection:
    """The rows of inputs that `choosing` takes, in the order of reading, as often as they are asked for.

    With nothing to choose it is a plain pass. `count` is needed where rows are chosen by their tokens.
    """

    def __init__(self, inputs: Sequence[Input], choosing: Choosing, count: Count | None = None) -> None:
        self.inputs = list(inputs)
        """Those of the pass at hand or the last one, with its counts, digests and tallies."""
        self.choosing = choosing
        self._count = count
        self._decision: Decision | None = None

    @property
    def files(self) -> list[FileReport]:
        """The files of all inputs, in the order of reading."""
        return [report for read in self.inputs for report in read.files]

    @property
    def decides(self) -> bool:
        """Whether anything but everything is taken, or for anything but training."""
        return self.choosing.decides or any(file.found.weight != 1 or file.found.part != TRAIN for file in self.files)

    def decided(self) -> Decision | None:
        """What becomes of every row, None where everything is taken; the first call reads the inputs through.

        Raises FinetuiError as `rows` does.
        """
        if self._decision is None and self.decides:
            self.rewind()
            inputs = [replace(read, similarity=None) for read in self.inputs]  # told once, in the pass that gives rows
            self._decision = decide(inputs, self.choosing, self._count)
        return self._decision

    def rows(self, on_rejected: Callable[[Rejected], None] | None = None) -> Iterator[Chosen]:
        """One pass; afterwards the inputs are complete.

        Raises FinetuiError where a file cannot be read to its end or has changed since rows were chosen, or where what
        was asked cannot be had of these rows.
        """
        decision = self.decided()
        self.rewind()
        fates = decision.facts.fates() if decision else repeat(Fate(0, TRAIN, None, 1))
        for read in self.inputs:
            for record, fate in zip(read.read(on_rejected), fates, strict=False):
                if fate.why == LEAK:
                    read.tally.add(LEAK, self._twin(fate, read), record.place)
                for _ in range(0 if fate.why else fate.copies):
                    yield Chosen(fate.part, record)
        if decision and decision.digests != [report.sha256 for report in self.files]:
            raise FinetuiError(Problem("choose.changed", {}, self.files[0].file.name))

    @property
    def outcome(self) -> Outcome:
        """What became of the rows, once they were read."""
        decision = self._decision
        if decision is None:
            usable = sum(report.usable for report in self.files)
            return Outcome(usable, {TRAIN: usable}, {TRAIN: usable}, {})
        counts = list(decision.facts.counts())
        dropped = Counter[str]()
        for _, why, rows, _ in counts:
            dropped.update({why: rows} if why else {})
        return Outcome(
            decision.facts.rows,
            {part: rows for part, why, rows, _ in counts if why is None},
            {part: copies for part, why, _, copies in counts if why is None},
            dict(dropped),
            decision.ungrouped,
            decision.uncounted,
        )

    def rewind(self) -> None:
        """Make the inputs unread."""
        self.inputs = [read.afresh() for read in self.inputs]

    def _twin(self, fate: Fate, read: Input) -> str:
        """Where the row stands that a leaking row is the same as; for the few that are shown."""
        if self._decision is None or read.tally.counts.get(LEAK, 0) >= EXAMPLES:
            return ""
        found = self._decision.facts.twin(fate.id)
        return f"{one_line(self.files[found[0]].file.name)}:{found[1]}" if found else ""
