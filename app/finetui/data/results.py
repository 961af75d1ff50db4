"""What `inspect` and `convert` answer: the contracts, and the refusals that go with exit code 3."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.errors import BAD_INPUT, DONE, Problem, ShellWords
from finetui.core.text import PATH_LIMIT, one_line
from finetui.data.detect import question
from finetui.data.formats import CONVERTED
from finetui.data.problems import SET_ASIDE, Saying
from finetui.data.reader import REJECTED_LIMIT, Input


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
        return CONVERTED[self.format].stage if self.format in CONVERTED else None

    @property
    def confidence(self) -> float:
        """The least confidence among the files; 0 where they differ."""
        mixed = len({report.detection.seen for report in self.input.files}) > 1
        return 0.0 if mixed else min(report.detection.confidence for report in self.input.files)

    def evidence(self) -> list[Saying]:
        """Why, sentence by sentence."""
        said = [sentence for report in self.input.files for sentence in report.detection.evidence]
        if len({report.detection.seen for report in self.input.files}) > 1:
            said.insert(0, Saying("data.cue-mixed", {"formats": self._formats()}))
        return said + self.input.notes

    def refusals(self) -> list[Problem]:
        """Why nothing can be converted; empty where it can."""
        files = self.input.files
        if self.input.converts:
            return []
        if 0 < self.input.total == sum(self.input.tally.counts.values()):
            return over_limit(self.input, accepted=True)
        if len({report.detection.seen for report in files}) > 1:
            return [Problem("data.mixed-formats", {"formats": self._formats()})]
        seen = files[0].detection.seen
        facts = {"columns": ", ".join(files[0].detection.columns) or "–", "format": seen or "–"}
        known = seen is not None and seen not in ("table", "not-training-data")
        code = "data.not-training-data" if seen == "not-training-data" else "data.unknown-columns"
        return [Problem("data.not-converted-yet" if known else code, facts, report.file.name) for report in files]

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui inspect --json`."""
        files = self.input.files
        others = [other for report in files for other in report.detection.alternatives]
        alternatives = [(other.format, other.confidence, other.why.text("en")) for other in others]
        return {
            "format": self.format,
            "stage": self.stage,
            "confidence": self.confidence,
            "evidence": [sentence.text("en") for sentence in self.evidence()],
            "alternatives": [dict(zip(("format", "confidence", "why"), other, strict=True)) for other in alternatives],
            "question": next((asked for report in files if (asked := question(report.detection))), None),
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

    def _formats(self) -> str:
        return "; ".join(f"{one_line(r.file.name)}: {r.detection.seen or '?'}" for r in self.input.files[:8])


@dataclass(frozen=True)
class Conversion:
    """What was written where, with the inspection that came of the same pass."""

    inspection: Inspection
    out: Path
    sha256: str | None
    """Of data.jsonl; None where nothing was written."""
    accepted: bool
    """Whether any number of rejected rows was agreed to."""

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
        return {**self.inspection.to_json(), "out": {**shown, "sha256": self.sha256}}


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
