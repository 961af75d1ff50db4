"""Trainers forked from a process that has the heavy libraries loaded: loading them takes longer than a tiny training.

Each is a process of its own, with its own copy of the trainer, environment and working folder.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.workers import probe

_SECONDS = 300


class Nursery:
    """A process that forks trainers; it ends with the one that made it."""

    def __init__(self, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.workers.nursery"],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()  # closes what it reads, on which it ends

    def run(
        self, folder: Path, environments: list[dict[str, str]], watched: bool
    ) -> list[subprocess.CompletedProcess[str]]:
        """Train in `folder`, one process for each environment at once; gives how each ended."""
        parts = [
            {"folder": str(folder), "environment": environment, "watched": watched} for environment in environments
        ]
        return [done for done, _ in self._ask(parts)]

    def attend(
        self, folder: Path, environment: dict[str, str], death: dict[str, Any]
    ) -> tuple[subprocess.CompletedProcess[str], list[float]]:
        """Train as one process that is killed as `death` says; gives how it ended, and what `killing.attend` counts."""
        part = {"folder": str(folder), "environment": environment, "watched": False, "death": death}
        return self._ask([part])[0]

    def _ask(self, parts: list[dict[str, Any]]) -> list[tuple[subprocess.CompletedProcess[str], list[float]]]:
        with tempfile.TemporaryDirectory() as place:
            for number, part in enumerate(parts):
                part["log"] = f"{place}/{number}"
            self._process.stdin.write(json.dumps(parts) + "\n")
            self._process.stdin.flush()
            ends = json.loads(self._process.stdout.readline())
            texts = [[Path(f"{part['log']}.{end}").read_text() for end in ("stdout", "stderr")] for part in parts]
        return [
            (subprocess.CompletedProcess(["train.main"], code, *text), counted)
            for (code, *counted), text in zip(ends, texts, strict=True)
        ]


@cache
def nursery() -> Nursery:
    """The one that all tests share."""
    return Nursery()


def _fork(part: dict[str, Any], prepare: Callable[[], None] = lambda: None) -> int:
    ends = [os.open(f"{part['log']}.{end}", os.O_WRONLY | os.O_CREAT) for end in ("stdout", "stderr")]
    pid = os.fork()
    if pid:
        for end in ends:
            os.close(end)
        return pid
    try:
        signal.alarm(_SECONDS)
        os.environ.clear()
        os.environ.update(part["environment"])
        os.chdir(part["folder"])
        sys.path.insert(0, part["folder"])
        for number, end in enumerate(ends, 1):
            os.dup2(end, number)
        prepare()
        if part["watched"]:
            probe.watch(Path(os.environ["OUT"]))
        runpy.run_module("train.main", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def main() -> None:
    """Fork as asked, line by line, until there is no one left to ask."""
    from tests.workers import killing  # which asks in its turn

    for name in ("finetui.workers.train.main", "transformers.models.llama.modeling_llama"):
        import_module(name)
    for line in sys.stdin:
        parts = json.loads(line)
        if "death" in parts[0]:
            ends = [killing.attend(partial(_fork, parts[0]), killing.Death(**parts[0]["death"]))]
        else:
            children = [_fork(part) for part in parts]
            ends = [(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),) for child in children]
        print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    main()
