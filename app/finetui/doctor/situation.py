"""All that the checks look at, gathered once: no check touches the system itself."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import finetui
from finetui.core import home
from finetui.core.caches import hf_home
from finetui.doctor.bounds import Bounds, read_bounds
from finetui.doctor.interpreter import Interpreter, ask_interpreter
from finetui.doctor.leftovers import RunHere, runs_here
from finetui.doctor.logins import Logins, read_logins
from finetui.doctor.model import ModelHere, look_for
from finetui.doctor.online import Network, ask_network
from finetui.doctor.purpose import Purpose
from finetui.hardware.disk import Disk, Mount, larger_disk, read_disk, read_mounts
from finetui.hardware.host import Host, read_host
from finetui.hardware.probe import Machine, probe

MULTIPLEXERS = ("tmux", "screen")
HELPERS = ("uv", "hf", "nvcc", "apt-get", "dnf", "zypper", "pacman", "conda")
"""Programs that mend, or that what mends needs."""
_RESOLVING_S = 5.0


@dataclass(frozen=True)
class Situation:
    """This machine, as far as it matters to a purpose."""

    purpose: Purpose
    machine: Machine
    host: Host
    disks: Mapping[str, Disk]
    """By the variable that moves what is kept there: FINETUI_HOME, HF_HOME, TMPDIR; those that can be asked."""
    larger: Mapping[str, Disk]
    """By the variable whose disk is small: one with far more room, where there is one."""
    is_writable: bool
    """Whether this user may write where FINETUI_HOME is or would be."""
    environment: Mapping[str, str]
    encoding: str
    """How stdout writes text."""
    interpreter: Interpreter | None
    """The training interpreter; None where the purpose needs none."""
    bounds: Bounds
    """The versions that finetui asks for."""
    programs: frozenset[str]
    """Of the programs that matter, those on the path."""
    distribution: str
    """The system's short name, such as `ubuntu`; empty where it has none."""
    is_root: bool
    """Whether this user may do everything."""
    clock_behind_s: float
    """By how much the clock is before the moment that finetui was installed at; 0 where it is not."""
    resolves: bool
    """Whether this machine's own name has an address."""
    runs: tuple[RunHere, ...]
    logins: Logins
    network: Network | None
    """None where nobody asked to go online."""
    model: ModelHere | None
    """None where nobody named one."""


def gather(purpose: Purpose, *, python: str | None = None, model: str | None = None, online: bool = False) -> Situation:
    """Look at everything; the training interpreter is started only where the purpose has packages."""
    logins = read_logins()
    mounts = read_mounts()
    disks = _disks(mounts)
    larger = {variable: larger_disk(disk, mounts) for variable, disk in disks.items()}
    return Situation(
        purpose=purpose,
        machine=probe(),
        host=read_host(),
        disks=disks,
        larger={variable: disk for variable, disk in larger.items() if disk is not None},
        is_writable=is_writable(home.home()),
        environment=dict(os.environ),
        encoding=getattr(sys.stdout, "encoding", None) or "ascii",
        interpreter=ask_interpreter(python) if purpose.packages or python else None,
        bounds=read_bounds(),
        programs=_on_path((*MULTIPLEXERS, *HELPERS, *purpose.programs)),
        distribution=_distribution(),
        is_root=os.geteuid() == 0,
        clock_behind_s=max(0.0, Path(finetui.__file__).stat().st_mtime - time.time()),
        resolves=_resolves(),
        runs=runs_here(),
        logins=logins,
        network=ask_network(logins.hub, logins.modelscope) if online else None,
        model=None if model is None else look_for(model),
    )


def _disks(mounts: tuple[Mount, ...]) -> dict[str, Disk]:
    places: Mapping[str, Callable[[], str | Path]] = {
        "FINETUI_HOME": home.home,
        "HF_HOME": hf_home,
        "TMPDIR": tempfile.gettempdir,
    }
    found = {}
    for variable, place in places.items():
        with contextlib.suppress(OSError):  # there is none, or its disk does not answer: the checks miss it
            found[variable] = read_disk(Path(place()), mounts)
    return found


def is_writable(folder: Path) -> bool:
    """Whether this user may write there, or make the folder where it is not there yet."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return os.access(there, os.W_OK | os.X_OK)


def _on_path(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if shutil.which(name))


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("ID", "")
    except OSError:
        return ""


def _resolves() -> bool:
    """Whether torch.distributed will find this machine by its own name; a name server that is silent counts as no."""
    found: list[object] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(socket.gethostname(), None))
        except (OSError, UnicodeError):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_RESOLVING_S)
    return bool(found)
