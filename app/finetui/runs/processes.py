"""Processes known for certain: who a pid really is, and which processes belong to a run.

Linux only: what is needed (start time, boot id, environment of another process) stands in `/proc`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

RUN_ID = "RUN_ID"
"""Environment variable that every process of a run carries: the run's name."""
RUN_DIR = "RUN_DIR"
"""The one beside it: the run's folder. Two people can start runs of one name in the same second."""

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05


@dataclass(frozen=True)
class Identity:
    """One process, told apart from any later one that gets the same pid."""

    host: str
    """Name of the machine."""
    pid: int
    """Process id there."""
    pid_start: int
    """Start time in clock ticks since boot, as `/proc/PID/stat` has it."""
    boot_id: str
    """The kernel's id of this boot."""

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a living process of this machine.

        Raises ProcessLookupError where there is none.
        """
        found = cls.find(pid)
        if found is None:
            raise ProcessLookupError(pid)
        return found

    @classmethod
    def find(cls, pid: int) -> Identity | None:
        """The same, or None where there is none."""
        start = start_time(pid)
        return None if start is None else cls(socket.gethostname(), pid, start, boot_id())

    def is_here(self) -> bool:
        """Whether it ran on the machine that asks."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Whether it still runs; asked on its own machine. One that ended and was not waited for counts as dead."""
        return self.boot_id == boot_id() and start_time(self.pid) == self.pid_start

    def send(self, signal_number: signal.Signals) -> bool:
        """Send it a signal; False where it has ended. A pid that was given away in between is never hit."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, signal_number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def boot_id() -> str:
    """The kernel's id of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None where it has ended or is only waiting to be reaped."""
    fields = _stat(pid)
    return None if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty where it has ended or belongs to another user."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    entries = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in entries}


def tags(folder: Path) -> dict[str, str]:
    """The variables by which every process of the run in this folder is known."""
    return {RUN_ID: folder.name, RUN_DIR: str(folder)}


def of_run(folder: Path, excluded: Iterable[int] = ()) -> list[int]:
    """The pids of all living processes that carry the RUN_ID of the run in this folder, whoever their parent is now."""
    left_out, place = set(excluded), folder.resolve()

    def belongs(pid: int) -> bool:
        carried = environment(pid)
        return carried.get(RUN_ID) == place.name and Path(carried.get(RUN_DIR, place)).resolve() == place

    return sorted(pid for pid in _pids() if pid not in left_out and belongs(pid))


def descendants(roots: Iterable[int]) -> list[int]:
    """The living processes below these, whatever they carry."""
    below: dict[int, list[int]] = {}
    for pid in _pids():
        if (parent := _parent(pid)) is not None:
            below.setdefault(parent, []).append(pid)
    found: set[int] = set()
    unseen = list(roots)
    while unseen:
        fresh = [pid for pid in below.get(unseen.pop(), []) if pid not in found]
        found.update(fresh)
        unseen += fresh
    return sorted(pid for pid in found if start_time(pid) is not None)


def everything_else(folder: Path) -> list[int]:
    """All that lives of a run but this process: what carries its tag, and what is below this process without it."""
    me = os.getpid()
    return sorted({*of_run(folder, [me]), *descendants([me])})


def send(pids: Iterable[int], signal_number: signal.Signals) -> None:
    """Send a signal to those of the processes that still live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent dies, in place of the system's first one.

    Raises OSError where the kernel refuses.
    """
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def bury(except_for: int) -> None:
    """Wait for the children that have ended, but for one that somebody else waits for."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == except_for:
                return
            os.waitpid(ended.si_pid, 0)


def trainers(folder: Path) -> list[int]:
    """The pids of a run's ranks: what torchrun has started, without the loader processes that a rank has forked."""
    ranks = [pid for pid in of_run(folder) if "LOCAL_RANK" in environment(pid)]
    return [pid for pid in ranks if _parent(pid) not in ranks]


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory held by these processes, shared pages counted in each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            total += int((_PROC / str(pid) / "statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have used so far, in user and kernel mode."""
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in map(_stat, pids) if fields)
    return ticks / os.sysconf("SC_CLK_TCK")


def kill_run(folder: Path, timeout_s: float = 10) -> list[int]:
    """SIGKILL every process of a run but this one until none is left, and return the pids that were hit."""
    return kill_all(lambda: of_run(folder, [os.getpid()]), timeout_s)


def kill_all(find: Callable[[], list[int]], timeout_s: float = 10) -> list[int]:
    """SIGKILL what `find` gives until it gives nothing, and return the pids that were hit.

    Ends after `timeout_s` even where one hangs in the kernel: nothing more can be done to it.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + timeout_s
    while (left := find()) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        time.sleep(_POLL_S)
    return sorted(killed)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 (a path for each is slow)


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _stat(pid: int) -> list[bytes]:
    """The fields of `/proc/PID/stat` from the state on; empty where the process has ended."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as stream:  # noqa: PTH123 (asked of every process there is)
            stat = stream.read()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat[stat.rindex(b")") + 2 :].split()  # the name before may hold spaces and brackets
