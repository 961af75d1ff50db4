"""This machine: CPU, memory, GPUs, as far as this process may use them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetui.hardware.cpu import probe_cpu
from finetui.hardware.gpu import Gpu, list_gpus, parse_gpus
from finetui.hardware.limits import cpu_limit, memory_limit


@dataclass(frozen=True)
class Machine:
    """What a job can count on here."""

    cpu_vendor: str
    """The maker of the CPU, such as `GenuineIntel`."""
    cpu_model: str
    """The name of the CPU."""
    instruction_set: str
    """The vector instructions that numeric libraries will use, such as `avx2` or `neon`."""
    cores: int
    """Logical cores that this process may use, at least 1."""
    physical_cores: int
    """How many of them are cores of their own, at least 1."""
    ram_bytes: int
    """Memory that this process may use."""
    gpus: tuple[Gpu, ...] = ()
    """The GPUs, in the driver's order."""


def probe(root: Path = Path("/"), smi: Callable[[], str] = list_gpus) -> Machine:
    """Look at this machine; `root` stands for the system's files, `smi` for nvidia-smi's answer."""
    import psutil

    cpu = probe_cpu(root)
    cores = usable_cores(root)
    ram = int(psutil.virtual_memory().total)
    return Machine(
        cpu_vendor=cpu.vendor,
        cpu_model=cpu.model,
        instruction_set=cpu.instruction_set,
        cores=cores,
        physical_cores=min(psutil.cpu_count(logical=False) or cores, cores),
        ram_bytes=min(ram, memory_limit(root) or ram),
        gpus=parse_gpus(smi()),
    )


def usable_cores(root: Path) -> int:
    """Logical cores that this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, cpu_limit(root) or cores)
