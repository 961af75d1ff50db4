"""`inspect`: recognise the data, read it through once, and say what it is and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from finetui.data.reader import Progress, open_input
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.results import Inspection
from finetui.data.sources.find import Spec


def inspect(
    specs: Sequence[Spec],
    reading: Reading = AS_DETECTED,
    *,
    similarity: float | None = None,
    on_progress: Progress | None = None,
) -> Inspection:
    """What the data that `specs` name is; `reading` overrides the detection.

    With `similarity` rows that share so much of their text with an earlier one are told too.

    Raises FinetuiError where a file cannot be read, or where the data does not serve the stage it is wanted for.
    """
    read = open_input(specs, reading)
    read.similarity, read.on_progress = similarity, on_progress
    for _ in read.lines():
        pass
    return Inspection(read)
