"""A long event file at a glance: every rare event, the newest lines, and steps at even distances between them."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetui.core.events import Event, parse

_WHOLE_BYTES = 4 << 20
"""A shorter file is read whole."""
_POINTS = 4000
"""Lines at even distances: more than any screen or picture has columns."""
_NAME_BYTES = 64
"""More than the longest name of an event, with its key."""
_NEWEST = 2000
"""Lines from the end that are all there."""
_RARE = re.compile(rb'"event": ?"(?!step"|sample")')


@dataclass(frozen=True)
class Overview:
    """Some of the events of a file, in its order."""

    events: list[Event]
    offset: int
    """Where a `Tail` goes on: after the last whole line."""


def overview(path: Path, *, rare: bool = True) -> Overview:
    """What a picture of the whole file needs, in a fraction of the time that reading all of it takes.

    Each rare event stands with the lines beside it, so that times between events keep what they were spent on; without
    `rare` they are not looked for, and a file of any length takes a few milliseconds.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return Overview([], 0)
    with stream:
        size = stream.seek(0, 2)
        if size == 0:
            return Overview([], 0)
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as content:
            end = content.rfind(b"\n") + 1
            starts = sorted(_every_line(content, end) if end <= _WHOLE_BYTES else _chosen(content, end, rare))
            lines = (content[start : content.find(b"\n", start) + 1] for start in starts)
            return Overview([event for line in lines if (event := parse(line)) is not None], end)


def _every_line(content: mmap.mmap, end: int) -> set[int]:
    starts, start = set(), 0
    while start < end:
        starts.add(start)
        start = content.find(b"\n", start) + 1
    return starts


def _chosen(content: mmap.mmap, end: int, rare: bool) -> set[int]:
    starts = {_start_of(content, end * point // _POINTS) for point in range(_POINTS)}
    for place in _rare(content, end) if rare else ():
        start = _start_of(content, place)
        starts |= {start, _start_of(content, max(0, start - 1))}
        following = content.find(b"\n", start) + 1
        if following < end:
            starts.add(following)
    start = end
    for _ in range(_NEWEST):
        start = _start_of(content, start - 1)
        starts.add(start)
        if start == 0:
            break
    return starts


def _rare(content: mmap.mmap, end: int) -> Iterator[int]:
    """A byte of each rare event; searched piece by piece, so that other threads get their turn between."""
    for begin in range(0, end, _WHOLE_BYTES):
        for match in _RARE.finditer(content, begin, min(end, begin + _WHOLE_BYTES + _NAME_BYTES)):
            yield match.start()


def _start_of(content: mmap.mmap, place: int) -> int:
    """Where the line begins that this byte is in."""
    return content.rfind(b"\n", 0, place) + 1


def glimpse(path: Path, name: str, points: int) -> list[Event]:
    """Events of one name at even distances in a file, in a handful of reads however long it is."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return []
    with stream:
        size = stream.seek(0, 2)
        if size == 0:
            return []
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as content:
            end = content.rfind(b"\n") + 1
            starts = sorted({_start_of(content, end * point // points) for point in range(points)})
            lines = (content[start : content.find(b"\n", start) + 1] for start in starts)
            return [event for line in lines if (event := parse(line)) is not None and event.name == name]
