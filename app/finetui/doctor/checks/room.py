"""Room: on disks, in memory, in shared memory, in the table of open files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from finetui.core.errors import ShellWords
from finetui.doctor.finding import MISSING, NOTE, OK, WARNING, Finding, gib, say
from finetui.doctor.remedies import as_root
from finetui.doctor.situation import Situation
from finetui.hardware.disk import GIB, Disk
from finetui.runs.launch import NEEDED_BYTES

ENOUGH_BYTES = 20 * GIB
"""A model of 7 B and room to work."""
LEAST_INODES = 10_000
LEAST_FILES = 1024
LEAST_RAM = 2 * GIB
"""What the training libraries alone take, and a little for the model's smallest parts."""
LEAST_SHM = GIB
"""Of the shared memory that several processes hand each other batches and gradients through."""

_FOLDERS: Mapping[str, str] = {"FINETUI_HOME": "finetui", "HF_HOME": "huggingface"}
"""What a variable's folder is called on another disk."""


def check_disks(situation: Situation) -> Iterator[Finding]:
    """What there is to say of the disks that models, data and runs come to lie on."""
    seen: set[int] = set()
    works = situation.purpose.trains or situation.purpose.reaches_hub
    level = MISSING if works else WARNING
    if not situation.is_writable and "FINETUI_HOME" in situation.disks:
        yield say(level, "home-read-only", path=situation.disks["FINETUI_HOME"].path)
    if "TMPDIR" not in situation.disks:
        yield say(level, "temporary-absent")
    for variable, disk in situation.disks.items():
        if disk.device in seen:
            continue
        seen.add(disk.device)
        facts: dict[str, object] = {"variable": variable, "path": disk.path, "free": gib(disk.free_bytes)}
        command = _elsewhere(situation, variable, disk)
        if variable in _FOLDERS and disk.free_bytes < NEEDED_BYTES:
            yield say(level, "disk-full", command=command, **facts)
        elif variable in _FOLDERS and disk.free_bytes < ENOUGH_BYTES:
            yield say(WARNING, "disk-low", command=command, **facts)
        elif variable in _FOLDERS and (larger := situation.larger.get(variable)):
            told = {"mount": larger.mount or larger.path, "larger": gib(larger.free_bytes)}
            yield say(WARNING, "disk-beside", command=command, **told, **facts)
        elif variable in _FOLDERS:
            yield say(OK, "disk-ok", **facts)
        elif disk.free_bytes < NEEDED_BYTES:
            yield say(WARNING, "temporary-full", **facts)
        yield from _kind_of(disk, facts)


def check_memory(situation: Situation) -> Iterator[Finding]:
    """What there is to say of the limits of processes."""
    host = situation.host
    several = len(situation.machine.gpus) > 1
    if several and host.shm_bytes is not None and host.shm_bytes < LEAST_SHM:
        code = "shm-small-container" if host.is_container else "shm-small"
        yield say(WARNING, code, size=host.shm_bytes >> 20, root=as_root(situation))
    if 0 <= host.open_files < LEAST_FILES:
        code = "open-files" if host.most_open_files > host.open_files or host.most_open_files < 0 else "open-files-most"
        yield say(WARNING, code, count=host.open_files, root=as_root(situation))
    if situation.purpose.packages and host.ram_free_bytes < LEAST_RAM:
        yield say(WARNING, "memory-low", free=gib(host.ram_free_bytes))
    if host.ram_limit_bytes is not None:
        yield say(NOTE, "memory-limit", limit=gib(host.ram_limit_bytes))
    if host.core_limit is not None:
        yield say(NOTE, "core-limit", count=host.core_limit)


def _elsewhere(situation: Situation, variable: str, disk: Disk) -> ShellWords:
    """The command that moves to a larger disk what is kept on this one; where there is none, that shows its room."""
    larger = situation.larger.get(variable)
    if larger is None:
        return ShellWords(f"df -h {shlex.quote(disk.mount or disk.path)}")
    moved = [
        f"{name}={shlex.quote(str(Path(larger.mount or larger.path) / folder))}"
        for name, folder in _FOLDERS.items()
        if name in situation.disks and situation.disks[name].device == disk.device
    ]
    return ShellWords("export " + " ".join(moved))


def _kind_of(disk: Disk, facts: Mapping[str, object]) -> Iterator[Finding]:
    if disk.free_inodes is not None and disk.free_inodes < LEAST_INODES:
        yield say(WARNING, "disk-inodes", count=disk.free_inodes, **facts)
    if facts["variable"] in _FOLDERS and disk.is_memory:
        yield say(WARNING, "disk-memory", **facts)
    elif facts["variable"] in _FOLDERS and disk.filesystem == "overlay":
        yield say(NOTE, "disk-overlay", **facts)
    elif facts["variable"] in _FOLDERS and disk.is_network:
        yield say(NOTE, "disk-network", filesystem=disk.filesystem, **facts)
