"""What `inspect` and `convert` answer: the contracts, and the refusals that go with exit code 3."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.core.errors import BAD_INPUT, DONE, Problem, ShellWords
from finetui.core.text import PATH_LIMIT, one_line
from finetui.data.detection.readings import Alternative, Question
from finetui.data.problems import SET_ASIDE, Saying
from finetui.data.reader import REJECTED_LIMIT, FileReport, Input


@dataclass(frozen=True)
class Inspection:
    """What the data is, and what is wrong with it."""

    input: Input
    """The files after their full pass."""

    @property
    def format(self) -> str | None:
        """The id of the layout, or None."""
        return self.input.format

    @property
    def stage(self) -> str | None:
        """The training stage that the records serve, or None."""
        stages = {report.detection.stage for report in self.input.files}
        return stages.pop() if self.input.belongs_together and len(stages) == 1 else None

    @property
    def confidence(self) -> float:
        """The least confidence among the files; 0 where they differ."""
        return 0.0 if self._mixed else min(report.detection.confidence for report in self.input.files)

    @property
    def question(self) -> Question | None:
        """What the user should be asked, where a decision is a guess."""
        if self._mixed:
            return None
        return next((asked for report in self.input.files if (asked := report.detection.question)), None)

    def evidence(self) -> list[Saying]:
        """Why, sentence by sentence; of files that are alike, each kind of sentence once."""
        said: dict[tuple[str | None, str], Saying] = {}
        for report in self.input.files:
            for sentence in (*report.detection.evidence, *report.file.notes):
                said.setdefault((report.detection.format, sentence.code), sentence)
        first = [Saying("data.cue-mixed", {"formats": self._formats()})] if self._mixed else []
        kinds = Counter(report.detection.format for report in self.input.files)
        alike = [Saying("detect.alike", {"count": n - 1, "format": kind or "?"}) for kind, n in kinds.items() if n > 1]
        return [*first, *said.values(), *alike, *self.input.notes]

    def alternatives(self) -> list[Alternative]:
        """Other readings, the likeliest first; of files that are alike, each once."""
        found: dict[tuple[str, str], Alternative] = {}
        others = [other for report in self.input.files for other in report.detection.alternatives]
        for other in sorted(others, key=lambda other: -other.confidence):
            found.setdefault((other.format, other.why.code), other)
        return list(found.values())

    def refusals(self) -> list[Problem]:
        """Why nothing can be converted; empty where it can."""
        if self.input.converts:
            return []
        if 0 < self.input.total == sum(self.input.tally.counts.values()):
            return over_limit(self.input, accepted=True)
        if self._mixed:
            return [Problem("data.mixed-formats", {"formats": self._formats()})]
        return [self._unmapped(report) for report in self.input.files]

    def next(self) -> str | None:
        """The command that makes records of columns of no known layout, as far as their names tell; else None."""
        unmapped = self.refusals() if self.format == "table" else []
        return unmapped[0].next() if unmapped and unmapped[0].code == "sources.not-mapped" else None

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui inspect --json`."""
        files = self.input.files
        return {
            "format": self.format,
            "stage": self.stage,
            "confidence": self.confidence,
            "evidence": [sentence.text("en") for sentence in self.evidence()],
            "alternatives": [other.to_json() for other in self.alternatives()],
            "question": self.question and self.question.to_json(),
            "next": self.next(),
            "files": [
                {
                    "path": one_line(report.file.name, PATH_LIMIT),
                    "container": report.file.container,
                    "compression": report.file.compression,
                    "encoding": report.file.encoding,
                    "bytes": report.file.bytes,
                    "rows": report.total,
                    "format": report.detection.format,
                    "sha256": report.sha256,
                    "columns": list(report.detection.columns),
                    "mapping": dict(report.detection.adapter.mapping) if report.detection.adapter else {},
                    "dataset": one_line(report.found.dataset, PATH_LIMIT),
                    "weight": report.found.weight,
                    "part": report.found.part,
                }
                for report in files
            ],
            "rows": {
                "total": self.input.total,
                "usable": self.input.usable,
                "rejected": self.input.total - self.input.usable,
                "repaired": self.input.repaired,
            },
            "problems": self.input.tally.to_json(),
        }

    @property
    def _mixed(self) -> bool:
        return len({report.detection.format for report in self.input.files}) > 1 and not self.input.belongs_together

    def _unmapped(self, report: FileReport) -> Problem:
        """Why a file has no records: its columns are to be mapped first, or it is no training data."""
        facts = {"columns": ", ".join(report.detection.columns) or "–"}
        if self.format == "not-training-data":
            return Problem("data.not-training-data", facts, report.file.name)
        if mapping := report.detection.suggestion:
            asked = ShellWords(shlex.join(self.input.asked))
            return Problem("sources.not-mapped", {**facts, "mapping": mapping, "paths": asked}, report.file.name)
        return Problem("data.unknown-columns", facts, report.file.name)

    def _formats(self) -> str:
        """The first file of each layout and how many are like it, the layout of the fewest files first."""
        kinds: dict[str, list[str]] = {}
        for report in self.input.files:
            kinds.setdefault(report.detection.format or "?", []).append(report.file.name)
        found = sorted(kinds.items(), key=lambda kind: len(kind[1]))
        return "; ".join(
            f"{one_line(names[0])}: {layout}" + (f" (+{len(names) - 1})" if names[1:] else "")
            for layout, names in found
        )


@dataclass(frozen=True)
class Conversion:
    """What was written where, with the inspection that came of the same pass."""

    inspection: Inspection
    out: Path
    sha256: str | None
    """Of data.jsonl; None where nothing was written."""
    accepted: bool
    """Whether any number of rejected rows was agreed to."""
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """File, rows and sha256 of each part that was written."""
    chosen: Mapping[str, Any] | None = None
    """How rows were chosen, and what came of it; None where all are for training."""
    warnings: Sequence[Problem] = ()
    """What happened in choosing that was probably not meant."""

    def refusals(self) -> list[Problem]:
        """Why the exit code is 3; empty where all is well."""
        return self.inspection.refusals() or over_limit(self.inspection.input, self.accepted, str(self.out))

    @property
    def exit_code(self) -> int:
        """The exit code of `finetui convert`."""
        return BAD_INPUT if self.refusals() else DONE

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui convert --json`."""
        written = self.sha256 is not None
        names = {"data": str(self.out / "data.jsonl"), "rejected": str(self.out / "rejected.jsonl")}
        shown = {key: one_line(name, PATH_LIMIT) if written else None for key, name in names.items()}
        choosing = {"splits": dict(self.splits), "chosen": self.chosen}
        return {**self.inspection.to_json(), **choosing, "out": {**shown, "sha256": self.sha256}}


def over_limit(read: Input, accepted: bool, out: str | None = None) -> list[Problem]:
    """The refusal of an input of which more than 1 % was set aside, unless that was agreed to or nothing is left."""
    facts: dict[str, object] = {
        "rejected": read.total - read.usable,
        "total": read.total,
        "limit": f"{REJECTED_LIMIT:.0%}",
        "codes": ", ".join(code for code in read.tally.counts if code in SET_ASIDE),
        "paths": ShellWords(shlex.join(read.asked)),
        "out": out or "DIR",
    }
    if not read.usable:
        return [Problem("data.nothing-usable", facts)]
    return [Problem("data.too-many-rejected", facts)] if read.over_limit and not accepted else []
