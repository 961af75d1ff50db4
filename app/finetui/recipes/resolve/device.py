"""What one process trains on: a GPU of the machine or its CPU, with its memory and its speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetui.hardware.gpu import Gpu
from finetui.hardware.kinds import GpuKind, gpu_kinds
from finetui.hardware.probe import Machine

CORE_TFLOPS = 0.115
"""Of a CPU core in float32, for very wide models: with it a LoRA step of 256 tokens of a 135 M model takes the 1.8 s
that it was seen to take on two cores."""
HOST_LINK = 12.0
"""GB/s that GPUs without links of their own exchange through the host: somewhat less than half of PCIe 4.0's 32."""
LINK_SHARE = 0.4
"""Share of the data sheet's speed of all links both ways that one way of collectives comes to."""


@dataclass(frozen=True)
class Device:
    """One GPU of several equal ones (of unequal ones the poorest), or the CPU."""

    kind: str | None
    """Its kind; None for the CPU."""
    speed: GpuKind
    """What is known of its speed; of an unknown GPU, the known one that is most like it."""
    free_bytes: int
    """Memory that a process can have of it."""
    total_bytes: int
    compute_capability: tuple[int, int]
    bf16: bool
    link: float
    """GB/s to the other GPUs."""
    held_bytes: int = 0
    """Memory that other processes hold."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.kind or "CPU"


def device_of(machine: Machine, count: int) -> Device:
    """What each of `count` processes gets: one of the first GPUs, or the CPU where there is none."""
    if not machine.gpus:
        cores = machine.physical_cores
        return Device(None, _cpu(cores), machine.ram_bytes, machine.ram_bytes, (0, 0), bf16=False, link=HOST_LINK)
    gpus = machine.gpus[:count]
    least = min(gpus, key=_free)
    speeds = [_speed(gpu) for gpu in gpus]
    slowest = min(speeds, key=lambda kind: kind.tflops["float16"])
    return Device(
        kind=least.kind,
        speed=slowest,
        free_bytes=_free(least),
        total_bytes=least.total_bytes or slowest.total_bytes,
        compute_capability=min(_capability(gpu) for gpu in gpus),
        bf16=all(gpu.bf16 for gpu in gpus),
        link=slowest.nvlink * LINK_SHARE if _linked(gpus) and slowest.nvlink else HOST_LINK,
        held_bytes=sum(holder.bytes or 0 for holder in least.holders),
    )


def _free(gpu: Gpu) -> int:
    return gpu.free_bytes or _speed(gpu).usable_bytes


def _capability(gpu: Gpu) -> tuple[int, int]:
    return gpu.compute_capability if gpu.compute_capability > (0, 0) else _speed(gpu).compute_capability


def _linked(gpus: Sequence[Gpu]) -> bool:
    return all(gpu.nvlink for gpu in gpus)


def _speed(gpu: Gpu) -> GpuKind:
    kinds = gpu_kinds()
    if gpu.kind in kinds:
        return kinds[gpu.kind]
    return min(
        kinds.values(),
        key=lambda kind: (
            abs(kind.compute_capability[0] - gpu.compute_capability[0]),
            abs(kind.total_bytes - gpu.total_bytes),
        ),
    )


def _cpu(cores: int) -> GpuKind:
    rate = CORE_TFLOPS * cores
    return GpuKind(
        name="cpu",
        words="",
        excluded=frozenset(),
        total_bytes=0,
        usable_bytes=0,
        compute_capability=(0, 0),
        tflops={"bfloat16": rate, "float16": rate, "float32": rate},
        bandwidth=20.0,
        nvlink=0.0,
        achieved={"lora": 1.0, "full": 1.0},
        measured=False,
    )
