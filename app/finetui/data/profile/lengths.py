"""How long rows are in tokens, where in them something is learned, and what any cutoff would take away.

Everything is kept as counts by position, so the figures of many rows add up, and any cutoff is answered exactly later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

_SURE = 1.96
"""Standard errors to either side that hold the true value in 95 of 100 samples."""


@dataclass(frozen=True)
class Cut:
    """What is lost where rows end after `max_length` tokens."""

    max_length: int
    rows: int
    """Rows that are longer."""
    losing: int
    """Rows that lose tokens that would be trained."""
    emptied: int
    """Rows of which nothing trained is left."""
    tokens: int
    """Trained tokens lost."""
    answers: int
    """Answers lost whole."""
    broken: int
    """Answers that lose their end, and with it their stop token."""


@dataclass
class Lengths:
    """Counts over encoded rows. The first token of a row is predicted from nothing, so it never counts as trained."""

    tokens: Counter[int] = field(default_factory=Counter)
    """Rows by their number of tokens."""
    trained: Counter[int] = field(default_factory=Counter)
    """Rows by their number of trained tokens."""
    starts: Counter[int] = field(default_factory=Counter)
    """Answers (stretches of trained tokens) by the position of their first token."""
    ends: Counter[int] = field(default_factory=Counter)
    """Answers by the position behind their last token."""
    firsts: Counter[int] = field(default_factory=Counter)
    """Rows by the position of their first trained token; rows without one are not in it."""
    lasts: Counter[int] = field(default_factory=Counter)
    """Rows by the position behind their last trained token."""

    def add(self, tokens: int, answers: Sequence[tuple[int, int]]) -> None:
        """Count one row of so many tokens, and the stretches of it that are trained, each from its first to behind its
        last."""
        self.tokens[tokens] += 1
        learned = [(max(1, start), end) for start, end in answers if end > 1]
        self.trained[sum(end - start for start, end in learned)] += 1
        self.starts.update(start for start, _ in learned)
        self.ends.update(end for _, end in learned)
        if learned:
            self.firsts[learned[0][0]] += 1
            self.lasts[learned[-1][1]] += 1

    def take(self, other: Lengths) -> None:
        """Add the counts of other rows."""
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))

    @property
    def rows(self) -> int:
        """Rows counted."""
        return self.tokens.total()

    @property
    def longest(self) -> int:
        """Tokens of the longest row, 0 where there is none."""
        return max(self.tokens, default=0)

    def cut(self, max_length: int) -> Cut:
        """What is lost where rows end after `max_length` tokens."""
        answers = _beyond(self.starts, max_length)
        return Cut(
            max_length=max_length,
            rows=_beyond(self.tokens, max_length + 1),
            losing=_beyond(self.lasts, max_length + 1),
            emptied=_beyond(self.firsts, max_length),
            tokens=_overhang(self.ends, max_length) - _overhang(self.starts, max_length),
            answers=answers,
            broken=_beyond(self.ends, max_length + 1) - answers,
        )

    def to_json(self) -> dict[str, Any]:
        """The counts, for keeping."""
        return {each.name: sorted(getattr(self, each.name).items()) for each in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lengths:
        """The inverse of `to_json`.

        Raises KeyError, TypeError or ValueError where it is something else.
        """
        return cls(**{each.name: Counter({int(k): int(n) for k, n in value[each.name]}) for each in fields(cls)})


def total(counts: Counter[int]) -> int:
    """The sum of all values."""
    return sum(value * count for value, count in counts.items())


def percentile(counts: Counter[int], share: float) -> int:
    """The least value that at least `share` of them do not exceed, 0 where there is none."""
    return _at_rank(counts, math.ceil(share * counts.total()))


def spread(counts: Counter[int]) -> dict[str, int]:
    """`p50`, `p95` and `max` of all values."""
    return {"p50": percentile(counts, 0.5), "p95": percentile(counts, 0.95), "max": max(counts, default=0)}


def percentile_interval(counts: Counter[int], share: float, population: int) -> tuple[int, int]:
    """Where the percentile of all `population` values lies with 95 % certainty, `counts` being a fair sample of them.

    The ranks come of the normal approximation of the binomial count below the percentile, with the correction for a
    sample that is a good part of a finite whole (Conover, Practical Nonparametric Statistics, 3.2).
    """
    rows = counts.total()
    margin = _SURE * math.sqrt(rows * share * (1 - share) * _left_out(rows, population))
    if not margin:
        return (percentile(counts, share),) * 2
    return _at_rank(counts, math.floor(rows * share - margin)), _at_rank(counts, math.ceil(rows * share + margin) + 1)


def total_interval(counts: Counter[int], population: int) -> tuple[int, int]:
    """Where the sum over all `population` values lies with 95 % certainty, by the spread of the sample's values."""
    rows = counts.total()
    if rows < 2:
        return (total(counts),) * 2
    mean = total(counts) / rows
    variance = sum(count * (value - mean) ** 2 for value, count in counts.items()) / (rows - 1)
    margin = _SURE * math.sqrt(variance / rows * _left_out(rows, population))
    return round(population * max(0.0, mean - margin)), round(population * (mean + margin))


def share_interval(count: int, rows: int, population: int) -> tuple[float, float]:
    """Where the share of all `population` rows lies with 95 % certainty, `count` of `rows` sampled ones having it.

    Wilson's score interval, which stays sensible where nothing or nearly nothing was met.
    """
    if not rows or rows >= population:
        return (count / rows if rows else 0.0,) * 2
    squared = _SURE**2 * _left_out(rows, population)
    middle = (count + squared / 2) / (rows + squared)
    margin = math.sqrt(squared * (count * (rows - count) / rows + squared / 4)) / (rows + squared)
    return max(0.0, middle - margin), min(1.0, middle + margin)


def bins(counts: Counter[int], most: int = 12) -> list[tuple[int, int, int]]:
    """Least and greatest value and number of at most `most` bins of equal round width, from the least value on."""
    if not counts:
        return []
    low, high = min(counts), max(counts)
    width = _round_width((high - low + 1) / most)
    first = low // width
    found = [0] * (high // width - first + 1)
    for value, count in counts.items():
        found[value // width - first] += count
    return [((first + i) * width, (first + i + 1) * width - 1, count) for i, count in enumerate(found)]


def _at_rank(counts: Counter[int], rank: int) -> int:
    """The value at a rank from 1 in ascending order; the nearest there is."""
    seen = value = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return value
    return value


def _left_out(rows: int, population: int) -> float:
    """The correction of a variance for sampling without replacement: none of a small sample, all of a whole."""
    return max(0.0, (population - rows) / (population - 1)) if population > 1 else 0.0


def _beyond(counts: Counter[int], least: int) -> int:
    return sum(count for value, count in counts.items() if value >= least)


def _overhang(counts: Counter[int], limit: int) -> int:
    return sum(count * (value - limit) for value, count in counts.items() if value > limit)


def _round_width(width: float) -> int:
    """The least of 1, 2, 5, 10, 20, 50, … that is no less than `width`."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= width:
                return step * power
        power *= 10
