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

from finetui.core.errors import BAD_INPUT, USAGE, FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.doubts import doubts
from finetui.data.formats import CONVERTED, TABLE, Adapter, flat_chat, text
from finetui.data.mapping import fit_mapping
from finetui.data.mapping.suggest import suggest
from finetui.data.problems import Note, RowProblem, Saying
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.readings import Doubt, Option, Other, Question
from finetui.data.sample import Sample

NOTHING_TO_CONVERT = ("table", "not-training-data")
STAGES = ("sft", "pt", "dpo", "rm", "orpo", "kto", "prm")
"""The stages that data can be wanted for."""
_OTHER_SHAPE = frozenset({"missing-key", "wrong-type", "not-an-object", "unknown-role"})
_MAJORITY = 0.5
_CLOSE = 0.2
_COLUMNS = 12


@dataclass(frozen=True)
class Alternative:
    """Another reading of the data, why it was not taken, and the flags that take it."""

    format: str
    confidence: float
    why: Saying
    flags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The entry of `alternatives`."""
        why = self.why.text("en")
        return {"format": self.format, "confidence": self.confidence, "why": why, "flags": list(self.flags)}


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
class _Choice:
    """A layout that was decided for, fitted."""

    format: str | None
    adapter: Adapter | None = None
    stage: str | None = None


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
    _refuse_unknown(reading)
    rows, total = sample.values, max(1, sample.looked_at)
    seen = _layouts(rows)
    counts = Counter(layout for layout in seen if layout)
    choice = _decide(reading, rows, seen, counts)
    columns = _columns(rows)
    minority = [
        Alternative(other, round(number / total, 4), _why_minority(number, total), ("--format", other))
        for other, number in counts.most_common()
        if other != choice.format and other in CONVERTED and number < _MAJORITY * total
    ]
    if choice.adapter is None:
        confidence = round(counts[choice.format or ""] / total, 4)
        evidence = _nothing(choice.format, counts, total, columns)
        mapping = suggest(rows) if choice.format != "not-training-data" else None
        return Detection(choice.format, confidence, evidence, tuple(minority), columns, None, suggestion=mapping)
    trial = _tried(choice.adapter, rows) or _Trial(total, counts[choice.format or ""], Counter())
    found = doubts(choice.format or "", _of(choice.format, rows, seen), choice.adapter)
    decided = bool(reading.format or reading.mapping or reading.stage)
    others = [] if decided else [doubt.other for doubt in found if doubt.other]
    share, doubt = trial.shaped / total, max((other.weight for other in others), default=0.0)
    alternatives = (*(_alternative(other, share) for other in others), *minority)
    asked = None if decided else _question(choice, share, found, minority)
    evidence = _evidence(reading, choice, counts, trial, sample, found)
    confidence = round(share * (1 - doubt / 2), 4)
    return Detection(choice.format, confidence, evidence, alternatives, columns, choice.adapter, choice.stage, asked)


def layout_of(row: Any) -> str | None:
    """The first layout of the table that recognises a row."""
    return next((layout.id for layout in TABLE if layout.recognise(row)), None)


def _layouts(rows: Sequence[Any]) -> list[str | None]:
    """The layout of each row; of texts alone, all are rendered chats or none is, by how many carry turn markers."""
    seen = [layout_of(row) for row in rows]
    alike = (text.LAYOUT.id, flat_chat.LAYOUT.id)
    texts = [at for at, row in enumerate(rows) if seen[at] in alike and text.LAYOUT.recognise(row)]
    marked = sum(seen[at] == flat_chat.LAYOUT.id for at in texts)
    for at in texts:
        seen[at] = flat_chat.LAYOUT.id if marked >= flat_chat.SHARE * len(texts) else text.LAYOUT.id
    return seen


def _refuse_unknown(reading: Reading) -> None:
    problems = []
    if reading.format is not None and reading.format not in CONVERTED:
        known = ", ".join(CONVERTED)
        problems.append(Problem("data.unknown-format", {"format": reading.format, "known": known}))
    if reading.stage is not None and reading.stage not in STAGES:
        problems.append(Problem("detect.unknown-stage", {"stage": reading.stage, "known": ", ".join(STAGES)}))
    if problems:
        raise FinetuiError(problems, USAGE)


def _decide(reading: Reading, rows: Sequence[Any], seen: Sequence[str | None], counts: Counter[str]) -> _Choice:
    """The layout that is taken, and its reading for the stage that is asked for.

    Raises FinetuiError where it serves none such.
    """
    if reading.mapping:
        mapped = fit_mapping(reading.mapping, rows, reading.stage)
        return _serving(_Choice(mapped.format, mapped.adapter, mapped.stage), reading.stage)
    if reading.format:
        return _fitted(reading.format, reading.stage, rows, seen)
    best, count = counts.most_common(1)[0] if counts else (None, 0)
    if best is None or count < _MAJORITY * len(rows):
        return _Choice(None)
    if best not in CONVERTED:
        return _Choice(best if best in NOTHING_TO_CONVERT else None)
    if reading.stage is not None and not _serves(best, reading.stage):
        best = _server(reading.stage, rows) or best
    return _fitted(best, reading.stage, rows, seen)


def _serves(format: str, stage: str) -> bool:
    return CONVERTED[format].stage == stage or stage in CONVERTED[format].also


def _server(stage: str, rows: Sequence[Any]) -> str | None:
    """The first layout for a stage that most rows have, strongest cue or not."""
    for layout in TABLE:
        if layout.fit and _serves(layout.id, stage) and 2 * sum(map(layout.recognise, rows)) >= len(rows):
            return layout.id
    return None


def _fitted(format: str, stage: str | None, rows: Sequence[Any], seen: Sequence[str | None]) -> _Choice:
    layout, own = CONVERTED[format], _of(format, rows, seen) or rows
    if stage is not None and stage in layout.also:
        return _Choice(format, layout.also[stage](own), stage)
    assert layout.fit is not None
    return _serving(_Choice(format, layout.fit(own), layout.stage), stage)


def _serving(choice: _Choice, stage: str | None) -> _Choice:
    """The choice, where it serves the stage.

    Raises FinetuiError where it does not.
    """
    if stage is None or stage == choice.stage:
        return choice
    serves = ", ".join(filter(None, (choice.stage, *CONVERTED[choice.format or ""].also))) or "–"
    raise FinetuiError(
        Problem("data.wrong-stage", {"stage": stage, "format": choice.format, "serves": serves}), BAD_INPUT
    )


def _of(format: str | None, rows: Sequence[Any], seen: Sequence[str | None]) -> list[Any]:
    """The rows that have a layout: first of all, else among others."""
    own = [row for row, layout in zip(rows, seen, strict=True) if layout == format]
    tests = [layout.recognise for layout in TABLE if layout.id == format]
    return own or [row for row in rows if any(test(row) for test in tests)]


def _tried(adapter: Adapter, rows: Sequence[Any]) -> _Trial | None:
    """Convert the sampled rows; None where its rows are not the container's."""
    if adapter.expand is not None:
        return None
    codes: Counter[str] = Counter()
    notes: list[Note] = []
    for row in rows:
        try:
            adapter.convert(row, notes)
        except RowProblem as problem:
            codes[problem.code] += 1
    good = len(rows) - codes.total()
    return _Trial(good, len(rows) - sum(codes[code] for code in _OTHER_SHAPE), codes)


def _alternative(other: Other, share: float) -> Alternative:
    return Alternative(other.format, round(share * other.weight / 2, 4), other.why, other.flags)


def _why_minority(count: int, total: int) -> Saying:
    return Saying("data.why-minority", {"count": _number(count), "total": _number(total)})


def _question(
    choice: _Choice, share: float, found: Sequence[Doubt], minority: Sequence[Alternative]
) -> Question | None:
    """What to ask: which of two layouts that share a file almost evenly, else what a doubt asks."""
    if minority and share - minority[0].confidence <= _CLOSE:
        both = (choice.format or "", minority[0].format)
        text = Saying("data.question-format", {"first": both[0], "second": both[1]})
        name = "detect.option-layout"
        return Question("format", text, tuple(Option(f, Saying(name, {"format": f}), ("--format", f)) for f in both))
    return next((doubt.question for doubt in found if doubt.question), None)


def _evidence(
    reading: Reading, choice: _Choice, counts: Counter[str], trial: _Trial, sample: Sample, found: Sequence[Doubt]
) -> tuple[Saying, ...]:
    """Why, sentence by sentence: what was asked for, the cue, what becomes of the rows, and what else was seen."""
    assert choice.adapter is not None
    total = sample.looked_at
    said = [Saying("data.cue-asked", {"format": choice.format})] if reading.format else []
    said += [Saying("detect.stage-asked", {"stage": reading.stage})] if reading.stage else []
    cue = choice.adapter.cue
    count = trial.shaped if reading.mapping or reading.format else counts[choice.format or ""]
    said.append(Saying(cue.code, {**cue.facts, "count": _number(count), "total": _number(total)}))
    lost = trial.codes + Counter({"unparsable/encoding": total - len(sample.values)})
    if lost:
        codes = ", ".join(f"{code} × {_number(number)}" for code, number in lost.most_common())
        said.append(Saying("detect.share", {"good": _number(trial.good), "total": _number(total), "codes": codes}))
    return (*said, *(told for doubt in found for told in doubt.told))


def _nothing(format: str | None, counts: Counter[str], total: int, columns: tuple[str, ...]) -> tuple[Saying, ...]:
    """Why nothing is converted."""
    shown = Saying("data.cue-columns-seen", {"columns": ", ".join(columns) or "–"})
    if format is None:
        return (Saying("data.cue-no-majority", {"total": _number(total)}), shown)
    cue = next(layout.cue for layout in TABLE if layout.id == format)
    facts = {"count": _number(counts[format]), "total": _number(total), "cue": cue, "format": format}
    return (Saying("data.cue-nothing", facts), shown)


def _number(count: int) -> str:
    """A count in groups of three."""
    return f"{count:,}".replace(",", " ")


def _columns(rows: Sequence[Any]) -> tuple[str, ...]:
    counts = Counter(column for row in rows if type(row) is dict for column in row)
    return tuple(one_line(column, 40) for column, _ in counts.most_common(_COLUMNS))
