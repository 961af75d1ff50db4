"""What the training interpreter says of itself: its packages, and whether torch and its kind work there."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from finetui.core import jobs
from finetui.core.errors import FinetuiError, Problem, ShellWords
from finetui.core.text import one_line

OLDEST = (3, 11)
"""The oldest Python that the workers run under."""
AGAIN = "--force-reinstall --no-deps"
"""Words that install a package anew and leave torch as it is, which its index cannot be told of here."""
LIMIT_S = 300.0
"""After so many seconds a look at the interpreter is given up: a broken driver can hang for ever."""
_START_S = 60.0


@dataclass(frozen=True)
class Interpreter:
    """The Python that workers and training run under."""

    path: str
    """Its program; what was asked for where there is none."""
    version: tuple[int, int] | None = None
    """Major and minor; None where it could not be asked."""
    found: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By stage of the worker, what it found; a stage that it did not come to is not there."""
    problem: Problem | None = None
    """Why there is no answer, or no whole one."""
    has_uv: bool = False
    """Whether uv is on the path, which installs where there is no pip."""

    def stage(self, name: str) -> Mapping[str, Any]:
        """What one stage found; empty where the worker did not come to it."""
        return self.found.get(name, {})

    def version_of(self, package: str) -> str | None:
        """The version of a package there, or None."""
        found = self.stage("packages").get(package)
        return None if found is None else str(found["version"])

    def install(self) -> ShellWords:
        """The words that a list of packages has to follow to be installed there."""
        python, here = shlex.quote(self.path), self.stage("python")
        if here.get("is_managed"):
            return self._install_beside(python)
        if here.get("has_pip", True) or not self.has_uv:
            return ShellWords(f"{python} -m pip install")
        return ShellWords(f"uv pip install --python {python}")

    def _install_beside(self, python: str) -> ShellWords:
        """The same for a Python of the system's (PEP 668): into a venv that sees what is there already."""
        if self.has_uv:
            made = f"uv venv --allow-existing --system-site-packages --python {python} venv"
            return ShellWords(f"{made} && uv pip install --python venv/bin/python")
        if self.stage("python").get("has_ensurepip"):
            return ShellWords(f"{python} -m venv --system-site-packages venv && venv/bin/python -m pip install")
        return ShellWords(f"{python} -m pip install --break-system-packages")


def ask_interpreter(python: str | None, limit_s: float = LIMIT_S) -> Interpreter:
    """Ask the interpreter that workers would run under; whatever goes wrong is in the answer."""
    try:
        path = jobs.interpreter(python)
    except FinetuiError as error:
        return Interpreter(python or "python", problem=error.problems[0])
    try:
        version = _version(path)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        words = one_line(str(error)) if isinstance(error, OSError) else type(error).__name__
        return Interpreter(path, problem=Problem("jobs.no-worker", {"python": path, "words": words}))
    if version < OLDEST:
        return Interpreter(path, version)
    found: dict[str, Mapping[str, Any]] = {}
    problem = _work(path, found, limit_s)
    return Interpreter(path, version, found, problem, has_uv=shutil.which("uv") is not None)


def _version(path: str) -> tuple[int, int]:
    """Raises ValueError where it does not answer as Python does."""
    script = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([path, "-I", "-c", script], capture_output=True, timeout=_START_S, text=True, check=False)
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _work(path: str, found: dict[str, Mapping[str, Any]], limit_s: float) -> Problem | None:
    """Fill `found` stage by stage, so that what killed the worker takes nothing away of what came before it."""
    stage = "start"
    late = threading.Event()

    def hear(message: Mapping[str, Any]) -> None:
        nonlocal stage
        stage = str(message["stage"])
        if "found" in message:
            found[stage] = message["found"]

    def give_up(pid: int) -> None:
        late.set()
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    try:
        with jobs.Session("doctor", python=path) as session:
            timer = threading.Timer(limit_s, give_up, [session.pid])
            timer.start()
            try:
                session.ask({}, hear)
            finally:
                timer.cancel()
    except OSError as error:  # no room for what a worker needs
        return Problem("doctor.worker-died", {"python": path, "stage": stage, "words": one_line(str(error))})
    except FinetuiError as error:
        if late.is_set():
            return Problem("doctor.worker-slow", {"python": path, "stage": stage, "seconds": round(limit_s)})
        problem = error.problems[0]
        words = problem.facts.get("words") or problem.message("en")
        return Problem("doctor.worker-died", {"python": path, "stage": stage, "words": words})
    return None
