"""The chosen rows as files: one for each part, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.data.choose.selection import Selection
from finetui.data.reader import Rejected
from finetui.data.sources.found import PART_FILES, TRAIN
from finetui.data.writing import hashed_file


@dataclass
class PartFile:
    """One file of records as it was written."""

    name: str
    rows: int = 0
    """Lines, repeats by weight included."""
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its entry under `splits` of a report."""
        return {"file": self.name, "rows": self.rows, "sha256": self.sha256}


def write_parts(selection: Selection, out: Path, on_rejected: Callable[[Rejected], None]) -> dict[str, PartFile]:
    """Write each part that has rows; what was written, by part.

    Raises FinetuiError as `Selection.rows` does, OSError where a file cannot be written.
    """
    decision = selection.decided()  # what cannot be had is said before a file is opened
    if decision is None:
        return {TRAIN: _write_all(selection, out, on_rejected)}
    kept = {part for part, why, _, _ in decision.facts.counts() if why is None}
    parts = {part: PartFile(name) for part, name in PART_FILES.items() if part in kept or part == TRAIN}
    with ExitStack() as stack:
        files = {part: stack.enter_context(hashed_file(out / written.name)) for part, written in parts.items()}
        for part, record in selection.rows(on_rejected):
            files[part].lines.write(record.line)
            parts[part].rows += 1
    for part, file in files.items():
        parts[part].sha256 = file.sha256
    return parts


def _write_all(selection: Selection, out: Path, on_rejected: Callable[[Rejected], None]) -> PartFile:
    """The same where every row is for training, with next to nothing done for a row."""
    written = PartFile(PART_FILES[TRAIN])
    selection.rewind()
    with hashed_file(out / written.name) as file:
        write = file.lines.write
        for read in selection.inputs:
            for block in read.lines(on_rejected):
                write(block)
    written.rows, written.sha256 = selection.outcome.usable, file.sha256
    return written
