"""Which characters of a rendering are trained: an answer from where serving hands over to its stop token.

What serving sends (the header) is not trained; what the model has to write before its text (`<think>`), all of its
text, and the stop token are; what follows the stop token (a newline, the next header) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from finetui.core.encode.marks import GENERATED, Parsed, Text


@dataclass(frozen=True)
class Span:
    """A stretch of the rendering that is trained."""

    start: int
    end: int
    """Character offsets in the rendering."""
    message: int
    """Index of the message that it belongs to; 0 for raw text."""
    part: str
    """`content`, `thinking`, `tool_calls`, `markup` (what the template puts around them), `stop`, or `text`."""


@dataclass(frozen=True)
class Frame:
    """What stands around answers in one template."""

    headers: tuple[str, ...]
    """What serving writes before an answer; longest first."""
    stops: tuple[str, ...]
    """Tokens that end an answer."""
    specials: Callable[[], frozenset[str]]
    """All special tokens of the tokenizer; asked for only where a turn ends without a stop token."""


@dataclass(frozen=True)
class _Turn:
    start: int
    stop: int
    """Where the stop token begins; `end` where there is none."""
    end: int
    texts: tuple[Text, ...]


def spans_of(parsed: Parsed, trained: frozenset[int], frame: Frame) -> tuple[Span, ...]:
    """The spans of the messages in `trained`, by start.

    The template's own generation marks decide where it has them, else the texts and what stands around them.
    """
    texts = [text for text in parsed.texts if text.part != GENERATED]
    marks = [text for text in parsed.texts if text.part == GENERATED]
    turns = (
        [_marked_turn(parsed.text, mark, texts, frame) for mark in marks]
        if marks
        else [_found_turn(parsed.text, texts, first, last, frame) for first, last in _runs(texts)]
    )
    spans: list[Span] = []
    message = -1
    for turn in turns:
        message = turn.texts[0].message if turn.texts else message
        if message in trained:
            spans += _divided(turn, message)
    return tuple(spans)


def first_stop(text: str, start: int, end: int, stops: Sequence[str]) -> tuple[int, int] | None:
    """Where the earliest of the stop tokens lies in `text[start:end]`."""
    found = [(at, at + len(stop)) for stop in stops if (at := text.find(stop, start, end)) >= 0]
    return min(found, default=None)


def _runs(texts: Sequence[Text]) -> list[tuple[int, int]]:
    """First and last index of each run of texts that belong to the same message."""
    groups = [list(group) for _, group in groupby(range(len(texts)), key=lambda index: texts[index].message)]
    return [(group[0], group[-1]) for group in groups]


def _found_turn(text: str, texts: Sequence[Text], first: int, last: int, frame: Frame) -> _Turn:
    before = texts[first - 1].end if first else 0
    after = texts[last + 1].start if last + 1 < len(texts) else len(text)
    start = _header_end(text, before, texts[first].start, frame.headers, texts[first].start)
    inside = tuple(texts[first : last + 1])
    if stop := first_stop(text, texts[last].end, after, frame.stops):
        return _Turn(start, *stop, inside)
    end = _end_without_stop(text, texts[last].end, after, frame)
    return _Turn(start, end, end, inside)


def _marked_turn(text: str, mark: Text, texts: Sequence[Text], frame: Frame) -> _Turn:
    inside = tuple(found for found in texts if mark.start <= found.start and found.end <= mark.end)
    if not inside:
        return _Turn(mark.start, mark.end, mark.end, ())
    first = inside[0].start
    before = max((found.end for found in texts if found.end <= mark.start), default=0)
    # a mark may include the header, in whole or in part: what serving sends is not trained
    start = max(mark.start, _header_end(text, before, first, frame.headers, mark.start))
    after = min((found.start for found in texts if found.start >= mark.end), default=len(text))
    stop = first_stop(text, inside[-1].end, after, frame.stops)
    if stop and (stop[0] < mark.end or not text[mark.end : stop[0]].strip()):
        return _Turn(start, *stop, inside)
    return _Turn(start, mark.end, mark.end, inside)


def _header_end(text: str, start: int, end: int, headers: Sequence[str], otherwise: int) -> int:
    """Where the last header in `text[start:end]` ends; `otherwise` where there is none."""
    found = [(at, at + len(header)) for header in headers if (at := text.rfind(header, start, end)) >= 0]
    return max(found)[1] if found else otherwise


def _end_without_stop(text: str, start: int, end: int, frame: Frame) -> int:
    """The end of a turn that no stop token closes: the next special token, or the end of the conversation."""
    special = first_stop(text, start, end, tuple(frame.specials()))
    if special is not None:
        return start + len(text[start : special[0]].rstrip())
    return len(text.rstrip()) if end == len(text) else start


def _divided(turn: _Turn, message: int) -> list[Span]:
    spans: list[Span] = []
    cursor = turn.start

    def add(end: int, part: str) -> None:
        nonlocal cursor
        if end > cursor:
            spans.append(Span(cursor, end, message, part))
            cursor = end

    for text in turn.texts:
        add(text.start, "markup")
        add(text.end, text.part)
    add(turn.stop, "markup")
    add(turn.end, "stop")
    return spans
