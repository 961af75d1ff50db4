"""The chosen rows as files: one for each part, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from finetui.core.files import replacing
from finetui.data.choose.selection import Selection
from finetui.data.found import PART_FILES, TRAIN
from finetui.data.reader import Rejected


@dataclass
class PartFile:
    """One file of records as it was written."""

    name: str
    rows: int = 0
    """Lines, repeats by weight included."""
    digest: Any = field(default_factory=hashlib.sha256)

    def to_json(self) -> dict[str, Any]:
        """Its entry under `splits` of a report."""
        return {"file": self.name, "rows": self.rows, "sha256": self.digest.hexdigest()}


def write_parts(selection: Selection, out: Path, on_rejected: Callable[[Rejected], None]) -> dict[str, PartFile]:
    """Write each part that has rows; what was written, by part.

    Raises FinetuiError as `Selection.rows` does, OSError where a file cannot be written.
    """
    decision = selection.decided()  # what cannot be had is said before a file is opened
    if decision is None:
        return {TRAIN: _write_all(selection, out, on_rejected)}
    kept = {part for part, why, _, _ in decision.facts.counts() if why is None}
    with ExitStack() as stack:
        parts = {part: PartFile(name) for part, name in PART_FILES.items() if part in kept or part == TRAIN}
        streams: dict[str, IO[bytes]] = {
            part: stack.enter_context(replacing(out / written.name)) for part, written in parts.items()
        }
        for part, record in selection.rows(on_rejected):
            written = parts[part]
            streams[part].write(record.line)
            written.digest.update(record.line)
            written.rows += 1
    return parts


def _write_all(selection: Selection, out: Path, on_rejected: Callable[[Rejected], None]) -> PartFile:
    """The same where every row is for training, with next to nothing done for a row."""
    written = PartFile(PART_FILES[TRAIN])
    selection.rewind()
    with replacing(out / written.name) as stream:
        write, update = stream.write, written.digest.update
        for read in selection.inputs:
            for record in read.read(on_rejected):
                write(record.line)
                update(record.line)
    written.rows = selection.outcome.usable
    return written
