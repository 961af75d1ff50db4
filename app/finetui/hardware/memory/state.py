"""What stays in memory through a whole training: weights, adapter, gradients and the optimizer's state."""

from __future__ import annotations

from dataclasses import dataclass

from finetui.hardware.memory.constants import constants, figure
from finetui.hardware.memory.job import BYTES, Job
from finetui.hardware.memory.shape import Shape


@dataclass(frozen=True)
class State:
    """Bytes of one process."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    scratch: float
    """What the optimizer's step needs beside its state, while no activations are there."""
    casts: float
    """Copies in the type of the computation that autocast makes of float32 weights in every forward pass."""


@dataclass(frozen=True)
class _Trained:
    weights: float
    width: int

    @property
    def bytes(self) -> float:
        return self.weights * self.width


def state(shape: Shape, job: Job) -> State:
    """Count it for one process, shards and gathered layers of FSDP2 included."""
    frozen = 0.0 if job.method == "full" else _frozen(shape, job)
    trained = _trained(shape, job)
    made = sum(part.bytes for part in trained)
    if job.method == "full" and job.stage == "dpo":
        frozen += shape.parameters * job.width  # the reference model
    states, scratch = zip(*(_optimizer(part, job.optimizer) for part in trained), strict=True)
    share = job.world_size if job.sharding == "fsdp2" else 1
    copies = 2 if job.world_size > 1 and share == 1 else 1  # DDP reduces gradients in buckets of their own
    full = job.method == "full"
    return State(
        weights=(frozen + (made if full else 0)) / share + _gathered(shape, job),
        adapter=0 if full else made / share,
        gradients=made * copies / share,
        optimizer=sum(states) / share,
        scratch=sum(scratch) / share,
        casts=sum(part.weights * job.width for part in trained if part.width > job.width) / share,
    )


def adapter_parameters(shape: Shape, job: Job) -> int:
    """Weights of the adapter: r × (in + out) a layer, and the magnitudes of DoRA."""
    return sum(
        (job.r * (linear.inp + linear.out) + linear.out * job.use_dora) * linear.count
        for linear in shape.linear_layers()
        if job.adapts(linear.name)
    )


def _frozen(shape: Shape, job: Job) -> float:
    total = shape.parameters + shape.tower
    if job.quantization is None:
        return total * job.width
    packed = constants()["quantised"]
    each = (
        packed["double_quant"] if job.double_quant and job.quantization in ("nf4", "fp4") else packed[job.quantization]
    )
    return float(shape.linear * each + (total - shape.linear) * BYTES[job.kept_dtype or job.dtype])


def _trained(shape: Shape, job: Job) -> list[_Trained]:
    if job.method == "full":
        return [_Trained(shape.parameters, 4 if job.master_weights else job.width)]
    parts = [_Trained(adapter_parameters(shape, job), BYTES[job.adapter_dtype])]
    parts += [_Trained(shape.embedding, BYTES[job.saved_dtype]) for _ in job.modules_to_save]
    return parts


def _optimizer(part: _Trained, name: str) -> tuple[float, float]:
    """State and scratch of the optimizer; one that the table lacks is counted as Adam."""
    table = constants()["optimizer"]
    costs = table.get(name, table["adamw_torch"])
    kept = part.weights * costs["bytes"] if "bytes" in costs else part.bytes * costs["share"]
    return kept, part.bytes * costs.get("scratch", 0)


def _gathered(shape: Shape, job: Job) -> float:
    """FSDP2: the layer at work and the one fetched ahead, and the two ends, which stay whole through a step."""
    if job.sharding != "fsdp2":
        return 0.0
    each = figure("quantised", "nf4") if job.quantization in ("nf4", "fp4") else job.width
    layer = max(
        sum(linear.weights for linear in block.linears) * each + (block.experts + block.others) * job.width
        for block, _ in shape.blocks
    )
    reduced = layer * 2 if job.method == "full" else 0
    return float(2 * layer + reduced + (shape.embedding + shape.head) * job.width)
