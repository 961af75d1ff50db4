"""One row as it is trained, and which of its tokens are."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding

from finetui.core.encode.turns import Span

NOT_TRAINED = -100
_LEARNED = re.compile(b"\x01+")


@dataclass(frozen=True)
class Encoded:
    """One training row."""

    text: str
    """The rendering; for raw text, the text."""
    input_ids: list[int]
    labels: list[int]
    """The ids where they are trained, -100 where not; as long as `input_ids`."""
    spans: tuple[Span, ...]
    """What of the text is trained, by character offsets; empty for a row that came as ids."""
    omitted: tuple[tuple[int, str], ...] = ()
    """Message and part (thinking, a system prompt) that the template leaves out of this rendering, or cuts."""

    def trained(self) -> list[tuple[int, int]]:
        """The stretches of trained tokens, each from its first to behind its last; mostly one for each answer."""
        return [found.span() for found in _LEARNED.finditer(bytes(map(NOT_TRAINED.__ne__, self.labels)))]


def labelled(ids: list[int], encoding: Encoding, spans: Sequence[Span]) -> list[int]:
    """The labels of a rendering's `ids`: a token is trained where any of its characters lies in a span.

    A token of no characters counts where it stands: tokenizers may leave a token's spaces out of its offsets, down to
    nothing. Tokens stand in the order of their offsets, so the ends of a span are searched for, not walked to.
    """
    labels = [NOT_TRAINED] * len(ids)
    tokens = range(len(ids))
    first = 0
    for span in spans:
        first = bisect_left(tokens, True, first, key=lambda token: _reaches(encoding, token, span.start))
        last = bisect_left(tokens, True, first, key=lambda token: _starts(encoding, token) >= span.end)
        labels[first:last] = ids[first:last]
        first = last
    return labels


def _reaches(encoding: Encoding, token: int, character: int) -> bool:
    """Whether a token ends behind a character, or stands at it without any of its own."""
    start, end = encoding.token_to_chars(token) or (0, 0)
    return end > character or start >= character


def _starts(encoding: Encoding, token: int) -> int:
    return (encoding.token_to_chars(token) or (0, 0))[0]
