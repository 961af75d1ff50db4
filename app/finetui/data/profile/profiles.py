"""The profile of a dataset under one model's tokenizer and template: measured in several processes, kept by content.

A dataset is measured in pieces of lines. What a piece came to is kept under the digest of its bytes, of the tokenizer
and of the template, so data that only grew, or is locked after it was looked at, is not tokenised again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.core import home
from finetui.core.files import canonical_json
from finetui.core.parallel import in_order
from finetui.data.files.reservoir import Reservoir
from finetui.data.problems import Place
from finetui.data.reader import Record

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finetui.core.encode import Template
    from finetui.data.profile.measures import Measures

Progress = Callable[[Mapping[str, Any]], None]
_VERSION = 1
"""To be raised whenever the same rows come to other figures."""
_PIECE_BYTES = 1 << 19
"""Some 0.3 s of work."""


@dataclass
class Profile:
    """What a dataset is under one model."""

    measures: Measures
    rows: int = 0
    """Rows that could be used; more than were measured where a sample was drawn."""
    places: dict[int, Place] = field(default_factory=dict)
    """Where the measured rows that are examples of something stand, by their number."""

    @property
    def exact(self) -> bool:
        """Whether every row was measured."""
        return self.measures.rows == self.rows

    @property
    def longest(self) -> int:
        """Tokens of the longest row measured."""
        return self.measures.lengths().longest


@dataclass
class _Piece:
    start: int
    """Number of its first row among those measured."""
    lines: list[bytes] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


def profile(
    records: Iterable[Record],
    tokenizer: Tokenizer,
    template: Template,
    *,
    sample: int | None = None,
    processes: int = 1,
    on_progress: Progress | None = None,
) -> Profile:
    """Measure the rows, or `sample` of them that are drawn over the whole of the data, in one pass.

    Raises what the records raise, and FinetuiError where the template does not come to an end.
    """
    from finetui.data.profile.measures import Measures, measurer

    found = Profile(Measures())
    store = _Store(tokenizer, template)
    waiting: deque[tuple[_Piece, str]] = deque()

    def take(piece: _Piece, measures: Measures) -> None:
        found.measures.take(measures, piece.start)
        shown = found.measures.shown()
        found.places = {n: place for n, place in found.places.items() if n in shown}
        found.places |= {n: piece.places[n - piece.start] for n in shown if 0 <= n - piece.start < len(piece.lines)}
        if on_progress is not None:
            on_progress({"stage": "profile", "done": found.measures.rows, "total": 0 if sample is None else sample})

    def unknown() -> Iterator[list[bytes]]:
        for piece in _pieces(_counted(found, records), sample):
            key = store.key(piece.lines)
            if (kept := store.get(key)) is not None:
                take(piece, kept)
            else:
                waiting.append((piece, key))
                yield piece.lines

    for answer in in_order(partial(measurer, tokenizer, template), unknown(), processes):
        piece, key = waiting.popleft()
        store.put(key, answer)
        take(piece, Measures.from_bytes(answer))
    return found


def _counted(found: Profile, records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        found.rows += 1
        yield record


def _pieces(records: Iterable[Record], sample: int | None) -> Iterator[_Piece]:
    """The lines to be measured, some hundred kilobytes at a time."""
    rows: Iterable[tuple[bytes, Place]] = ((record.line, record.place) for record in records)
    if sample is not None:
        drawn: Reservoir[tuple[bytes, Place]] = Reservoir(sample)
        for row in rows:
            drawn.offer(row, len(row[0]))
        rows = drawn.items()
    piece, size = _Piece(0), 0
    for line, place in rows:
        piece.lines.append(line)
        piece.places.append(place)
        size += len(line)
        if size >= _PIECE_BYTES:
            yield piece
            piece, size = _Piece(piece.start + len(piece.lines)), 0
    if piece.lines:
        yield piece


class _Store:
    """What pieces came to, a file each under `cache/profiles`; one that cannot be read or written is none."""

    def __init__(self, tokenizer: Tokenizer, template: Template) -> None:
        import tokenizers

        from finetui import __version__

        how = [_VERSION, __version__, tokenizers.__version__, canonical_json(template.to_json()), tokenizer.to_str()]
        self._digest = hashlib.sha256("\n".join(map(str, how)).encode("utf-8", "backslashreplace"))
        self._folder: Path | None = None
        with contextlib.suppress(OSError):
            self._folder = home.folder("cache") / "profiles"
            self._folder.mkdir(exist_ok=True)

    def key(self, lines: Iterable[bytes]) -> str:
        """The name of a piece under this tokenizer and template."""
        digest = self._digest.copy()
        for line in lines:
            digest.update(line)
        return digest.hexdigest()

    def get(self, key: str) -> Measures | None:
        """What a piece came to, where that is known."""
        from finetui.data.profile.measures import Measures

        if self._folder is None:
            return None
        try:
            return Measures.from_bytes((self._folder / key).read_bytes())
        except (OSError, ValueError):
            return None

    def put(self, key: str, measures: bytes) -> None:
        """Keep what a piece came to."""
        if self._folder is None:
            return
        part = self._folder / f".{key}.{os.getpid()}"
        with contextlib.suppress(OSError):  # a full or read-only disk costs time, not truth
            part.write_bytes(measures)
            os.replace(part, self._folder / key)
