"""Checkpoints: complete only once `complete.json` stands in them, and pruned only after that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch.distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .adapter import sha256
from .events import Events
from .record import write_json

MARKER = "complete.json"
PREFIX = "checkpoint-"


class Checkpoints(TrainerCallback):
    """Seals each checkpoint that the Trainer has saved, then removes the oldest beyond `keep`."""

    def __init__(self, keep: int, data_digest: str, events: Events) -> None:
        self._keep = keep
        self._data_digest = data_digest
        self._events = events

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Wait for every process's part, then seal it."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"{PREFIX}{state.global_step}"
        seal(folder, state.global_step, self._data_digest)
        self._events.write("checkpoint", state.global_step, path=f"{folder.parent.name}/{folder.name}")
        prune(folder.parent, self._keep)


def seal(folder: Path, step: int, data_digest: str) -> None:
    """Sync every file of a checkpoint to disk, then say in its marker what it holds."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        files[path.name] = sha256(path)
    write_json(folder / MARKER, {"v": 1, "step": step, "data_digest": data_digest, "files": files})


def prune(parent: Path, keep: int) -> None:
    """Remove all but the newest `keep` sealed checkpoints; a marker goes first, so that no half one looks whole."""
    sealed = [path for path in parent.glob(f"{PREFIX}*") if (path / MARKER).is_file()]
    for folder in sorted(sealed, key=lambda path: int(path.name.removeprefix(PREFIX)))[:-keep]:
        (folder / MARKER).unlink()
        shutil.rmtree(folder)
