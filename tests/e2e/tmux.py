"""finetui in a real tmux: keys in, what a person would see out."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tmux:
    """A tmux server of its own with one window."""

    socket: Path

    def __call__(self, *words: str) -> str:
        """What a tmux command prints."""
        command = ["tmux", "-f", "/dev/null", "-S", str(self.socket), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def shown(self) -> str:
        """The window as text."""
        return self("capture-pane", "-p")

    def keys(self, *keys: str) -> None:
        """Press keys by tmux's names."""
        self("send-keys", *keys)

    def words(self, text: str) -> None:
        """Type a text."""
        self("send-keys", "-l", text)

    def until(self, *words: str, seconds: float = 600) -> str:
        """The window once all of these words are in it; fails with the window where they never are."""
        deadline = time.monotonic() + seconds
        while not all(word in (shown := self.shown()) for word in words):
            assert time.monotonic() < deadline, f"{words!r} never came:\n{shown}"
            time.sleep(0.1)
        return shown

    def resize(self, columns: int, rows: int) -> None:
        """Another size for the window."""
        self("resize-window", "-x", str(columns), "-y", str(rows))


@contextmanager
def tmux(folder: Path, command: list[str], environment: Mapping[str, str]) -> Iterator[Tmux]:
    """Within it, the command runs in a window of 80 × 24; what it printed last stays to be seen."""
    server = Tmux(folder / "tmux")
    told = shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), *command])
    server(
        "new-session", "-d", "-x", "80", "-y", "24", f"cd {shlex.quote(str(folder))}; {told}; echo left with $?; cat"
    )
    try:
        yield server
    finally:
        subprocess.run(["tmux", "-S", str(server.socket), "kill-server"], check=False, capture_output=True)
