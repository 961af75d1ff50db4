"""Which layout is taken: the one that most sampled rows have, or the one that the user asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.data.formats import CONVERTED, TABLE, Adapter, Layout, flat_chat, text
from finetui.data.mapping import fit_mapping
from finetui.data.reading import Reading

STAGES = ("sft", "pt", "dpo", "rm", "orpo", "kto", "prm")
"""The stages that data can be wanted for."""
MAJORITY = 0.5
"""The share of the sampled rows that a layout must have to be taken."""


@dataclass(frozen=True)
class Choice:
    """The layout that was taken, fitted to the rows that have it."""

    format: str | None
    """An id of the inventory, or None where no layout has a majority."""
    adapter: Adapter | None
    stage: str | None
    rows: Sequence[Any]
    """The sampled rows that have the layout."""
    counts: Mapping[str, int]
    """How many sampled rows have each layout."""
    marked: int
    """How many sampled texts carry turn markers."""


def choose(rows: Sequence[Any], reading: Reading) -> Choice:
    """The layout of sampled rows, and its reading for the stage that is asked for.

    Raises FinetuiError: exit code 2 where a layout, a stage or columns are asked for that there are not, 3 where the
    layout does not serve the stage.
    """
    _refuse_unknown(reading)
    seen, marked = _layouts(rows)
    counts = Counter(layout for layout in seen if layout)
    best = _most_common(counts, len(rows))
    if reading.mapping:
        mapped = fit_mapping(reading.mapping, rows, reading.stage)
        if reading.format not in (None, mapped.format):
            facts = {"asked": reading.format, "format": mapped.format, "parts": ", ".join(reading.mapping)}
            raise FinetuiError(Problem("sources.map-format", facts), USAGE)
        return _serving(Choice(mapped.format, mapped.adapter, mapped.stage, rows, counts, marked), reading.stage)
    if reading.format is None and best is not None and reading.stage is not None and not _serves(best, reading.stage):
        best = _server(reading.stage, rows) or best
    taken = reading.format or best
    if taken is None or taken not in CONVERTED:
        return Choice(taken, None, None, [], counts, marked)
    own = [row for row, layout in zip(rows, seen, strict=True) if layout == taken]
    own = own or [row for row in rows if _has(taken, row)] or list(rows)
    adapter, stage = _fitted(CONVERTED[taken], own, reading.stage)
    return _serving(Choice(taken, adapter, stage, own, counts, marked), reading.stage)


def layout_of(row: Any) -> str | None:
    """The first layout of the table that recognises a row."""
    return next((layout.id for layout in TABLE if layout.recognise(row)), None)


def _layouts(rows: Sequence[Any]) -> tuple[list[str | None], int]:
    """The layout of each row, and how many texts carry turn markers: by that, all are rendered chats or none is."""
    seen = [layout_of(row) for row in rows]
    plain, rendered = text.LAYOUT.id, flat_chat.LAYOUT.id
    texts = [at for at, row in enumerate(rows) if seen[at] in (plain, rendered) and text.LAYOUT.recognise(row)]
    marked = sum(seen[at] == rendered for at in texts)
    for at in texts:
        seen[at] = rendered if marked >= flat_chat.SHARE * len(texts) else plain
    return seen, marked


def _most_common(counts: Counter[str], total: int) -> str | None:
    best, count = counts.most_common(1)[0] if counts else (None, 0)
    return best if count >= MAJORITY * total else None


def _refuse_unknown(reading: Reading) -> None:
    problems = []
    if reading.format is not None and reading.format not in CONVERTED:
        known = ", ".join(CONVERTED)
        problems.append(Problem("data.unknown-format", {"format": reading.format, "known": known}))
    if reading.stage is not None and reading.stage not in STAGES:
        problems.append(Problem("detect.unknown-stage", {"stage": reading.stage, "known": ", ".join(STAGES)}))
    if problems:
        raise FinetuiError(problems, USAGE)


def _has(format: str, row: Any) -> bool:
    return any(layout.recognise(row) for layout in TABLE if layout.id == format)


def _serves(format: str, stage: str) -> bool:
    layout = CONVERTED.get(format)
    return layout is not None and (layout.stage == stage or stage in layout.also)


def _server(stage: str, rows: Sequence[Any]) -> str | None:
    """The first layout for a stage that most rows have, strongest cue or not."""
    fit = (layout for layout in TABLE if _serves(layout.id, stage))
    return next((layout.id for layout in fit if sum(map(layout.recognise, rows)) >= MAJORITY * len(rows)), None)


def _fitted(layout: Layout, rows: Sequence[Any], stage: str | None) -> tuple[Adapter, str | None]:
    """The layout fitted to rows for a stage, and the stage that it serves then."""
    assert layout.fit is not None
    if stage is not None and stage in layout.also:
        return layout.also[stage](rows), stage
    return layout.fit(rows), layout.stage


def _serving(choice: Choice, stage: str | None) -> Choice:
    """The choice, where it serves the stage.

    Raises FinetuiError where it does not.
    """
    if stage is None or stage == choice.stage:
        return choice
    serves = ", ".join(filter(None, (choice.stage, *CONVERTED[choice.format or ""].also))) or "–"
    raise FinetuiError(Problem("data.wrong-stage", {"stage": stage, "format": choice.format, "serves": serves}))
