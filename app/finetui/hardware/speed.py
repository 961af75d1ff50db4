"""How long a training pass takes: its arithmetic at the rate that the GPU kind was seen to reach."""

from __future__ import annotations

import math

from finetui.hardware.kinds import GpuKind
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.shape import Shape
from finetui.hardware.memory.state import adapter_parameters

LAYER_SECONDS = 0.0045
"""Least time of one layer in one pass forward and back, recomputed once: what starting its kernels takes.

From the steps of 256 tokens that Qwen published for LoRA on an A100: 4.7 to 5.2 ms a layer,
arithmetic included, for 24, 32 and 40 layers.
"""

HALF_WIDTH = 1150
"""Width at which half of the time goes into work by the element, which grows with it while products grow squared.

From the same table at 8192 tokens: 28, 35 and 38 % of the peak at widths of 2048, 4096 and 5120.
"""

UNPACKED = 3 * 4.5
"""Bytes of traffic a 4-bit weight in one pass: read packed, written as 16 bits and read again, each of three times."""


RECOMPUTED = 1 / 3
"""Share of the passes of a step (forward, forward again, backward) that checkpointing adds, counted in starts and
traffic; of the arithmetic it is the forward pass once more."""


def flops(shape: Shape, job: Job, tokens: float, length: float) -> float:
    """Floating point operations of training on so many tokens, in rows of `length` on average, recomputation apart.

    2 a weight forward and 2 for the gradient of its input; 2 more for the gradient of a weight that is trained.
    Attention: 4 a feature of the query and a token seen, half of the row on average; twice that going back.
    """
    if job.method == "full":
        a_token = 6.0 * shape.active_parameters
    else:
        a_token = 4.0 * shape.active_parameters + 6.0 * adapter_parameters(shape, job)
    return (a_token + 3 * _attention(shape, length)) * tokens


def pass_seconds(shape: Shape, job: Job, kind: GpuKind, seen: float | None = None) -> float:
    """Seconds of one micro batch, forward and back, on one GPU of this kind.

    `seen` is the length of the row that a token stands in, where that is not the batch's: in a pack of short rows.
    The rates are of steps that recompute; without checkpointing that part of the time is saved.
    """
    rate = (kind.tflops[job.dtype] or kind.tflops["float16"]) * 1e12
    share = kind.achieved[job.method] * shape.hidden / (shape.hidden + HALF_WIDTH)
    length = job.tokens if seen is None else seen
    counted = flops(shape, job, job.positions, length)
    forward = forward_flops(shape, job, job.positions, length)
    once, work = 1.0, counted
    if not job.checkpointing:
        once, work = 1.0 - RECOMPUTED, counted * counted / (counted + forward)
    unpacking = UNPACKED * shape.linear / (kind.bandwidth * 1e9) if job.quantization else 0.0
    started = LAYER_SECONDS * shape.layers
    return math.hypot(work / (rate * share), once * started) + once * unpacking  # kernels start while others work


def forward_flops(shape: Shape, job: Job, tokens: float, length: float) -> float:
    """The part of `flops` that is the forward pass, which evaluation is alone and checkpointing does twice."""
    a_token = 2.0 * (shape.active_parameters + adapter_parameters(shape, job))
    return (a_token + _attention(shape, length)) * tokens


def _attention(shape: Shape, length: float) -> float:
    """Operations of attention a token in the forward pass."""
    found = 0.0
    for block, times in shape.blocks:
        if block.attention != "linear_attention":
            found += 4 * block.query * min(length / 2, block.window or length) * times
    return found
