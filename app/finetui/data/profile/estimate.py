"""Lengths of rows where there is no tokenizer: tokens by the number of characters, CJK ones counted apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetui.data.profile.lengths import Lengths
from finetui.data.reader import Record

_CJK = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_LARGE_VOCABULARY = 100_000
_A_MESSAGE = 5
"""Tokens that a template puts around a message: the turn's marks and its role."""
_ANSWERS = ("chosen", "rejected", "completion")

Piece = tuple[int, bool]
"""Tokens of a stretch, and whether it is trained."""


@dataclass(frozen=True)
class Rates:
    """Tokens a character, on the safe side of what tokenizers of this size come to."""

    cjk: float
    other: float

    @classmethod
    def of(cls, vocabulary: int) -> Rates:
        """Vocabularies of 100 000 and more hold Chinese words; smaller ones spell characters, some of them by bytes."""
        return cls(0.75, 0.27) if vocabulary >= _LARGE_VOCABULARY else cls(1.6, 0.31)

    def tokens(self, text: str) -> int:
        """Tokens of a text."""
        cjk = len(_CJK.findall(text))
        return round(cjk * self.cjk + (len(text) - cjk) * self.other)


def estimate(records: Iterable[Record], vocabulary: int) -> Lengths:
    """The lengths of all sides of all rows under a tokenizer with so many tokens."""
    rates, lengths = Rates.of(vocabulary), Lengths()
    for record in records:
        for pieces in _sides(record.record, rates):
            _add(lengths, pieces)
    return lengths


def _add(lengths: Lengths, pieces: Iterable[Piece]) -> None:
    position, answers = 0, []
    for tokens, trained in pieces:
        if trained and tokens:
            answers.append((position, position + tokens))
        position += tokens
    lengths.add(position, answers)


def _sides(record: Mapping[str, Any], rates: Rates) -> Iterator[list[Piece]]:
    """The pieces of each row that a record makes."""
    tools = [(rates.tokens(str(record["tools"])), False)] if record.get("tools") else []
    if "messages" in record:
        yield tools + [_message(message, rates) for message in record["messages"]]
    elif "segments" in record:
        yield [(rates.tokens(part["text"]), part["label"]) for part in record["segments"]]
    elif "input_ids" in record:
        yield [(len(record["input_ids"]), True)]
    elif "text" in record:
        yield [(rates.tokens(str(record["text"])), True)]
    elif "completions" in record:
        steps = [(rates.tokens(str(step)), True) for step in record["completions"]]
        yield [(rates.tokens(str(record["prompt"])), False), *steps]
    else:
        asked = tools + [(tokens, False) for tokens, _ in _turns(record.get("prompt"), rates)]
        sides = [_turns(record[side], rates) for side in _ANSWERS if side in record]
        yield from ([*asked, *side] for side in sides or [[]])


def _turns(value: Any, rates: Rates) -> list[Piece]:
    if isinstance(value, list):
        return [_message(message, rates) for message in value]
    return [(rates.tokens(str(value or "")), True)]


def _message(message: Mapping[str, Any], rates: Rates) -> Piece:
    words = [message.get(key) for key in ("content", "thinking", "tool_calls")]
    tokens = sum(rates.tokens(word if isinstance(word, str) else str(word)) for word in words if word)
    return tokens + _A_MESSAGE, message.get("role") == "assistant" and message.get("train", True) is not False
