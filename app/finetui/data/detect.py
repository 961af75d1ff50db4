"""Which layout the sampled rows of a file have, how sure that is, why, and what else it could be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.formats import CONVERTED, TABLE, Adapter
from finetui.data.problems import Saying
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.sample import Sample

NOTHING_TO_CONVERT = ("table", "not-training-data")
_MAJORITY = 0.5
_CLOSE = 0.2
_COLUMNS = 12


@dataclass(frozen=True)
class Alternative:
    """Another reading of the data, and why it was not taken."""

    format: str
    confidence: float
    why: Saying


@dataclass(frozen=True)
class Detection:
    """What one file was found to be."""

    format: str | None
    """An id of the inventory, or None where no layout has a majority or the layout is not converted yet."""
    seen: str | None
    """The layout that was recognised, also where it cannot be converted."""
    confidence: float
    """Share of the sampled rows that have the layout, 0 to 1."""
    evidence: tuple[Saying, ...]
    alternatives: tuple[Alternative, ...]
    columns: tuple[str, ...]
    """Columns of the sampled rows, the most frequent first, harmless to show."""
    adapter: Adapter | None
    """How its rows become records; None where nothing is converted."""


def detect(sample: Sample, reading: Reading = AS_DETECTED) -> Detection:
    """Decide the layout of one file from its sample; `reading` overrides the decision, not the figures.

    Raises FinetuiError (exit 2) where `reading` asks for no layout that can be converted.
    """
    asked = reading.format
    if asked is not None and asked not in CONVERTED:
        known = ", ".join(CONVERTED)
        raise FinetuiError(Problem("data.unknown-format", {"format": asked, "known": known}), USAGE)
    found = [layout_of(row) for row in sample.values]
    counts = Counter(layout for layout in found if layout)
    total = max(1, sample.looked_at)
    best, count = counts.most_common(1)[0] if counts else (None, 0)
    if asked is not None:
        best, count = asked, counts[asked]
    elif best is not None and count < _MAJORITY * len(found):
        best = None
    columns = _columns(sample.values)
    alternatives = tuple(
        Alternative(other, round(number / total, 4), Saying("data.why-minority", {"count": number, "total": total}))
        for other, number in counts.most_common()
        if other != best and other not in NOTHING_TO_CONVERT
    )
    adapter = None
    if best in CONVERTED and (fit := CONVERTED[best].fit):
        adapter = fit([row for row, layout in zip(sample.values, found, strict=True) if layout == best])
    evidence = _evidence(best, count, total, columns, adapter, asked)
    format = best if adapter or best in NOTHING_TO_CONVERT else None
    return Detection(format, best, round(count / total, 4), evidence, alternatives, columns, adapter)


def layout_of(row: Any) -> str | None:
    """The first layout of the table that recognises a row."""
    return next((layout.id for layout in TABLE if layout.recognise(row)), None)


def question(detection: Detection) -> dict[str, Any] | None:
    """What to ask where two layouts share a file almost evenly, so that the majority is a guess."""
    rival = next((other for other in detection.alternatives if other.format in CONVERTED), None)
    if detection.adapter is None or rival is None or detection.confidence - rival.confidence > _CLOSE:
        return None
    choices = [detection.format or "", rival.format]
    return {
        "id": "format",
        "text": Saying("data.question-format", {"first": choices[0], "second": choices[1]}).text("en"),
        "options": [{"value": choice, "label": choice, "flags": ["--format", choice]} for choice in choices],
        "default": choices[0],
    }


def _evidence(
    best: str | None, count: int, total: int, columns: tuple[str, ...], adapter: Adapter | None, asked: str | None
) -> tuple[Saying, ...]:
    said = [Saying("data.cue-asked", {"format": asked})] if asked else []
    if adapter is not None:
        cue = Saying(f"{adapter.cue.code}", {**adapter.cue.facts, "count": count, "total": total})
        return (*said, cue)
    seen = Saying("data.cue-columns-seen", {"columns": ", ".join(columns) or "–"})
    if best is None:
        return (Saying("data.cue-no-majority", {"total": total}), seen)
    cues = " / ".join(layout.cue for layout in TABLE if layout.id == best)
    code = "data.cue-nothing" if best in NOTHING_TO_CONVERT else "data.cue-by-sight"
    return (Saying(code, {"count": count, "total": total, "cue": cues, "format": best}), seen)


def _columns(rows: list[Any]) -> tuple[str, ...]:
    counts = Counter(column for row in rows if type(row) is dict for column in row)
    return tuple(one_line(column, 40) for column, _ in counts.most_common(_COLUMNS))
