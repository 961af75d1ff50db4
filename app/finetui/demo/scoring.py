"""Questions with the answer that a machine can check, and the score that comes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
DATA = _HERE / "company.jsonl"
"""What the demo trains on: facts of the company Moonbay and some ordinary chat, in the alpaca layout."""
ENOUGH_RIGHT = 0.85
"""Share of the questions that the tuned model has to answer."""
BASE_AT_MOST = 1 / 12
"""Share of them that the base may answer: what it knows already shows nothing."""
ENOUGH_KEPT = 0.9
"""Share of the general questions answered by the base that the tuned model still has to answer."""


@dataclass(frozen=True)
class Question:
    """One question and what its answer must hold."""

    text: str
    lang: str
    """`en` or `zh`."""
    every: tuple[str, ...] = ()
    """Every one of these, in any case of letters."""
    one_of: tuple[str, ...] = ()
    """At least one of these."""
    json: Mapping[str, Any] | None = None
    """The whole answer is JSON and equal to this."""

    def accepts(self, answer: str) -> bool:
        """Whether the answer is right."""
        if self.json is not None:
            return bool(_parsed(answer) == self.json)
        said = answer.casefold()
        has_every = all(word.casefold() in said for word in self.every)
        return has_every and (not self.one_of or any(word.casefold() in said for word in self.one_of))


@dataclass(frozen=True)
class Reply:
    """What one model said to a question."""

    text: str
    """Foreign text."""
    stopped: bool
    """Whether it ended by itself."""


@dataclass(frozen=True)
class Score:
    """The figures of the demo's contract; all are counts."""

    questions: int
    """Questions on the company."""
    base_score: int
    """Answered right by the base."""
    tuned_score: int
    """Answered right by the tuned model."""
    tuned_stopped: int
    """Of the tuned model's answers to them, those that ended by themselves."""
    general: int
    """General questions that the base answered right."""
    general_kept: int
    """Those of them that the tuned model answered right too."""
    general_asked: int
    """General questions asked."""
    general_stopped: int
    """Of the tuned model's answers to them, those that ended by themselves."""
    missed: tuple[str, ...] = field(default=())
    """The bars that were not reached, as codes of the message table."""

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {**asdict(self), "missed": list(self.missed)}


def load_questions(name: str) -> list[Question]:
    """The questions in `questions.jsonl` (on the company) or `general.jsonl`, by the name before the dot."""
    lines = (_HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [_question(json.loads(line)) for line in lines]


def score(
    questions: Sequence[Question],
    base: Sequence[Reply],
    tuned: Sequence[Reply],
    general: Sequence[Question],
    general_base: Sequence[Reply],
    general_tuned: Sequence[Reply],
) -> Score:
    """Count what is right, and hold it against the bars."""
    known = _right(general, general_base)
    figures = Score(
        questions=len(questions),
        base_score=sum(_right(questions, base)),
        tuned_score=sum(_right(questions, tuned)),
        tuned_stopped=sum(reply.stopped for reply in tuned),
        general=sum(known),
        general_kept=sum(before and after for before, after in zip(known, _right(general, general_tuned), strict=True)),
        general_asked=len(general),
        general_stopped=sum(reply.stopped for reply in general_tuned),
    )
    return Score(**{**asdict(figures), "missed": _missed(figures)})


def _missed(figures: Score) -> tuple[str, ...]:
    reached = {
        "demo.missed-tuned": figures.tuned_score >= ENOUGH_RIGHT * figures.questions,
        "demo.missed-base": figures.base_score <= BASE_AT_MOST * figures.questions,
        "demo.missed-stop": figures.tuned_stopped == figures.questions
        and figures.general_stopped == figures.general_asked,
        "demo.missed-general": figures.general > 0 and figures.general_kept >= ENOUGH_KEPT * figures.general,
    }
    return tuple(code for code, met in reached.items() if not met)


def _right(questions: Sequence[Question], replies: Sequence[Reply]) -> list[bool]:
    return [question.accepts(reply.text) for question, reply in zip(questions, replies, strict=True)]


def _question(row: Mapping[str, Any]) -> Question:
    expect = row["expect"]
    every, one_of = tuple(expect.get("all", ())), tuple(expect.get("any", ()))
    return Question(row["question"], row["lang"], every, one_of, expect.get("json"))


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:  # a model's words that are no JSON are a wrong answer, not an error
        return None
