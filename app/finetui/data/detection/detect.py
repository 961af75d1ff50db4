"""Which layout the sampled rows of a file have, how sure that is, why, and what else it could be.

Confidence = share × (1 − doubt / 2). The share is of the sampled rows that have the layout's shape: those that become
records, and those that are set aside for what they hold (an empty answer, an image), not for a column that is absent,
a value of another type, or bytes that cannot be read. The doubt is the weight of the likeliest other reading of the
same rows, 0 where a cue tells them apart, 1 where they are equally likely; that reading gets share × doubt / 2. So 1
means that every row has the shape and nothing else fits, and two readings that are a coin toss have a half each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetui.core.text import one_line
from finetui.data.detection.choice import MAJORITY, Choice, choose
from finetui.data.detection.doubts import doubts
from finetui.data.detection.readings import Alternative, Doubt, Option, Other, Question
from finetui.data.files.sample import Sample
from finetui.data.formats import CONVERTED, Adapter
from finetui.data.formats.layout import without_meta
from finetui.data.mapping.suggest import suggest
from finetui.data.problems import Note, RowProblem, Saying
from finetui.data.reading import AS_DETECTED, Reading

_OTHER_SHAPE = frozenset({"missing-key", "wrong-type", "not-an-object", "unknown-role"})
_CLOSE = 0.2
_COLUMNS = 12


@dataclass(frozen=True)
class Detection:
    """What one file was found to be."""

    format: str | None
    """An id of the inventory, or None where no layout has a majority."""
    confidence: float
    """From 0 to 1, as the module says."""
    evidence: tuple[Saying, ...]
    alternatives: tuple[Alternative, ...]
    columns: tuple[str, ...]
    """Columns of the sampled rows, the most frequent first, harmless to show."""
    adapter: Adapter | None
    """How its rows become records; None where nothing is converted."""
    stage: str | None = None
    """The training stage that its records serve."""
    question: Question | None = None
    """What the user should be asked, where the decision is a guess."""
    suggestion: str | None = None
    """The line for `--map` that is likely right where the columns are none of a known layout."""


@dataclass(frozen=True)
class _Trial:
    """What becomes of the sampled rows under an adapter."""

    good: int
    shaped: int
    """Rows that have the layout's shape, the good ones among them."""
    codes: Counter[str]


def detect(sample: Sample, reading: Reading = AS_DETECTED) -> Detection:
    """Decide the layout of one file from its sample; `reading` overrides the decision, not the figures.

    Raises FinetuiError: exit code 2 where `reading` asks for a layout, a stage or columns that there are not, 3 where
    the data does not serve the stage.
    """
    rows, total = sample.values, max(1, sample.looked_at)
    choice = choose(rows, reading)
    columns = _columns(rows)
    minority = _minority(choice, total)
    if choice.adapter is None:
        confidence = round(choice.counts.get(choice.format or "", 0) / total, 4)
        mapping = suggest(rows) if choice.format != "not-training-data" else None
        evidence = _nothing(choice, total, columns)
        return Detection(choice.format, confidence, evidence, minority, columns, None, suggestion=mapping)
    trial = _tried(choice, choice.adapter, rows)
    found = doubts(choice, choice.adapter)
    decided = bool(reading.format or reading.mapping or reading.stage)
    others = [] if decided else [doubt.other for doubt in found if doubt.other]
    share, doubt = trial.shaped / total, max((other.weight for other in others), default=0.0)
    return Detection(
        choice.format,
        round(share * (1 - doubt / 2), 4),
        _evidence(reading, choice, choice.adapter, trial, sample, found),
        (*(_alternative(other, share) for other in others), *minority),
        columns,
        choice.adapter if reading.keep_meta else without_meta(choice.adapter),
        choice.stage,
        None if decided else _question(choice, share, found, minority),
    )


def _tried(choice: Choice, adapter: Adapter, rows: Sequence[Any]) -> _Trial:
    """Convert the sampled rows; where its rows are not the container's, those that have the layout count as good."""
    codes: Counter[str] = Counter()
    if adapter.expand is not None:
        return _Trial(len(rows), choice.counts.get(choice.format or "", 0), codes)
    notes: list[Note] = []
    for row in rows:
        try:
            adapter.convert(row, notes)
        except RowProblem as problem:
            codes[problem.code] += 1
    return _Trial(len(rows) - codes.total(), len(rows) - sum(codes[code] for code in _OTHER_SHAPE), codes)


def _alternative(other: Other, share: float) -> Alternative:
    return Alternative(other.format, round(share * other.weight / 2, 4), other.why, other.flags)


def _minority(choice: Choice, total: int) -> tuple[Alternative, ...]:
    """The layouts that other rows have, the most frequent first."""
    found = [
        (format, count)
        for format, count in choice.counts.items()
        if format != choice.format and format in CONVERTED and count < MAJORITY * total
    ]
    return tuple(
        Alternative(
            format,
            round(count / total, 4),
            Saying("data.why-minority", {"count": _number(count), "total": _number(total)}),
            ("--format", format),
        )
        for format, count in sorted(found, key=lambda pair: -pair[1])
    )


def _question(choice: Choice, share: float, found: Sequence[Doubt], minority: Sequence[Alternative]) -> Question | None:
    """What to ask: which of two layouts that share a file almost evenly, else what a doubt asks."""
    if minority and share - minority[0].confidence <= _CLOSE:
        both = (choice.format or "", minority[0].format)
        text = Saying("data.question-format", {"first": both[0], "second": both[1]})
        name = "detect.option-layout"
        return Question("format", text, tuple(Option(f, Saying(name, {"format": f}), ("--format", f)) for f in both))
    return next((doubt.question for doubt in found if doubt.question), None)


def _evidence(
    reading: Reading, choice: Choice, adapter: Adapter, trial: _Trial, sample: Sample, found: Sequence[Doubt]
) -> tuple[Saying, ...]:
    """Why, sentence by sentence: what was asked for, the cue, what becomes of the rows, and what else was seen."""
    total = sample.looked_at
    said = [Saying("data.cue-asked", {"format": choice.format})] if reading.format else []
    said += [Saying("detect.stage-asked", {"stage": reading.stage})] if reading.stage else []
    seen = choice.counts.get(choice.format or "", 0)
    count = trial.shaped if reading.mapping or reading.format else seen
    facts = {"count": _number(count), "total": _number(total)}
    said.append(Saying(adapter.cue.code, {**adapter.cue.facts, **facts}))
    lost = trial.codes + Counter({"unparsable/encoding": total - len(sample.values)})
    if lost:
        codes = ", ".join(f"{code} × {_number(number)}" for code, number in lost.most_common())
        said.append(Saying("detect.share", {"good": _number(trial.good), "total": _number(total), "codes": codes}))
    return (*said, *(told for doubt in found for told in doubt.told))


def _nothing(choice: Choice, total: int, columns: tuple[str, ...]) -> tuple[Saying, ...]:
    """Why nothing is converted."""
    shown = Saying("data.cue-columns-seen", {"columns": ", ".join(columns) or "–"})
    if choice.format is None:
        return (Saying("data.cue-no-majority", {"total": _number(total)}), shown)
    facts = {"count": _number(choice.counts[choice.format]), "total": _number(total)}
    return (Saying(f"detect.cue-{choice.format}", facts), shown)


def _number(count: int) -> str:
    """A count in groups of three."""
    return f"{count:,}".replace(",", " ")


def _columns(rows: Sequence[Any]) -> tuple[str, ...]:
    counts = Counter(column for row in rows if type(row) is dict for column in row)
    return tuple(one_line(column, 40) for column, _ in counts.most_common(_COLUMNS))
