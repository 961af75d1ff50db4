"""Trainings that are killed from outside by SIGKILL: some time after their start, or within their saves.

Where a training is within its saves is told by an audit hook: it counts the file operations below its checkpoints.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.workers.nursery import nursery
from tests.workers.trainee import ALONE, Trainee

_OPERATIONS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod"}


@dataclass(frozen=True)
class Death:
    """When a training is killed; never, where neither is said."""

    seconds: float | None = None
    """After its start."""
    operation: int = 0
    """At the file operation of this number, from 1, before it is done."""
    delay: float = 0.0
    """Seconds after that operation, so that one is hit that no hook tells of."""


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    code: int
    """Its exit code; -9 where it was killed."""
    operations: int
    """File operations below its checkpoints."""
    seconds: float
    """How long it ran."""
    words: str
    """What it printed."""


def train_until(trainee: Trainee, out: Path, death: Death, **environment: str) -> Ended:
    """Train a bundle as one process until it is killed or ends."""
    done, (operations, seconds) = nursery().attend(
        trainee.folder, trainee.environment(out, **ALONE, **environment), asdict(death)
    )
    return Ended(done.returncode, operations, seconds, done.stderr)


def attend(fork: Callable[[Callable[[], None]], int], death: Death) -> tuple[int, int, float]:
    """Fork a training and kill it when its time has come; gives exit code, operations and seconds.

    `fork` is given what the child has to call before it trains.
    """
    ready, told = os.pipe()
    seen, saw = os.pipe()

    def prepare() -> None:
        os.close(ready)
        os.close(saw)
        if death.seconds is None:
            sys.addaudithook(_teller(told, seen))

    began = time.monotonic()
    child = fork(prepare)
    os.close(told)
    os.close(seen)
    operations = 0
    while True:
        left = None if death.seconds is None else max(0.0, began + death.seconds - time.monotonic())
        if select.select([ready], [], [], left)[0]:
            if not os.read(ready, 1):
                break  # the training has ended
            operations += 1
            if operations != death.operation or death.delay:
                os.write(saw, b".")
            if operations != death.operation:
                continue
            time.sleep(death.delay)
        os.kill(child, signal.SIGKILL)
        break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - began
    os.close(ready)
    os.close(saw)
    return code, operations, seconds


def _teller(told: int, seen: int) -> Callable[[str, tuple[object, ...]], None]:
    folder = f"{os.environ['OUT']}/checkpoints"

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _OPERATIONS and str(arguments[0]).startswith(folder):
            with contextlib.suppress(BrokenPipeError):
                os.write(told, b".")
                os.read(seen, 1)

    return hook


def half_made(out: Path) -> bool:
    """Whether a checkpoint is being gathered, or lies in its place without its mark."""
    folder = out / "checkpoints"
    unmarked = [path for path in folder.glob("checkpoint-*") if not (path / "complete.json").exists()]
    return (folder / ".part").exists() or bool(unmarked)
