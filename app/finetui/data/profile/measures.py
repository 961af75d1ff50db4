"""Rows as one model sees them, measured: lengths, trained tokens, turns, roles, languages, and what is odd."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from tokenizers import Tokenizer

from finetui.core.encode import EncodeError, Template, View, encode_views, kind_of
from finetui.data.problems import EXAMPLES
from finetui.data.profile.languages import LOOKED_AT, language
from finetui.data.profile.lengths import Lengths

REFUSED, UNSTOPPED, UNTRAINED = "refused", "unstopped", "no-trained-token"
"""What is counted beside the figures: rows that the template refuses, rows that do not end in a stop token, rows that
train nothing."""
_COUNTERS = ("kinds", "turns", "roles", "languages", "counts")
_TRAINS_NOTHING = ("prompt",)
_STOPS_NOWHERE = ("steps",)

Example = tuple[int, dict[str, Any]]
"""The number of a row among the measured ones, from 0, and what is to be said of it."""


@dataclass
class Measures:
    """Figures of many rows. Those of others can be added, in any order, with the same result."""

    rows: int = 0
    """Records measured, refused ones among them."""
    sides: dict[str, Lengths] = field(default_factory=dict)
    """Lengths by side: `row`, or `chosen` and `rejected`, …"""
    kinds: Counter[str] = field(default_factory=Counter)
    """Records by kind."""
    turns: Counter[int] = field(default_factory=Counter)
    """Conversations by their number of user messages."""
    roles: Counter[str] = field(default_factory=Counter)
    """Messages by who speaks."""
    languages: Counter[str] = field(default_factory=Counter)
    """Records by language."""
    counts: Counter[str] = field(default_factory=Counter)
    """Records by what is odd with them."""
    examples: dict[str, list[Example]] = field(default_factory=dict)
    """The first few of each."""
    longest: list[tuple[int, int]] = field(default_factory=list)
    """The longest records: tokens of their longest side, and their number."""
    latest: list[tuple[int, int]] = field(default_factory=list)
    """Those in which something is trained farthest from the beginning: the position behind it, and their number."""

    def add(self, record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> None:
        """Measure one record."""
        number = self.rows
        self.rows += 1
        self.kinds[kind_of(record)] += 1
        try:
            views = encode_views(record, tokenizer, template)
        except EncodeError as error:
            self._note(REFUSED, number, {"problem": error.problems[0].to_wire()})
            return
        self._add_words(record, views[0].row.text)
        answers = [view.row.trained() for view in views]
        for view, found in zip(views, answers, strict=True):
            self.sides.setdefault(view.side, Lengths()).add(len(view.row.input_ids), found)
        self.longest = _greatest([*self.longest, (max(len(view.row.input_ids) for view in views), number)])
        if any(answers):
            self.latest = _greatest([*self.latest, (max(found[-1][1] for found in answers if found), number)])
        if views[0].side not in _TRAINS_NOTHING:
            self._judge(number, views, answers, tokenizer, template)

    def take(self, other: Measures, before: int) -> None:
        """Add the figures of other rows, `before` which so many were measured."""
        self.rows += other.rows
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        for side, lengths in other.sides.items():
            self.sides.setdefault(side, Lengths()).take(lengths)
        for code, found in other.examples.items():
            moved = [(number + before, fact) for number, fact in found]
            merged = sorted([*self.examples.get(code, []), *moved], key=lambda example: example[0])
            self.examples[code] = merged[:EXAMPLES]
        self.longest = _greatest([*self.longest, *((size, number + before) for size, number in other.longest)])
        self.latest = _greatest([*self.latest, *((end, number + before) for end, number in other.latest)])

    def shown(self) -> set[int]:
        """The numbers of all rows that are examples of something."""
        found = {number for examples in self.examples.values() for number, _ in examples}
        return found | {number for _, number in (*self.longest, *self.latest)}

    def lengths(self) -> Lengths:
        """The lengths of all sides together."""
        together = Lengths()
        for lengths in self.sides.values():
            together.take(lengths)
        return together

    def to_bytes(self) -> bytes:
        """The figures, for keeping and for travelling between processes."""
        counters = {name: list(getattr(self, name).items()) for name in _COUNTERS}
        sides = {side: lengths.to_json() for side, lengths in self.sides.items()}
        others = {"rows": self.rows, "examples": self.examples, "longest": self.longest, "latest": self.latest}
        return zlib.compress(orjson.dumps({**counters, **others, "sides": sides}), 1)

    @classmethod
    def from_bytes(cls, kept: bytes) -> Measures:
        """The inverse of `to_bytes`.

        Raises ValueError where it is something else.
        """
        try:
            value = orjson.loads(zlib.decompress(kept))
            return cls(
                rows=int(value["rows"]),
                sides={side: Lengths.from_json(lengths) for side, lengths in value["sides"].items()},
                **{name: Counter(dict(value[name])) for name in _COUNTERS},
                examples={code: [(n, fact) for n, fact in found] for code, found in value["examples"].items()},
                longest=[(size, n) for size, n in value["longest"]],
                latest=[(end, n) for end, n in value["latest"]],
            )
        except (zlib.error, KeyError, TypeError, AttributeError) as error:
            raise ValueError("no measures") from error

    def _add_words(self, record: Mapping[str, Any], text: str) -> None:
        messages = list(_messages(record))
        if messages:
            self.roles.update(message["role"] for message in messages)
            self.turns[sum(message["role"] == "user" for message in messages)] += 1
            said = (message.get("content") for message in messages if message["role"] in ("user", "assistant"))
            text = _beginning(word for word in said if word)
        self.languages[language(text)] += 1

    def _judge(
        self,
        number: int,
        views: Sequence[View],
        answers: Sequence[Sequence[tuple[int, int]]],
        tokenizer: Tokenizer,
        template: Template,
    ) -> None:
        """Note a record that trains nothing, or does not end in a stop token, on any of its sides."""
        for view, found in zip(views, answers, strict=True):
            if not found or found[-1][1] < 2:  # the first token of a row is never trained
                return self._note(UNTRAINED, number, {})
            last = view.row.labels[found[-1][1] - 1]
            if view.side not in _STOPS_NOWHERE and last not in template.stop_ids:
                return self._note(UNSTOPPED, number, {"token": tokenizer.id_to_token(last) or str(last)})
        return None

    def _note(self, code: str, number: int, fact: dict[str, Any]) -> None:
        self.counts[code] += 1
        found = self.examples.setdefault(code, [])
        if len(found) < EXAMPLES:
            found.append((number, fact))


def measurer(tokenizer: Tokenizer, template: Template) -> Callable[[Sequence[bytes]], bytes]:
    """What measures lines of data.jsonl, in this process or another."""

    def measure(lines: Sequence[bytes]) -> bytes:
        measures = Measures()
        for line in lines:
            measures.add(orjson.loads(line), tokenizer, template)
        return measures.to_bytes()

    return measure


def _messages(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The messages of a record; of a preference those of the chosen answer."""
    for key in ("messages", "prompt", "chosen", "completion"):
        if isinstance(record.get(key), list):
            yield from record[key]


def _beginning(texts: Iterator[str]) -> str:
    found: list[str] = []
    left = LOOKED_AT
    for text in texts:
        found.append(text[: max(1, LOOKED_AT // 4)])  # of each a part, so that a long first one is not all that is seen
        left -= len(found[-1])
        if left <= 0:
            break
    return "\n".join(found)


def _greatest(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The few with the greatest size, of equal ones the earlier."""
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:EXAMPLES]
