"""Everything that is decided before a bundle is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetui.core.encode import Template
    from finetui.models.identify import ModelFacts

NAME = re.compile(r"\w[\w.-]{0,99}")
"""What a bundle may be called: it becomes part of file names and of `launch.sh`."""


@dataclass(frozen=True)
class LockPlan:
    """All that `write_bundle` needs beside the records; nothing in it names a place, a user or a time."""

    name: str
    """The bundle's name, matching `NAME`; `bundle_name` makes one of a path."""
    recipe_text: str
    """`recipe.toml` as it was asked for, comments kept."""
    stage: str
    """What is trained: `sft` or `pt`."""
    method: str
    """How: `lora` or `full`."""
    model: ModelFacts
    """The base model."""
    template: Template
    """How records become text, with the stop ids."""
    sources: Callable[[], Sequence[Mapping[str, Any]]]
    """The data files, as they stand in the lock: name, sha256, bytes, format, mapping, rows. Asked once all is read."""
    settings: Mapping[str, tuple[Any, str]]
    """Every knob of the training with its value and its reason; `max_length`, `overlong` and `seed` are read here."""
    rows_per_step: int
    """Rows per optimizer step, over all processes."""
    world_size: int
    """Training processes."""
    steps: Callable[[int], int]
    """Optimizer steps for a number of training rows."""
    environment: Mapping[str, Any]
    """The report of the worker `environment`: Python, packages, torch."""
    hardware: Mapping[str, Any]
    """The hardware kind that this is resolved for."""
    threads: int
    """CPU threads of each process."""
    chosen: Callable[[], Mapping[str, Any] | None] = lambda: None
    """How rows were chosen, as it stands in the lock; None where all are trained. Asked once all is read."""
    predicted: Mapping[str, Any] = field(default_factory=dict)
    """`peak_bytes` of a process's memory with its `band`, and `run_bytes` of disk, as they are predicted."""
    accept_rejected: bool = False
    """Go on where the template refuses more than one row in a hundred."""

    def value(self, knob: str) -> Any:
        """The resolved value of one knob."""
        return self.settings[knob][0]


def bundle_name(out: Path) -> str:
    """The name of a bundle that is written to `out`: the folder's, without `.bundle`, fit for `NAME`."""
    stem = out.name.removesuffix(".bundle")
    return re.sub(r"[^\w.-]+", "-", stem).lstrip(".-")[:100] or "bundle"
