"""Taking runs and what has been left over off the disk: nothing that lives, and no unfinished run's checkpoint."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.messages import t
from finetui.runs import processes
from finetui.runs.folder import RunFolder, list_runs
from finetui.runs.state import FINISHED, LIVE, QUEUED, RunState

DAYS = 7.0
"""What is younger is left alone unless somebody says otherwise."""
_HOUR = 3600.0
"""A part that was written to within it may have a writer."""
_MARKER = "complete.json"
_REMOVING = ".rm-"
_CACHE_KEPT = frozenset({"locked", "pythonpath"})
"""What in the cache is no cache: the ids of bundles that were locked here, and a path of this installation."""


@dataclass(frozen=True)
class Item:
    """Something that can go."""

    kind: str
    """`run checkpoint half-checkpoint part queue cache`."""
    path: Path
    """The file or folder."""
    bytes: int
    """What it holds."""
    run: RunFolder | None = None
    """The run that it belongs to."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"kind": self.kind, "path": str(self.path), "bytes": self.bytes}


def size(path: Path) -> int:
    """Bytes of a file or of all files below a folder; links count as nothing, what goes meanwhile as well."""
    return sum(bytes_ for bytes_, _ in _facts(path))


def check_removable(runs: Iterable[RunFolder]) -> None:
    """Raises FinetuiError (exit 3) with every run that lives, or may live on another machine."""
    problems = [problem for run in runs if (problem := _obstacle(run)) is not None]
    if problems:
        raise FinetuiError(problems, BAD_INPUT)


def remove_run(run: RunFolder) -> int:
    """Remove a run that has ended, with everything in it; gives the bytes that are free again.

    Raises FinetuiError (exit 3) where it lives, OSError where it is not ours to remove.
    """
    check_removable([run])
    folder = run.path.resolve()
    freed = size(folder)
    going = folder.with_name(f"{_REMOVING}{folder.name}-{os.getpid()}")
    with _held(run):
        folder.rename(going)  # at once no run any more; what a kill leaves of it is found by `clean`
    shutil.rmtree(going)
    if run.path.is_symlink():
        run.path.unlink()
    return freed


def clutter(days: float = DAYS) -> list[Item]:
    """Everything that nobody needs any more and that is older than so many days, the largest first."""
    before = time.time() - days * 86400
    found = [item for run in list_runs() for item in _clutter_of(run, before)]
    parts_before = min(before, time.time() - _HOUR)
    found += [Item("run", path, size(path)) for path in home.folder("runs").glob(f"{_REMOVING}*")]
    for folder in (path for path in home.home().iterdir() if path.name not in ("runs", "cache")):
        found += _parts(folder, parts_before)
    for path in home.folder("cache").iterdir():
        if path.name not in _CACHE_KEPT and _newest(path) < before:
            found.append(Item("cache", path, size(path)))
    return sorted(found, key=lambda item: (-item.bytes, item.path))


def remove(items: Iterable[Item]) -> int:
    """Remove what `clutter` has found, passing over what has come to life since; gives the bytes that are free again.

    Raises OSError where something is not ours to remove.
    """
    freed = 0
    for item in items:
        if item.run is not None and item.kind == "queue":
            freed += remove_run(item.run)
            continue
        if item.run is not None and _obstacle(item.run) is not None:
            continue
        with _held(item.run):
            _unlink(item.path)
            freed += item.bytes
    return freed


def largest_runs(but: RunFolder, count: int = 3) -> list[tuple[str, int]]:
    """The ended runs that hold most bytes, with these: what a full disk can do without first."""
    sizes = [(run.name, size(run.path)) for run in list_runs() if run.name != but.name and _obstacle(run) is None]
    return sorted(sizes, key=lambda one: -one[1])[:count]


def fullest_folder(run: RunFolder) -> Path:
    """Where to make room for a run: the folder of all runs, or one of its own on another disk that has less."""
    apart = [
        folder
        for folder in (run.checkpoints, run.output)
        if folder.exists() and folder.stat().st_dev != run.path.stat().st_dev
    ]
    return min([run.path.parent, *apart], key=lambda folder: shutil.disk_usage(folder).free)


def _clutter_of(run: RunFolder, before: float) -> Iterator[Item]:
    if _obstacle(run) is not None:
        return
    try:
        state = run.read()
    except FinetuiError:
        return  # what it is nobody knows: `rm` removes it by name
    if state.status == QUEUED and state.started < before:
        yield Item("queue", run.path, size(run.path), run)
        return
    yield from (Item(part.kind, part.path, part.bytes, run) for part in _parts(run.path, before))
    finished = state.status == FINISHED and run.done.exists() and (state.ended or 0.0) < before
    for folder in sorted(run.checkpoints.glob("checkpoint-*")):
        if finished:
            yield Item("checkpoint", folder, size(folder), run)
        elif not (folder / _MARKER).exists() and not folder.name.endswith(".part") and _newest(folder) < before:
            yield Item("half-checkpoint", folder, size(folder), run)


def _parts(folder: Path, before: float) -> list[Item]:
    """Files and folders `*.part` at any depth that nobody has written to since."""
    found = []
    for root, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if name.endswith(".part")]:
            if _newest(Path(root, name)) < before:
                found.append(Item("part", Path(root, name), size(Path(root, name))))
        folders[:] = [name for name in folders if not name.endswith(".part")]
    return found


def _obstacle(run: RunFolder) -> Problem | None:
    """Why a run cannot be removed, or None."""
    try:
        state: RunState | None = run.read()
    except FinetuiError:
        state = None
    if state is not None and not state.identity.is_here():
        facts = {"run": run.name, "host": state.host}
        return Problem("remove.elsewhere", facts) if state.status in LIVE else None
    status = "running" if state is None else run.status(state)
    lives = bool(processes.of_run(run.path)) if state is None else status in LIVE or state.identity.is_alive()
    if not lives:
        return None
    shown = status if status == QUEUED else "running"
    words = {lang: t(f"runs.status-{shown}", lang) for lang in ("en", "zh")}
    return Problem("remove.still-live", {"run": run.name, "status": words})


@contextmanager
def _held(run: RunFolder | None) -> Iterator[None]:
    """Keep a supervisor from taking the run meanwhile.

    Raises FinetuiError (exit 3) where one has it.
    """
    if run is None:
        yield
        return
    with run.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = {lang: t("runs.status-running", lang) for lang in ("en", "zh")}
            raise FinetuiError(Problem("remove.still-live", {"run": run.name, "status": words}), BAD_INPUT) from None
        yield


def _unlink(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    (path / _MARKER).unlink(missing_ok=True)  # first, so that half a checkpoint never looks whole
    shutil.rmtree(path)


def _newest(path: Path) -> float:
    """When anything in it was last written, in seconds since 1970."""
    return max((time_ for _, time_ in _facts(path)), default=0.0)


def _facts(path: Path) -> Iterator[tuple[int, float]]:
    """Bytes and time of the last change of a path and of all below it."""
    try:
        found = path.lstat()
        yield (0 if path.is_dir() or path.is_symlink() else found.st_size), found.st_mtime
        below = list(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
    except OSError:  # gone meanwhile, or not ours to look into
        return
    for child in below:
        yield from _facts(child)
