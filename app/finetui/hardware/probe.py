"""This machine: CPU, memory, GPUs, as far as this process may use them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.hardware.cpu import probe_cpu
from finetui.hardware.gpu import Gpu, GpuNote
from finetui.hardware.limits import cpu_limit, memory_limit
from finetui.hardware.nvml import load_nvml, read_gpus


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
    """The GPUs that this process may use, in PCI order."""
    cuda: tuple[int, int] | None = None
    """The highest CUDA version that the driver supports, or None where there is no driver."""
    gpu_notes: tuple[GpuNote, ...] = ()
    """Why there is no GPU, or not every one can be used, or one is not well."""


def probe(
    root: Path = Path("/"),
    nvml: Callable[[], Any] = load_nvml,
    environment: Mapping[str, str] = os.environ,
) -> Machine:
    """Look at this machine; `root` stands for the system's files, `nvml` gives NVIDIA's library (or None)."""
    import psutil

    cpu = probe_cpu(root)
    cores = usable_cores(root)
    ram = int(psutil.virtual_memory().total)
    reading = read_gpus(nvml(), environment)
    return Machine(
        cpu_vendor=cpu.vendor,
        cpu_model=cpu.model,
        instruction_set=cpu.instruction_set,
        cores=cores,
        physical_cores=min(psutil.cpu_count(logical=False) or cores, cores),
        ram_bytes=min(ram, memory_limit(root) or ram),
        gpus=reading.gpus,
        cuda=reading.cuda,
        gpu_notes=reading.notes,
    )


def usable_cores(root: Path) -> int:
    """Logical cores that this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, cpu_limit(root) or cores)
