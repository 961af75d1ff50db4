"""Ways to start commands, with a terminal and without, and to wait for what they do."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from finetui.runs.folder import RunFolder
from finetui.runs.processes import Identity


def wait_until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Poll until `true()` holds; fail, saying what never came, after a time that only a broken program needs."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def has_step(run: RunFolder, step: int) -> bool:
    """Whether the trainer has written this step."""
    if not run.events.exists():
        return False
    return any(f'"step": {step},' in line for line in run.events.read_text().splitlines() if '"step"' in line[:30])


def read_state(run: RunFolder) -> dict[str, Any]:
    """state.json as it stands on disk."""
    state: dict[str, Any] = json.loads((run.path / "state.json").read_text())
    return state


def finetui(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, without a terminal."""
    command = [sys.executable, "-m", "finetui", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, **options)


def kill(process: Identity) -> None:
    """Kill a process as the system does when memory runs out, and wait until it is gone."""
    assert process.send(signal.SIGKILL)
    wait_until(lambda: not process.is_alive(), f"the end of {process.pid}")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
            os.execv(sys.executable, [sys.executable, "-m", "finetui", *map(str, arguments)])
        self.text = ""

    def read_until(self, words: str) -> None:
        """Read what is shown until these words stand there; fail where the command ends, or goes on, without them."""
        deadline = time.monotonic() + 60
        while words not in self.text:
            there, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            assert there, f"{words!r} never came:\n{self.text}"
            try:
                self.text += os.read(self._screen, 4096).decode("utf-8", "replace")
            except OSError as error:  # how Linux says that nobody is at the other end
                raise AssertionError(f"{words!r} never came:\n{self.text}") from error

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode())

    def close(self) -> None:
        """Close the window: the kernel hangs up on whoever is in it."""
        os.close(self._screen)

    def exit_code(self) -> int:
        """Read to the end, and wait."""
        try:
            while piece := os.read(self._screen, 4096):
                self.text += piece.decode("utf-8", "replace")
        except OSError:  # how Linux says that nobody is at the other end
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
