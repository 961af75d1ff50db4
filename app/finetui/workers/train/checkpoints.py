"""Checkpoints: gathered aside, put in their place whole, complete once `complete.json` stands in them, pruned after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .adapter import sha256
from .events import Events
from .record import sync_folder, write_json

MARKER = "complete.json"
PREFIX = "checkpoint-"
PART = ".part"
_VERSION = 2
_DIGEST = "sha256"


@dataclass(frozen=True)
class Sealed:
    """A complete checkpoint: its folder, and what its marker says."""

    path: Path
    facts: Mapping[str, Any]
    """`step`, `evaluation_loss`, `best`, `progress`, `order_digest`, `lock` and `files`."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The checkpoint of a folder by its marker alone; None where that is missing, changed, or of another folder."""
        try:
            facts = json.loads((path / MARKER).read_text(encoding="utf-8"))
            digest = facts.pop(_DIGEST)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None
        whole = digest == _digest(facts) and facts["v"] == _VERSION
        return cls(path, facts) if whole and path.name == f"{PREFIX}{facts['step']}" else None

    @property
    def step(self) -> int:
        """Optimizer steps that are in it."""
        return self.facts["step"]

    @property
    def evaluation_loss(self) -> float | None:
        """Of the weights in it; None where they were not evaluated, or it was made off its turn by a stop."""
        return self.facts["evaluation_loss"]

    def damage(self) -> str | None:
        """What is wrong with its files by their digests, or None."""
        for name, digest in self.facts["files"].items():
            if not (self.path / name).is_file():
                return f"{name} is missing"
            if sha256(self.path / name) != digest:
                return f"{name} does not have the digest that it was written with"
        return None


class Checkpoints:
    """The checkpoints of a run: `keep` of them are kept, and the best one beside them where `keep_best` says so."""

    def __init__(self, folder: Path, keep: int, keep_best: bool, events: Events) -> None:
        self.folder = folder
        self.part = folder / PART
        """Where a checkpoint is gathered."""
        self._keep = keep
        self._keep_best = keep_best
        self._events = events

    @contextmanager
    def gathering(self, *, first: bool) -> Iterator[None]:
        """Within it, files are laid into `part`; what is left there after an error is removed by the first process."""
        try:
            yield
        except BaseException:
            if first:
                shutil.rmtree(self.part, ignore_errors=True)
            raise

    def seal(self, name: str, step: int, evaluation_loss: float | None, **facts: Any) -> None:
        """Sync what was gathered as `name` to disk, put it in its place, and mark it; then remove older ones.

        The marker says what it holds, and which checkpoint is the best up to it.
        """
        part, folder = self.part / name, self.folder / name
        files = _sync(part)
        remove(folder)
        part.rename(folder)
        sync_folder(self.folder)
        self.part.rmdir()
        evaluated = [(one.evaluation_loss, one.step) for one in sealed(self.folder) if one.evaluation_loss is not None]
        if evaluation_loss is not None:
            evaluated.append((evaluation_loss, step))
        least = min(evaluated, default=None)
        marker = {
            "v": _VERSION,
            "step": step,
            "evaluation_loss": evaluation_loss,
            "best": None if least is None else {"loss": least[0], "step": least[1]},
            "files": files,
            **facts,
        }
        write_json(folder / MARKER, {**marker, _DIGEST: _digest(marker)})
        self._events.write("checkpoint", step, path=f"{self.folder.name}/{name}")
        prune(self.folder, self._keep, self._keep_best)


def folders(parent: Path) -> list[Path]:
    """The checkpoints, complete or not, oldest first; one may be a link to where it was moved."""
    found = [path for path in parent.glob(f"{PREFIX}*/") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(found, key=number)


def number(path: Path) -> int:
    """The step that is in a checkpoint's name."""
    return int(path.name.removeprefix(PREFIX))


def sealed(parent: Path) -> list[Sealed]:
    """The checkpoints with a right marker, oldest first."""
    return [one for path in folders(parent) if (one := Sealed.read(path)) is not None]


def best(parent: Path) -> Sealed | None:
    """The complete checkpoint with the lowest evaluation loss, the earliest of equals; None where none has one."""
    evaluated = [one for one in sealed(parent) if one.evaluation_loss is not None]
    return min(evaluated, key=lambda one: one.evaluation_loss, default=None)


def prune(parent: Path, keep: int, keep_best: bool) -> None:
    """Remove all but the newest `keep` complete checkpoints, and the best one where it is asked for."""
    kept = best(parent) if keep_best else None
    for one in sealed(parent)[:-keep]:
        if one != kept:
            remove(one.path)


def remove(folder: Path) -> None:
    """Remove a checkpoint, its marker first, so that no half checkpoint looks whole; also what stands in its place."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        (folder / MARKER).unlink(missing_ok=True)
        sync_folder(folder)
        shutil.rmtree(folder)


def _sync(folder: Path) -> dict[str, str]:
    """Sync a folder and all in it to disk; gives the SHA-256 of each file by its name."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        digests[path.relative_to(folder).as_posix()] = sha256(path)
    sync_folder(folder)
    return digests


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
