"""`inspect`: recognise the data, read it through once, and say what it is and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetui.core.errors import FinetuiError, Problem
from finetui.data.reader import open_input
from finetui.data.results import Inspection


def inspect(paths: Sequence[Path], *, format: str | None = None, stage: str | None = None) -> Inspection:
    """What the data under `paths` is; `format` overrides the detection, `stage` is what it is wanted for.

    Raises FinetuiError where a file cannot be read, or where the data does not serve `stage`.
    """
    read = open_input(paths, format)
    for _ in read.read():
        pass
    inspection = Inspection(read)
    if stage is not None and inspection.stage != stage:
        facts = {"stage": stage, "format": inspection.format or "–", "serves": inspection.stage or "–"}
        raise FinetuiError(Problem("data.wrong-stage", facts))
    return inspection
