"""A loopback sshd of its own: own port, host key and login key, for whoever runs the tests; and terminals over it."""

from __future__ import annotations

import fcntl
import getpass
import os
import pty
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from finetui.runs.processes import descendants
from tests.unit.app.window import Emulator

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_PASSED_ON = ("FINETUI_HOME", "FINETUI_MODELS", "LANG", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "PYTHONPATH")
_SERVER = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/login.pub
PidFile none
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment no
UsePAM no
PrintMotd no
"""


class Login:
    """A client with a terminal of its own, and `finetui` at its other end."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execvp(command[0], command)
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""
        self._emulator = Emulator()

    def read_until(self, words: str, seconds: float = 120) -> None:
        """Read what is shown until these words stand there; fail where the login ends, or goes on, without them."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            there, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            assert there, f"{words!r} never came:\n{self.text}"
            try:
                self._take(os.read(self._screen, 4096))
            except OSError as error:  # how Linux says that nobody is at the other end
                raise AssertionError(f"{words!r} never came:\n{self.text}") from error

    def see(self, *words: str, seconds: float = 180) -> str:
        """Read until all of these words stand in the picture that a terminal makes of it, and give that."""
        deadline = time.monotonic() + seconds
        while not all(word in self._emulator.text for word in words):
            there, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            assert there, f"{words!r} never came:\n{self._emulator.text}"
            self._take(os.read(self._screen, 4096))
        return self._emulator.text

    def _take(self, more: bytes) -> None:
        self.text += more.decode("utf-8", "replace")
        self._emulator.feed(more)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode())

    def close_window(self) -> None:
        """Close the terminal that the client runs in: the kernel hangs up on it."""
        os.close(self._screen)
        os.waitpid(self.pid, 0)

    def die(self) -> None:
        """Kill the client as a laptop does whose battery is empty."""
        os.kill(self.pid, signal.SIGKILL)
        self.close_window()

    def end(self) -> int:
        """Read to the end; gives the exit code of the command at the other end."""
        try:
            while piece := os.read(self._screen, 4096):
                self.text += piece.decode("utf-8", "replace")
        except OSError:  # as above
            pass
        os.close(self._screen)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@dataclass(frozen=True)
class Sshd:
    """A server that listens."""

    pid: int
    folder: Path
    port: int

    def login(self, *arguments: object) -> Login:
        """`ssh -t` that runs `finetui ARGUMENTS` in a terminal over there, with this process's homes."""
        told = [f"{name}={os.environ[name]}" for name in _PASSED_ON if name in os.environ]
        finetui = ["env", *told, sys.executable, "-m", "finetui", *map(str, arguments)]
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "IdentitiesOnly": "yes"}
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        key = ["-i", str(self.folder / "login"), "-F", "none", "-p", str(self.port)]
        return Login(["ssh", "-q", "-t", *given, *key, f"{getpass.getuser()}@127.0.0.1", shlex.join(finetui)])

    def sessions(self) -> list[int]:
        """Processes of sshd that serve a login, those that hold the terminal last; not the shells in them."""
        return [pid for pid in descendants([self.pid]) if Path(f"/proc/{pid}/comm").read_text().startswith("sshd")]

    def served(self) -> list[int]:
        """All that runs in the terminals of its logins."""
        sessions = set(self.sessions())
        return [pid for pid in descendants([self.pid]) if pid not in sessions]


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Within it, a server listens on a free port of 127.0.0.1, and lets in who has the key in `folder`."""
    folder.mkdir()
    for name in ("host", "login"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(_SERVER.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it refuses to start without a place to leave its rights in
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        _await(port, server)
        yield Sshd(server.pid, folder, port)
    finally:
        for pid in [*descendants([server.pid]), server.pid]:
            _end(pid)
        server.wait()


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("sshd does not listen")


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
