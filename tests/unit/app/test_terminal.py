"""The app in a real terminal: every byte that it writes, and how it leaves."""

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
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.app.support import event, live, make_run, write_events

pytestmark = pytest.mark.unit

_ALTERNATE, _MAIN = b"\x1b[?1049h", b"\x1b[?1049l"
_COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
PAYLOADS = (
    "\x1b]52;c;cGF5bG9hZA==\x07",
    "\x1b]0;payload\x1b\\",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "\x1bPpayload\x1b\\",
    "\u202eturned\u2066",
    "\U000e0041",
    "\x08\x08\x7f",
    "[INST] [/x] [bold red]",
)


class Window:
    """finetui in a terminal of its own."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 80, **environment: str) -> None:
        self.bytes = b""
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", **environment})
            os.execv(sys.executable, [sys.executable, "-m", "finetui", *arguments])
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, *words: str) -> None:
        """Read until each of these words has been drawn; fail, with all that came, where one never is."""
        deadline = time.monotonic() + 60
        while not all(word.encode() in self.bytes for word in words):
            there, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            assert there, f"{words!r} never came:\n{self.bytes!r}"
            self.bytes += os.read(self._screen, 1 << 16)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._screen, keys)

    def end(self) -> int:
        """Read to the end, and give the exit code, or minus the signal that it died of."""
        while True:
            try:
                more = os.read(self._screen, 1 << 16)
            except OSError:  # how Linux says that nobody is at the other end
                break
            if not more:
                break
            self.bytes += more
        os.close(self._screen)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def window(*arguments: str, **environment: str) -> Iterator[Window]:
    """A window that is gone in the end whatever happens."""
    opened = Window(*arguments, **environment)
    try:
        yield opened
    finally:
        try:
            os.kill(opened.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def test_nothing_that_a_terminal_obeys_comes_through_from_foreign_text(home: Path) -> None:
    hostile = "".join(PAYLOADS)
    name = "20260101-000001-" + hostile.replace("/", "")
    run = make_run(home, name, 5, status="failed", cause="nan", detail=hostile, bundle=hostile, model=hostile)
    write_events(
        run,
        [
            event("checkpoint", 50.0, 5, path="checkpoints/" + hostile),
            event("warning", 51.0, 5, code="x", text=hostile),
        ],
    )
    run.log.write_text(f"{hostile}\nthe last words\n")
    with window() as shown:
        shown.read_until("000001")
        shown.type(b"\r")
        shown.read_until("checkpoints")
        shown.type(b"2")
        shown.read_until("step 5")
        shown.type(b"3")
        shown.read_until("the last words")
        shown.type(b"\x1bOP")  # F1
        shown.read_until("Help")
        shown.type(b"\x1b\x1b[21~")
        assert shown.end() == 0
    drawn = re.sub("\x1b]22;[a-z]*\x07", "", shown.bytes.decode())  # Textual's own: the shape of the pointer
    assert "payload" not in drawn
    assert "cGF5" not in drawn
    assert not [code for code in ("\x1b]52", "\x1b]0;", "\x1bPp", "\x1b[31m") if code in drawn]
    assert not set(drawn) & {"\x9b", "\u202e", "\u2066", "\U000e0041", "\x08", "\x7f", "\x07"}
    assert "[INST]" in drawn


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_hang_up_restores_the_terminal_and_leaves_the_run_alone(home: Path, number: signal.Signals) -> None:
    run = make_run(home, "20260101-000001-tiny", 10, **live())
    with window() as shown:
        shown.read_until("000001-tiny")
        shown.type(b"\r")
        shown.read_until("10 of 100")
        os.kill(shown.pid, number)
        assert shown.end() == 128 + number
    assert shown.bytes.rfind(_MAIN) > shown.bytes.rfind(_ALTERNATE)
    assert run.status() == "running"


def test_a_terminal_that_is_closed_ends_the_app(home: Path) -> None:
    make_run(home, "20260101-000001-tiny", 10, **live())
    with window() as shown:
        shown.read_until("000001-tiny")
        os.close(shown._screen)
        assert os.waitstatus_to_exitcode(os.waitpid(shown.pid, 0)[1]) == 128 + signal.SIGHUP


def test_no_color_and_no_mouse_are_kept_and_the_locale_too(home: Path) -> None:
    make_run(home, "20260101-000001-tiny", 10)
    with window("--no-mouse", NO_COLOR="1", LANG="C") as shown:
        shown.read_until("000001-tiny")
        shown.type(b"\r")
        shown.read_until("10 of 100")
        shown.type(b"q")
        assert shown.end() == 0
    assert not _COLOUR.search(shown.bytes)
    assert b"[?1000h" not in shown.bytes
    assert shown.bytes.isascii()


def test_a_dumb_terminal_is_refused_in_words(home: Path) -> None:
    with window(TERM="dumb") as shown:
        assert shown.end() == 5
    assert b"finetui --plain" in shown.bytes
    assert _ALTERNATE not in shown.bytes


def test_without_a_terminal_stdout_gets_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    from finetui.cli.main import run

    assert run([]) == 0
    assert "finetui COMMAND" in capfd.readouterr().out
