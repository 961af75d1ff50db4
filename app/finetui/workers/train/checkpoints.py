"""Checkpoints: complete only once `complete.json` stands in them, and pruned only after that."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .adapter import sha256
from .events import Events
from .record import write_json

MARKER = "complete.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Sealed:
    """A complete checkpoint."""

    path: Path
    step: int
    evaluation_loss: float | None
    """Of the weights in it; None where they were not evaluated."""


class Checkpoints(TrainerCallback):
    """Seals each checkpoint that the Trainer has saved, then removes the oldest beyond `keep`; never the best one."""

    def __init__(self, keep: int, keep_best: bool, data_digest: str, events: Events) -> None:
        self._keep = keep
        self._keep_best = keep_best
        self._data_digest = data_digest
        self._events = events
        self._evaluated: tuple[int, float | None] = (0, None)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: object,
    ) -> None:
        """Remember the loss for the checkpoint of the same step, which is saved after it."""
        self._evaluated = (state.global_step, metrics["eval_loss"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Wait for every process's part, then seal it."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"{PREFIX}{state.global_step}"
        step, loss = self._evaluated
        seal(folder, state.global_step, self._data_digest, loss if step == state.global_step else None)
        self._events.write("checkpoint", state.global_step, path=f"{folder.parent.name}/{folder.name}")
        prune(folder.parent, self._keep, self._keep_best)


def seal(folder: Path, step: int, data_digest: str, evaluation_loss: float | None) -> None:
    """Sync every file of a checkpoint to disk, then say in its marker what it holds."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        files[path.name] = sha256(path)
    marker = {"v": 1, "step": step, "data_digest": data_digest, "evaluation_loss": evaluation_loss, "files": files}
    write_json(folder / MARKER, marker)


def sealed(parent: Path) -> list[Sealed]:
    """The complete checkpoints, oldest first."""
    markers = {path.parent: json.loads(path.read_text(encoding="utf-8")) for path in parent.glob(f"{PREFIX}*/{MARKER}")}
    found = [Sealed(path, marker["step"], marker["evaluation_loss"]) for path, marker in markers.items()]
    return sorted(found, key=lambda one: one.step)


def best(parent: Path) -> Sealed | None:
    """The complete checkpoint with the lowest evaluation loss, the earliest of equals; None where none has one."""
    evaluated = [one for one in sealed(parent) if one.evaluation_loss is not None]
    return min(evaluated, key=lambda one: one.evaluation_loss, default=None)


def prune(parent: Path, keep: int, keep_best: bool) -> None:
    """Remove all but the newest `keep` sealed checkpoints, and the best one where it is asked for.

    A marker goes first, so that no half checkpoint looks whole.
    """
    kept = best(parent) if keep_best else None
    for one in sealed(parent)[:-keep]:
        if one != kept:
            (one.path / MARKER).unlink()
            shutil.rmtree(one.path)
