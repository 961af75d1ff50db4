"""Chosen rows for the rooms above: opened by what the user named, judged, and with what the lock keeps of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from finetui.core.errors import FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.choose.choosing import Choosing
from finetui.data.choose.decide import Count
from finetui.data.choose.report import report, warnings
from finetui.data.choose.selection import Chosen, Outcome, Selection
from finetui.data.reader import Input, open_input
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.records import DataSource
from finetui.data.results import Inspection, over_limit
from finetui.data.sources.find import Spec


def open_datasets(
    specs: Sequence[Spec], reading: Reading = AS_DETECTED, evaluation: Sequence[Spec] = ()
) -> list[Input]:
    """The data that `specs` name, each dataset for itself, so that their layouts may differ.

    Raises FinetuiError where a file cannot be read, where a layout cannot be converted, or where stages differ.
    """
    read = open_input(specs, reading, evaluation)
    inputs = [
        replace(read.afresh(), files=list(files), asked=(dataset.name,))
        for (dataset, _), files in groupby(read.files, lambda report: (report.found.of, report.found.part))
    ]
    inspections = [Inspection(each) for each in inputs]
    if refused := [problem for inspection in inspections for problem in inspection.refusals()]:
        raise FinetuiError(refused)
    stages = {inspection.stage or "–": inspection.input.files[0].file.name for inspection in inspections}
    if len(stages) > 1:
        told = ", ".join(f"{one_line(name)}: {stage}" for stage, name in stages.items())
        raise FinetuiError(Problem("choose.mixed-stages", {"stages": told}, next(iter(stages.values()))))
    return inputs


class ChosenRecords:
    """The chosen records of some datasets, iterated as often as needed; the rest is complete after each time."""

    def __init__(
        self, inputs: Sequence[Input], choosing: Choosing, count: Count | None = None, *, accept_rejected: bool = False
    ) -> None:
        self._selection = Selection(inputs, choosing, count)
        self._accept = accept_rejected

    def __iter__(self) -> Iterator[Chosen]:
        """Every chosen row in order.

        Raises FinetuiError as `Selection.rows` does, and at the end where more than 1 % of a dataset's rows were set
        aside and that was not accepted, or where nothing of it is usable.
        """
        yield from self._selection.rows()
        refused = [problem for read in self._selection.inputs for problem in over_limit(read, self._accept)]
        if refused:
            raise FinetuiError(refused)

    @property
    def sources(self) -> list[DataSource]:
        """The files read, in order."""
        return [DataSource.of(report) for report in self._selection.files]

    @property
    def outcome(self) -> Outcome:
        """What became of the rows."""
        return self._selection.outcome

    def report(self) -> dict[str, Any] | None:
        """How rows were chosen, as report.json and lock.json keep it; None where all are trained."""
        return report(self._selection)

    def warnings(self) -> list[Problem]:
        """What happened that was probably not meant."""
        return warnings(self._selection)
