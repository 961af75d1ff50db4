"""finetui in a pseudo-terminal: keys in, every byte out, and the picture that a terminal makes of them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyte

_NOT_KNOWN = re.compile(rb"\x1b\[(?:\?\d+\$p|[<>]\d*u)")
"""What the emulator does not know: it would draw the last letter."""
_PATIENCE_S = 120.0
"""More than any of it takes, on a machine that is busy."""


class Emulator:
    """What a terminal makes of bytes."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self._picture = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._picture)

    def feed(self, more: bytes) -> None:
        """Take these bytes."""
        self._stream.feed(_NOT_KNOWN.sub(b"", more))

    def resize(self, rows: int, columns: int) -> None:
        """Another size."""
        self._picture.resize(rows, columns)

    @property
    def text(self) -> str:
        """What a person sees."""
        return "\n".join(line.rstrip() for line in self._picture.display)


class Window:
    """finetui in a terminal of its own."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 80, **environment: str) -> None:
        self.bytes = b""
        self._emulator = Emulator(rows, columns)
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            command = [sys.executable, "-m", "finetui", *arguments]
            os.execve(sys.executable, command, {**os.environ, "TERM": "xterm-256color", **environment})
        self.resize(rows, columns)

    @property
    def text(self) -> str:
        """What a person sees."""
        return self._emulator.text

    def resize(self, rows: int, columns: int) -> None:
        """Pull at the window's corner."""
        self._emulator.resize(rows, columns)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, *words: str) -> None:
        """Read until all of these words are seen; fail, with the picture, where they never are."""
        deadline = time.monotonic() + _PATIENCE_S
        while not all(word in self.text for word in words):
            there, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            assert there, f"{words!r} never came:\n{self.text}"
            self._take(os.read(self._screen, 1 << 16))

    def _take(self, more: bytes) -> None:
        self.bytes += more
        self._emulator.feed(more)

    def type(self, keys: bytes | str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode() if isinstance(keys, str) else keys)

    def hang_up(self) -> None:
        """Close the terminal, as when a window is closed or a line is cut."""
        os.close(self._screen)

    def code(self) -> int:
        """The exit code once it has ended, or minus the signal that it died of."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def end(self) -> int:
        """Read to the end, and give the exit code, or minus the signal that it died of."""
        while select.select([self._screen], [], [], _PATIENCE_S)[0]:
            try:
                more = os.read(self._screen, 1 << 16)
            except OSError:  # how Linux says that nobody is at the other end
                break
            if not more:
                break
            self._take(more)
        else:
            raise AssertionError(f"it does not end:\n{self.text}")
        os.close(self._screen)
        return self.code()


@contextmanager
def window(*arguments: str, rows: int = 24, columns: int = 80, **environment: str) -> Iterator[Window]:
    """A window that is gone in the end whatever happens."""
    opened = Window(*arguments, rows=rows, columns=columns, **environment)
    try:
        yield opened
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(opened.pid, signal.SIGKILL)
            os.waitpid(opened.pid, 0)
