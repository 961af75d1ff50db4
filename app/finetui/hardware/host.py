"""What a job finds on this machine beside cores and GPUs: free memory, swap, shared memory, limits, containers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from finetui.hardware.disk import Statvfs, read_mounts
from finetui.hardware.limits import cpu_limit, memory_left, memory_limit

_NVIDIA = "0x10de"
_DISPLAY = "0x03"


@dataclass(frozen=True)
class Host:
    """The room that is left here now, and what kind of place it is."""

    ram_free_bytes: int
    """Memory that this process can still have."""
    swap_bytes: int
    """Swap space, used or not."""
    shm_bytes: int | None
    """Size of /dev/shm, through which processes hand each other batches; None where there is none."""
    open_files: int
    """How many files a process may have open; negative where that is not limited."""
    most_open_files: int
    """How many it could allow itself; negative likewise."""
    ram_limit_bytes: int | None
    """Memory that control groups allow, where that is less than the machine has."""
    core_limit: int | None
    """Cores that control groups allow time on, where that is less than the machine has."""
    is_container: bool
    is_wsl: bool
    """Whether this is Linux under Windows."""
    nvidia_cards: int
    """NVIDIA GPUs on the bus, whether or not a driver knows them."""


def read_host(root: Path = Path("/"), statvfs: Statvfs = os.statvfs) -> Host:
    """Look at this machine; `root` stands for the system's files."""
    import resource

    import psutil

    memory = psutil.virtual_memory()
    free, left = int(memory.available), memory_left(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ram, cores = memory_limit(root), cpu_limit(root)
    return Host(
        ram_free_bytes=free if left is None else min(free, left),
        swap_bytes=int(psutil.swap_memory().total),
        shm_bytes=_size(root / "dev/shm", statvfs),
        open_files=soft,
        most_open_files=hard,
        ram_limit_bytes=ram if ram is not None and ram < memory.total else None,
        core_limit=cores if cores is not None and cores < (os.cpu_count() or 1) else None,
        is_container=_is_container(root),
        is_wsl="microsoft" in _text(root / "proc/sys/kernel/osrelease").lower(),
        nvidia_cards=_nvidia_cards(root),
    )


def _size(folder: Path, statvfs: Statvfs) -> int | None:
    try:
        room = statvfs(str(folder))
    except OSError:
        return None
    return int(room.f_blocks * room.f_frsize)


def _is_container(root: Path) -> bool:
    marked = any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))
    return marked or any(mount.point == "/" and mount.filesystem == "overlay" for mount in read_mounts(root))


def _nvidia_cards(root: Path) -> int:
    """Devices on the PCI bus that are displays or 3D controllers of NVIDIA."""
    return sum(
        _text(device / "vendor").strip() == _NVIDIA and _text(device / "class").startswith(_DISPLAY)
        for device in (root / "sys/bus/pci/devices").glob("*")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
