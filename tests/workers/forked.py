"""The trainer started often: imported once, then forked for each training, which is a process like any other.

A training can be killed from outside by SIGKILL: a number of seconds after its start, or within its saves, where the
so-manieth file operation below its checkpoints is told by an audit hook.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.workers.trainee import ALONE, Trainee

_SERVER = """
import json, os, select, signal, sys, time
import peft, transformers.models.llama.modeling_llama
from train import main

OPERATIONS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod"}

def train(order, told, seen):
    os.environ.update(order["environment"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def count(event, arguments):
        if event in OPERATIONS and "/checkpoints" in str(arguments[0]):
            os.write(told, b".")
            os.read(seen, 1)

    if order["counts"]:
        sys.addaudithook(count)
    code = main.main()
    sys.stdout.flush()
    os._exit(code)

for line in sys.stdin:
    order = json.loads(line)
    ready, told = os.pipe()
    seen, saw = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(ready), os.close(saw)
        train(order, told, seen)
    os.close(told), os.close(seen)
    operations, killed = 0, False
    while not killed:
        wait = None if order["seconds"] is None else max(0, began + order["seconds"] - time.monotonic())
        if select.select([ready], [], [], wait)[0]:
            if not os.read(ready, 1):
                break
            operations += 1
            if operations != order["operation"]:
                os.write(saw, b".")
                continue
            if order["delay"]:
                os.write(saw, b".")
                time.sleep(order["delay"])
        os.kill(child, signal.SIGKILL)
        killed = True
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(ready), os.close(saw)
    print(json.dumps([code, operations, time.monotonic() - began]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    code: int
    """Its exit code; -9 where it was killed."""
    operations: int
    """File operations below its checkpoints, where they were counted."""
    seconds: float
    """How long it ran."""
    words: str
    """What it printed."""


class Forked:
    """Starts trainings of one bundle, whose lock may change between them."""

    def __init__(self, trainee: Trainee) -> None:
        self._trainee = trainee
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=trainee.folder,
            env=trainee.environment(trainee.folder, **ALONE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def train(
        self,
        out: Path,
        *,
        seconds: float | None = None,
        operation: int | None = None,
        delay: float = 0.0,
        counts: bool = False,
        **environment: str,
    ) -> Ended:
        """Train to the end, or kill it: after `seconds`, or `delay` seconds after the so-manieth file `operation`."""
        out.mkdir(parents=True, exist_ok=True)
        log = out / "train.log"
        order: dict[str, Any] = {
            "environment": {
                **self._trainee.environment(out),
                "FINETUI_RESUME": "",
                "FINETUI_CHANGES": "",
                **environment,
            },
            "log": str(log),
            "seconds": seconds,
            "operation": operation,
            "delay": delay,
            "counts": counts or operation is not None,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()), log.read_text())


def half_made(out: Path) -> bool:
    """Whether a checkpoint lies in a folder that is not complete, or is being gathered."""
    folder = out / "checkpoints"
    return (folder / ".part").exists() or any(
        not (path / "complete.json").exists() for path in folder.glob("checkpoint-*")
    )
