"""Going on from a checkpoint: which one it is, that it belongs to this lock, and what is left over of other ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .checkpoints import PART, PREFIX, Sealed, folders, number, remove
from .failure import Failure
from .settings import Knobs, Lock

NEWEST = "newest"
"""What FINETUI_RESUME says where it names no checkpoint."""


@dataclass(frozen=True)
class Start:
    """Where a training that goes on begins."""

    checkpoint: Sealed | None
    """The newest complete one; None where there is none, and it begins from step 0."""
    rejected: tuple[str, ...]
    """Newer ones that do not count, each with the reason."""

    @property
    def step(self) -> int:
        """Steps that are done already."""
        return 0 if self.checkpoint is None else self.checkpoint.step


def find_start(asked: str, checkpoints: Path, lock: Lock) -> Start:
    """The newest complete checkpoint, every file held against its digest; damaged ones are passed over.

    `asked` is NEWEST, or the checkpoint that none may be newer than. Where the best one is the result, one counts only
    as long as the best before it is whole: without that, another one would come out.

    Raises Failure (resume-mismatch) where `asked` is no checkpoint of this run, or its settings or data are not those
    of the lock.
    """
    there = folders(checkpoints)
    if asked != NEWEST:
        there = [path for path in there if number(path) <= number(_named(asked, checkpoints))]
    rejected: list[str] = []
    for path in reversed(there):
        found = Sealed.read(path)
        damage = _damage(found, keeps_best=lock.knobs.load_best_model_at_end)
        if found is None or damage:
            rejected.append(f"{path.name}: {damage}")
            continue
        if differing := differences(found.facts["lock"], facts_of(lock)):
            raise Failure("resume-mismatch", f"{path.name} was made with other things: {'; '.join(differing)}")
        return Start(found, tuple(rejected))
    return Start(None, tuple(rejected))


def clear_up(checkpoints: Path, step: int) -> None:
    """Remove what was left half done, and every checkpoint after `step`: they are made again."""
    shutil.rmtree(checkpoints / PART, ignore_errors=True)
    for path in folders(checkpoints):
        if number(path) > step or Sealed.read(path) is None:
            remove(path)


def facts_of(lock: Lock) -> dict[str, Any]:
    """What of a lock decides the result, and how the work is split."""
    weights = {name: digest for name, digest in lock.model["files"].items() if name.endswith(".safetensors")}
    return {
        "method": lock.method,
        "model": weights,
        "train": lock.train["digest"],
        "eval": lock.evaluation["digest"] if lock.evaluation else None,
        "world_size": lock.world_size,
        "rows_per_step": lock.rows_per_step,
        "steps": lock.steps,
        "settings": {known.name: getattr(lock.knobs, known.name) for known in fields(Knobs)},
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is other than it was at a checkpoint, as `name is NOW, it was THEN`; settings of memory alone may be."""
    lighter = {known.name for known in fields(Knobs) if known.metadata.get("memory")}
    was, has = ({**facts, **facts["settings"]} for facts in (then, now))
    names = [name for name in sorted({*was, *has} - lighter) if name != "settings" and was.get(name) != has.get(name)]
    return [f"{name} is {has.get(name)}, it was {was.get(name)}" for name in names]


def _damage(found: Sealed | None, *, keeps_best: bool) -> str | None:
    """Why a checkpoint cannot be gone on from, or None."""
    if found is None:
        return "it has no complete.json that is whole"
    if damage := found.damage():
        return damage
    best = found.facts["best"]
    if keeps_best and best is not None and best["step"] != found.step:
        path = found.path.with_name(f"{PREFIX}{best['step']}")
        before = Sealed.read(path)
        if before is None or before.damage():
            return f"the best checkpoint before it, {path.name}, is damaged"
    return None


def _named(asked: str, checkpoints: Path) -> Path:
    path = Path(asked)
    if path.resolve().parent != checkpoints.resolve() or path not in folders(path.parent):
        raise Failure("resume-mismatch", f"{asked} is no checkpoint of this run; its own are in {checkpoints}")
    return path
