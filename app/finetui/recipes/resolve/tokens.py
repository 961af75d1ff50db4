"""How long the rows are that will be trained, as far as memory and time ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from finetui.data.profile.lengths import Cut, Lengths, spread, total

_BINS = 24
_MOST_TRAINED = 8192


@dataclass(frozen=True)
class Tokens:
    """The lengths of a dataset under one model."""

    train: Lengths
    """Of what is trained; of a preference, both answers."""
    rows: int
    """Records that are trained; a preference is one."""
    held: Lengths = field(default_factory=Lengths)
    """Of what is evaluated while training."""
    held_rows: int = 0
    longest: int = 0
    """Tokens of the longest row of all parts."""
    estimated: bool = False
    """Whether tokens were estimated from characters, for want of a tokenizer."""

    @cached_property
    def most_trained(self) -> tuple[int, ...]:
        """Trained tokens of the rows with the most, in descending order."""
        return tuple(_descending(self.train.trained))

    @cached_property
    def most_trained_held(self) -> tuple[int, ...]:
        """The same of evaluation rows."""
        return tuple(_descending(self.held.trained))

    @cached_property
    def loads(self) -> dict[int, Load]:
        """What the rows come to under every cutoff that was asked of `load_of` so far."""
        return {}

    @cached_property
    def _cuts(self) -> dict[int, Cut]:
        return {}

    def cut(self, max_length: int) -> Cut:
        """What training loses where rows end after `max_length` tokens."""
        if max_length not in self._cuts:
            self._cuts[max_length] = self.train.cut(max_length)
        return self._cuts[max_length]

    def left(self, max_length: int, overlong: str) -> int:
        """Records that are trained under a cutoff, as `overlong` (drop or cut) has it."""
        cut = self.cut(max_length)
        lost = (cut.losing if overlong == "drop" else cut.emptied) + self.train.trained[0]
        return max(0, self.rows - lost)

    def to_json(self) -> dict[str, Any]:
        """The entry `tokens` of the contract of `plan`."""
        return {
            **spread(self.train.tokens),
            "total": total(self.train.tokens),
            "trained": total(self.train.trained),
            "rows": self.rows,
            "evaluation_rows": self.held_rows,
            "estimated": self.estimated,
        }

    def keep(self) -> dict[str, Any]:
        """Everything, for a cache."""
        facts = {"rows": self.rows, "held_rows": self.held_rows, "longest": self.longest, "estimated": self.estimated}
        return {**facts, "train": self.train.to_json(), "held": self.held.to_json()}

    @classmethod
    def kept(cls, value: Mapping[str, Any]) -> Tokens:
        """The inverse of `keep`.

        Raises KeyError, TypeError or ValueError where it is something else.
        """
        return cls(
            train=Lengths.from_json(value["train"]),
            rows=int(value["rows"]),
            held=Lengths.from_json(value["held"]),
            held_rows=int(value["held_rows"]),
            longest=int(value["longest"]),
            estimated=bool(value["estimated"]),
        )


@dataclass(frozen=True)
class Load:
    """The rows of one cutoff, as batches of them are counted."""

    max_length: int
    longest: int
    """Tokens of the longest row after cutting."""
    bins: tuple[tuple[int, float], ...]
    """Lengths in ascending order, each with the share of rows that are no longer and longer than the one before."""
    trained: tuple[int, ...] | None
    """Trained tokens of the rows with the most, in descending order; None where nothing is known of them."""
    held_longest: int = 0
    """Tokens of the longest evaluation row after cutting; 0 where there is none."""
    held_trained: tuple[int, ...] = ()
    """Trained tokens of the evaluation rows with the most, in descending order."""

    @property
    def mean(self) -> float:
        """Tokens of a row on average."""
        return sum(length * share for length, share in self.bins)

    @property
    def seen(self) -> float:
        """Length of the row that a token stands in, on average over tokens."""
        return sum(length * length * share for length, share in self.bins) / self.mean

    def most_trained(self, rows: int, positions: int) -> int | None:
        """The most trained tokens that so many rows in so many positions can hold; None where that is not known."""
        return None if self.trained is None else min(positions, sum(self.trained[:rows]))

    def sorted_rows(self, rows: int) -> list[int]:
        """The lengths to be expected of so many rows drawn at random, the longest first: evenly spaced quantiles."""
        found: list[int] = []
        length, below = self.bins[0][0], 0.0
        ascending = iter(self.bins)
        for place in range(rows):
            while below < (place + 0.5) / rows:
                length, share = next(ascending, (length, 1.0))
                below += share
            found.append(length)
        return found[::-1]


def load_of(tokens: Tokens | None, max_length: int) -> Load:
    """What rows come to under a cutoff; without data every row is taken to fill it."""
    if tokens is None or not tokens.train.rows:
        return Load(max_length, max_length, ((max_length, 1.0),), None)
    if max_length not in tokens.loads:
        cut = Counter[int]()
        for length, rows in tokens.train.tokens.items():
            cut[max(2, min(length, max_length))] += rows
        trained = tuple(min(count, max_length) for count in tokens.most_trained)
        held = min(max_length, tokens.held.longest) if tokens.held.rows else 0
        evaluated = tuple(min(count, max_length) for count in tokens.most_trained_held)
        tokens.loads[max_length] = Load(max_length, max(cut), binned(cut), trained, held, evaluated)
    return tokens.loads[max_length]


def _descending(counts: Counter[int]) -> list[int]:
    """The greatest values, each as often as it occurs, at most `_MOST_TRAINED` together."""
    found: list[int] = []
    for value in sorted(counts, reverse=True):
        found += [value] * min(counts[value], _MOST_TRAINED - len(found))
        if len(found) == _MOST_TRAINED:
            break
    return found


def binned(counts: Counter[int]) -> tuple[tuple[int, float], ...]:
    """At most `_BINS` lengths that stand for all: of neighbours the greatest, so that the longest row stays."""
    rows, longest = counts.total(), max(counts)
    found: list[tuple[int, float]] = []
    waiting = 0
    for length in sorted(counts):
        waiting += counts[length]
        if waiting >= rows / _BINS or length == longest:
            found.append((length, waiting / rows))
            waiting = 0
    return tuple(found)
