"""What the home screen shows: this machine, the last runs and the bundles, read from files and the driver alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetui.core import home
from finetui.core.errors import FinetuiError
from finetui.core.figures import gib
from finetui.core.messages import t
from finetui.core.text import one_line

RUNS_SHOWN = 50
_POINTS = 60


@dataclass(frozen=True)
class RunRow:
    """One run."""

    name: str
    folder: Path
    status: str
    """One of the statuses of a run, or `unreadable`."""
    step: int
    steps: int
    loss: float | None
    losses: tuple[float, ...]
    """Some of its losses at even distances, for a sparkline."""


@dataclass(frozen=True)
class BundleRow:
    """One bundle."""

    name: str
    folder: Path
    model: str
    method: str
    stage: str
    steps: int


@dataclass(frozen=True)
class GpuRow:
    """One GPU."""

    index: int
    name: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class MachineFacts:
    """This machine."""

    cpu: str
    cores: int
    ram_bytes: int
    gpus: tuple[GpuRow, ...]
    disk_free_bytes: int
    folder: Path
    """Where runs and bundles are kept."""


def machine_facts() -> MachineFacts:
    """Look at this machine; takes as long as the driver needs."""
    from finetui.hardware.probe import probe

    machine = probe()
    gpus = (GpuRow(gpu.index, gpu.name, gpu.free_bytes, gpu.total_bytes) for gpu in machine.gpus)
    folder = home.home()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return MachineFacts(
        machine.cpu_model, machine.cores, machine.ram_bytes, tuple(gpus), shutil.disk_usage(there).free, folder
    )


def machine_lines(machine: MachineFacts) -> list[str]:
    """The machine in words, a line for each GPU, its processor and its disk."""
    lines = [
        t(
            "app.home-gpu",
            index=gpu.index,
            name=one_line(gpu.name),
            free=gib(gpu.free_bytes),
            total=gib(gpu.total_bytes),
        )
        for gpu in machine.gpus
    ]
    facts = {"cpu": one_line(machine.cpu), "cores": machine.cores, "ram": gib(machine.ram_bytes)}
    lines.append(t("app.home-cpu" if lines else "app.home-only-cpu", **facts))
    lines.append(t("app.home-disk", free=gib(machine.disk_free_bytes), folder=one_line(str(machine.folder))))
    return lines


def last_runs(count: int = RUNS_SHOWN) -> list[RunRow]:
    """The newest runs, newest first; one whose supervisor was killed gets a new one, as `finetui runs` does."""
    from finetui.runs.folder import list_runs

    if not (home.home() / "runs").is_dir():
        return []
    return [_run(run.path) for run in reversed(list_runs()[-count:])]


def _run(folder: Path) -> RunRow:
    from finetui.core.events import last
    from finetui.core.overview import glimpse
    from finetui.runs.folder import RunFolder
    from finetui.runs.launch import adopt
    from finetui.runs.outcome import finite, standing

    run = RunFolder(folder)
    try:
        adopt(run)
        state = run.read()
        status = standing(run, state).status
        steps = glimpse(run.events, "step", _POINTS)
        step = last(run.events, ["step"])
    except (FinetuiError, OSError):
        return RunRow(run.name, folder, "unreadable", 0, 0, None, ())
    losses = tuple(_number(each["loss"]) for each in steps)
    done, loss = (0, None) if step is None else (step.step or 0, finite(step["loss"]))
    return RunRow(run.name, folder, status, done, state.steps_asked, loss, losses)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def bundles() -> list[BundleRow]:
    """The bundles that are kept at home, newest first; what is none, or cannot be read, is passed over."""
    place = home.home() / "bundles"
    folders = [path for path in place.iterdir() if (path / "lock.json").is_file()] if place.is_dir() else []
    return list(_bundles(sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)))


def _bundles(folders: list[Path]) -> Iterator[BundleRow]:
    from finetui.bundles.folder import read_lock

    for folder in folders:
        try:
            lock = read_lock(folder)
        except FinetuiError:
            continue
        yield BundleRow(
            folder.name, folder, str(lock["model"]["name"]), str(lock["method"]), str(lock["stage"]), int(lock["steps"])
        )
