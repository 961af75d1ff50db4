"""The rows of an input read once more, each held against the rules of every tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from finetui.core.text import PATH_LIMIT, one_line
from finetui.data.elsewhere import llamafactory, trainers
from finetui.data.elsewhere.tool import EFFECT_OF, EFFECTS, KEPT, STOPS, Judge, Table, Tool
from finetui.data.files.containers import rows
from finetui.data.files.parsing import Repaired
from finetui.data.files.streams import opened
from finetui.data.problems import Place, RowProblem, Saying
from finetui.data.reader import FileReport

TOOLS: tuple[Tool, ...] = (llamafactory.TOOL, trainers.FASTCHAT, trainers.QWEN)


@dataclass
class Comparison:
    """What one tool would do with the rows."""

    tool: Tool
    effects: Counter[str] = field(default_factory=Counter)
    """Rows by the worst that happens to them."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Rows by code."""
    first: dict[str, Place] = field(default_factory=dict)
    """The first row of each code."""

    def add(self, codes: Sequence[str], place: Place) -> None:
        """Count one row."""
        worst = max((EFFECT_OF[code] for code in codes), key=EFFECTS.index, default=KEPT)
        self.effects[worst] += 1
        for code in dict.fromkeys(codes):
            self.reasons[code] += 1
            self.first.setdefault(code, place)

    def why(self, code: str) -> Saying:
        """What the tool does where `code` holds."""
        return Saying(f"elsewhere.{code}", {"tool": self.tool.name})

    @property
    def first_stop(self) -> Place | None:
        """Where the tool would stop with an error, and train nothing."""
        stops = [place for code, place in self.first.items() if EFFECT_OF[code] == STOPS]
        return min(stops, key=lambda place: place.row, default=None)

    def to_json(self) -> dict[str, Any]:
        """One entry of `other_tools` in `inspect --other-tools --json`; the four counts sum to all rows."""
        stop = self.first_stop
        return {
            "tool": self.tool.name,
            "source": self.tool.source,
            **{effect: self.effects[effect] for effect in EFFECTS},
            "first_stop": stop.to_json() if stop else None,
            "reasons": [
                {
                    "code": code,
                    "effect": EFFECT_OF[code],
                    "count": count,
                    "text": self.why(code).text("en"),
                    "file": one_line(self.first[code].file, PATH_LIMIT),
                    "row": self.first[code].row,
                    "line": self.first[code].line,
                }
                for code, count in self.reasons.most_common()
            ],
        }


def compare(files: Sequence[FileReport]) -> list[Comparison]:
    """Hold every row of the files against every tool, in one pass.

    Raises FinetuiError where a file cannot be read to its end.
    """
    found = [Comparison(tool) for tool in TOOLS]
    for report in files:
        table = _table(report)
        judges = [(comparison, comparison.tool.judge(table)) for comparison in found]
        with opened(report.file.path, report.file.name) as source:
            expand = report.detection.adapter.expand if report.detection.adapter else None
            found_rows = rows(report.file, source.stream)
            for number, (value, _, line, byte) in enumerate(expand(found_rows) if expand else found_rows, 1):
                place = Place(report.file.name, number, line, byte)
                for comparison, judge in judges:
                    comparison.add(_codes(judge, value), place)
    return found


def _codes(judge: str | Judge, value: Any) -> list[str]:
    if isinstance(judge, str):
        return [judge]
    if type(value) is RowProblem:
        return ["unreadable-row"]
    return list(judge(value.value if type(value) is Repaired else value))


def _table(report: FileReport) -> Table:
    detection, file = report.detection, report.file
    mapping = detection.adapter.mapping if detection.adapter else {}
    turns = mapping.get("messages", "") or mapping.get("prompt", "")
    column = turns.partition("[")[0]
    return Table(
        format=detection.format,
        container=file.container,
        compression=file.compression,
        encoding=file.encoding,
        ending=file.path.suffix.lower().lstrip("."),
        column=column if column in ("conversations", "conversation", "messages", "dialogue") else "",
        columns=frozenset(detection.columns),
    )
