"""What is said in a chat: messages, and answers with how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]
"""`role` and `content`."""


@dataclass(frozen=True)
class Answer:
    """What a model said."""

    text: str
    """Its words; foreign text."""
    stop_reason: str
    """`stop` by itself, `length` cut at max_new_tokens, `cancelled`."""
    tokens: int
    """Tokens made, the stop token counted."""
    seconds: float
    """Time of the batch that it was made in."""
    ids: tuple[int, ...] = ()
    """Its tokens, the stop token with them; none where they are not known."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of this answer."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def conversation(text: str, system: str | None = None) -> list[Message]:
    """One question as messages."""
    return [*_system(system), {"role": "user", "content": text}]


def _system(system: str | None) -> Iterator[Message]:
    if system:
        yield {"role": "system", "content": system}
