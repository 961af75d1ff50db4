"""The peak of memory of one process of a training, by counting; milliseconds, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetui.hardware.memory.activations import activations
from finetui.hardware.memory.band import band
from finetui.hardware.memory.constants import GIB, figure
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.measured import unmeasured
from finetui.hardware.memory.shape import Shape
from finetui.hardware.memory.state import state

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead")


@dataclass(frozen=True)
class Prediction:
    """The peak of one GPU, in bytes."""

    total_bytes: int
    band: tuple[int, int]
    """Where the peak is in nineteen of twenty measured cases; what has to fit is the upper edge."""
    parts: Mapping[str, int]
    """weights, adapter, gradients, optimizer, activations, logits, overhead: together the total."""
    outside_bytes: int
    """Of the total, what torch's allocator never sees: the driver's context, NCCL, on a CPU the process itself."""
    unmeasured: bool
    """Whether no published measurement is like it, so that the band too is a guess."""
    notes: tuple[str, ...] = ()
    """Codes of messages: what no measurement covers, and what is estimated."""

    def fits(self, free: int) -> bool:
        """Whether it fits into so many bytes, at the upper edge of the band."""
        return self.band[1] <= free


def predict(shape: Shape, job: Job, gpu_kind: str | None = None) -> Prediction:
    """The peak of one process of `job` on a model of `shape`; `gpu_kind` None is the CPU."""
    stays, moves = state(shape, job), activations(shape, job)
    step = moves.kept + moves.logits + stays.casts
    overhead = _held(step, moves.scores) if job.varied else figure("process", "fragmentation") * step
    outside = figure("process", "host" if gpu_kind is None else "context") * GIB
    outside += figure("process", "collectives") * GIB if gpu_kind is not None and job.world_size > 1 else 0
    parts = {
        "weights": stays.weights,
        "adapter": stays.adapter,
        "gradients": stays.gradients,
        "optimizer": stays.optimizer + max(0.0, stays.scratch - step),
        "activations": moves.kept + stays.casts,
        "logits": moves.logits,
        "overhead": overhead + outside,
    }
    total = sum(parts.values())
    beyond = unmeasured(shape, job, gpu_kind)
    return Prediction(
        total_bytes=int(total),
        band=band(total, step + overhead + outside),
        parts={name: int(size) for name, size in parts.items()},
        outside_bytes=int(outside),
        unmeasured=bool(beyond),
        notes=beyond + (("memory.tower-estimated",) if shape.tower else ()),
    )


def _held(step: float, scores: float) -> float:
    """What the allocator holds beyond the step after batches of many lengths; scores lie in blocks of their own."""
    rest = step - scores
    held: float = figure("varied", "factor") * (rest / GIB) ** figure("varied", "power") * GIB
    return max(0.0, held - rest)
