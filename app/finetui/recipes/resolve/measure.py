"""The lengths of the chosen rows under a model, measured or estimated, and remembered for the next plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui import __version__
from finetui.core import home
from finetui.core.files import read_json, sha256_json, write_json
from finetui.data.choose.chosen import ChosenRecords
from finetui.data.profile.lengths import Lengths
from finetui.data.reader import Record
from finetui.data.sources.found import PARTS, TRAIN, VALIDATION
from finetui.recipes.resolve.tokens import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finetui.core.encode import Template

Progress = Callable[[Mapping[str, Any]], None]
Measure = Callable[[Iterable[Record]], Lengths]


def measured(
    records: ChosenRecords, tokenizer: Tokenizer, template: Template, processes: int, on_progress: Progress | None
) -> Tokens:
    """The lengths of all chosen rows as the model will see them.

    Raises what reading and encoding raise.
    """
    from finetui.data.profile.profiles import profile

    def measure(rows: Iterable[Record]) -> Lengths:
        return profile(rows, tokenizer, template, processes=processes, on_progress=on_progress).measures.lengths()

    return _all_parts(records, measure)


def estimated(records: ChosenRecords, vocabulary: int) -> Tokens:
    """The same by their characters, where there is no tokenizer."""
    from finetui.data.profile.estimate import estimate

    return _all_parts(records, lambda rows: estimate(rows, vocabulary), estimated=True)


def _all_parts(records: ChosenRecords, measure: Measure, *, estimated: bool = False) -> Tokens:
    """One pass for the rows that are trained, and one for each part that is held out."""
    lengths = {TRAIN: measure(chosen.record for chosen in records if chosen.part == TRAIN)}
    written = records.outcome.written
    for part in PARTS:
        if part != TRAIN and written.get(part):
            lengths[part] = measure(chosen.record for chosen in records if chosen.part == part)
    return Tokens(
        train=lengths[TRAIN],
        rows=written.get(TRAIN, 0),
        held=lengths.get(VALIDATION, Lengths()),
        held_rows=written.get(VALIDATION, 0),
        longest=max(found.longest for found in lengths.values()),
        estimated=estimated,
    )


class Remembered:
    """What a plan measured before: told by the files that it was made of, their sizes, times and inodes.

    Only plans look here. A lock measures pieces that are told by their content.
    """

    def __init__(self, asked: Mapping[str, Any], files: Sequence[Path]) -> None:
        stats = [(str(path.absolute()), path.stat()) for path in sorted(files)]
        stamps = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats]
        self._key = sha256_json([__version__, dict(asked), stamps])

    def get(self) -> tuple[str | None, Tokens] | None:
        """The stage of the data and its lengths, where they are known."""
        try:
            kept = read_json(self._path())
            return kept["stage"], Tokens.kept(kept["tokens"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, stage: str | None, tokens: Tokens) -> None:
        """Keep them."""
        with contextlib.suppress(OSError):  # a full or read-only disk costs time, not truth
            self._path().parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path(), {"stage": stage, "tokens": tokens.keep()})

    def _path(self) -> Path:
        return home.home() / "cache" / "plans" / f"{self._key}.json"
