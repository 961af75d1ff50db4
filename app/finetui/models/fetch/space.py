"""Whether what is still to come fits on the disk, and where else there is room."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from finetui.core.errors import MACHINE, FinetuiError, Problem

_SLACK = 64 << 20
_SLACK_SHARE = 0.01
_PSEUDO = ("/proc", "/sys", "/dev", "/run", "/boot")
_NAMED = 3


def check_space(folder: Path, needed: int, words: str) -> None:
    """Refuse what does not fit below `folder`, which is there; `words` are the command to be repeated elsewhere.

    Raises FinetuiError (exit 5) with bytes needed and free, and the disks that have room.
    """
    spare = max(_SLACK, int(needed * _SLACK_SHARE))
    free = free_bytes(folder)
    if free >= needed + spare:
        return
    roomy = disks_with(needed + spare, beside=folder)
    facts = {"needed": in_words(needed), "spare": in_words(spare), "free": in_words(free), "name": words}
    if not roomy:
        raise FinetuiError(Problem("fetch.disk", facts, str(folder)), MACHINE)
    named = ", ".join(f"{place} ({in_words(room)})" for place, room in roomy[:_NAMED])
    facts |= {"roomy": named, "home": str(_own_place(Path(roomy[0][0])) / "finetui")}
    raise FinetuiError(Problem("fetch.disk-elsewhere", facts, str(folder)), MACHINE)


def _own_place(disk: Path) -> Path:
    """The person's own folder on a disk, where they have one there."""
    home = Path.home()
    return home if home.is_dir() and home.stat().st_dev == disk.stat().st_dev else disk


def free_bytes(folder: Path) -> int:
    """Bytes that this person may still write on the disk of a folder."""
    return shutil.disk_usage(folder).free


def disks_with(needed: int, beside: Path) -> list[tuple[str, int]]:
    """Mount points of other disks that are ours to write and have room, the roomiest first."""
    found: dict[int, tuple[str, int]] = {}
    own = beside.stat().st_dev
    for disk in psutil.disk_partitions(all=False):
        place = disk.mountpoint
        try:
            device = os.stat(place).st_dev
            usable = Path(place).is_dir() and os.access(place, os.W_OK) and not place.startswith(_PSEUDO)
            if usable and device != own and (free := free_bytes(Path(place))) >= needed:
                found.setdefault(device, (place, free))
        except OSError:  # not ours to look at
            continue
    return sorted(found.values(), key=lambda disk: -disk[1])


def in_words(count: int) -> str:
    """Bytes in words: 15.2 GB, 340 MB."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
