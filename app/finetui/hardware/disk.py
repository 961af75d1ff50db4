"""The disk under a path: its room, its kind, and whether a larger one stands beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1 << 30
SMALL_BYTES = 100 * GIB
"""Below this a disk is small for models: one of 7 B takes 15 GB, its merged copy as much, its checkpoints more."""
TIMES_LARGER = 3
"""Another disk is worth a move from this many times the room on."""

Statvfs = Callable[[str], Any]

_NETWORK = re.compile(r"nfs|cifs|smb|lustre|gpfs|ceph|beegfs|glusterfs|fuse\.(?!fuse-overlayfs)|9p|afs|mfs", re.I)
_NOT_FOR_DATA = re.compile(
    r"(tmpfs|devtmpfs|ramfs|proc|sysfs|cgroup2?|devpts|mqueue|squashfs|overlay|iso9660|vfat|efivarfs|autofs|"
    r"tracefs|debugfs|securityfs|configfs|hugetlbfs|binfmt_misc|nsfs|bpf|pstore|fusectl|rpc_pipefs|fuse\.lxcfs|"
    r"fuse\.gvfsd-fuse|fuse\.portal)"
)
_SYSTEM = ("/boot", "/proc", "/sys", "/dev", "/run", "/snap", "/etc", "/usr", "/var/lib/docker", "/var/lib/kubelet")


@dataclass(frozen=True)
class Disk:
    """The file system that a path is on."""

    path: str
    """The path that was asked about, which need not be there yet."""
    mount: str
    """Where the file system is mounted; empty where the system does not say."""
    filesystem: str
    """Its type, such as `ext4`, `overlay` or `nfs4`; empty where the system does not say."""
    total_bytes: int
    free_bytes: int
    """What this user may still write."""
    free_inodes: int | None
    """Files that can still be made; None where the file system does not count them."""
    device: int
    """Its number: two paths with the same number share their room."""

    @property
    def is_network(self) -> bool:
        """Whether it is on another machine, where locks and small writes cannot be relied on."""
        return bool(_NETWORK.search(self.filesystem))

    @property
    def is_memory(self) -> bool:
        """Whether it is lost when the machine stops."""
        return self.filesystem in ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Mount:
    """One line of the system's list."""

    point: str
    filesystem: str
    writable: bool


def read_mounts(root: Path = Path("/")) -> tuple[Mount, ...]:
    """What is mounted, later ones over earlier ones; nothing where the system has no such list."""
    try:
        text = (root / "proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    rows = [line.split() for line in text.splitlines()]
    return tuple(Mount(_unescaped(row[1]), row[2], "ro" not in row[3].split(",")) for row in rows if len(row) >= 4)


def read_disk(path: Path, mounts: Iterable[Mount], statvfs: Statvfs = os.statvfs) -> Disk:
    """The disk that `path` is or would be on.

    Raises OSError where it cannot be asked.
    """
    there = path.expanduser().absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    there = there.resolve()
    room = statvfs(str(there))
    over = [mount for mount in mounts if there.is_relative_to(mount.point)]
    nearest = max(over, key=lambda mount: len(Path(mount.point).parts), default=None)
    last = [mount for mount in over if nearest and mount.point == nearest.point][-1:]
    return Disk(
        path=str(path.expanduser().absolute()),
        mount=last[0].point if last else "",
        filesystem=last[0].filesystem if last else "",
        total_bytes=room.f_blocks * room.f_frsize,
        free_bytes=room.f_bavail * room.f_frsize,
        free_inodes=room.f_favail if room.f_files else None,
        device=there.stat().st_dev,
    )


def larger_disk(small: Disk, mounts: Iterable[Mount], statvfs: Statvfs = os.statvfs) -> Disk | None:
    """A disk for data beside a small one: one that this user may write to, with several times the room; or None.

    One of this machine goes before one of the network, then the one with most room.
    """
    if small.free_bytes >= SMALL_BYTES:
        return None
    found: list[Disk] = []
    mounts = tuple(mounts)
    for mount in mounts:
        if not mount.writable or _NOT_FOR_DATA.fullmatch(mount.filesystem) or _is_system(mount.point):
            continue
        try:
            if Path(mount.point).is_dir() and os.access(mount.point, os.W_OK):
                found.append(read_disk(Path(mount.point), mounts, statvfs))
        except OSError:  # a network disk whose server is gone
            continue
    fit = [
        disk
        for disk in found
        if disk.device != small.device and disk.free_bytes >= max(TIMES_LARGER * small.free_bytes, SMALL_BYTES // 2)
    ]
    return min(fit, key=lambda disk: (disk.is_network, -disk.free_bytes), default=None)


def _is_system(point: str) -> bool:
    return point == "/" or any(Path(point).is_relative_to(place) for place in _SYSTEM)


def _unescaped(field: str) -> str:
    """A path as /proc/mounts writes it: blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
