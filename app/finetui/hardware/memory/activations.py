"""What comes and goes within a step: what layers keep for the backward pass, and the logits."""

from __future__ import annotations

from dataclasses import dataclass

from finetui.hardware.memory.blocks import Block, Linear
from finetui.hardware.memory.constants import figure
from finetui.hardware.memory.job import BYTES, Job
from finetui.hardware.memory.shape import Shape


@dataclass(frozen=True)
class Activations:
    """Bytes of one process at the step's highest point."""

    kept: float
    """What waits for the backward pass, and what its busiest layer needs beyond the room that the logits left."""
    logits: float
    scores: float
    """How much of it is attention scores."""


def activations(shape: Shape, job: Job) -> Activations:
    """Count them for the longest batch: training or, where it takes more, evaluation."""
    layers = [(_kept(shape, block, job), _working(shape, block, job), times) for block, times in shape.blocks]
    scores = [(_scores(block, job, "saved"), _scores(block, job, "working"), times) for block, times in shape.blocks]
    kept, busiest = _peak(layers, job)
    score_kept, score_busiest = _peak(scores, job)
    if job.checkpointing:
        kept += _stream_width(job) * shape.hidden * job.positions * shape.layers
    logits = _logits(shape, job)
    kept += max(0.0, busiest - logits)
    score_kept += score_busiest if busiest > logits else 0.0
    return Activations(kept, max(logits, _evaluation(shape, job) - kept), score_kept)


def _peak(layers: list[tuple[float, float, int]], job: Job) -> tuple[float, float]:
    """What waits through the backward pass, and what its busiest layer adds, of (saved, working, times) by layer."""
    if job.checkpointing:
        return 0.0, max(saved + working for saved, working, _ in layers)
    return sum(saved * times for saved, _, times in layers), max(working for _, working, _ in layers)


def _logits(shape: Shape, job: Job) -> float:
    if job.stage == "reward":
        return 0.0
    trained = job.positions if job.trained_tokens is None else min(job.positions, job.trained_tokens)
    return trained * shape.vocab * figure("logits", "backward") * BYTES[job.loss_dtype]


def _evaluation(shape: Shape, job: Job) -> float:
    tokens = job.eval_batch * job.sides * (job.eval_tokens or job.tokens)
    trained: float = tokens
    if job.eval_trained is not None:
        trained = min(tokens, job.eval_trained)
    elif job.trained_tokens is not None and job.positions:
        trained *= min(1.0, job.trained_tokens / job.positions)
    logits = trained * shape.vocab * figure("logits", "forward") * BYTES[job.loss_dtype]
    return float(logits + tokens * shape.hidden * 4 * job.width)


def _stream_width(job: Job) -> int:
    """Bytes of a value of the residual stream: float32 norms of a quantised model make it so throughout."""
    return max(job.width, BYTES[job.kept_dtype or job.dtype])


def _kept(shape: Shape, block: Block, job: Job) -> float:
    """Bytes that one layer keeps for its backward pass, counted over transformers' layers under autograd."""
    width, hidden, full = job.width, shape.hidden, job.method == "full"
    a_token: float = 4 * (block.norms * hidden + block.head_norms)  # a norm keeps its input in float32
    a_token += width * (2 * block.query + block.key + block.value)  # into attention, and out of it
    if block.attention == "linear_attention":
        a_token += _delta_rule(block)
    elif job.attention == "sdpa" and block.key < block.query:
        a_token += width * 2 * block.query  # keys and values repeated for every head
    a_token += width * (block.inner_copies * block.inner + 2 * block.chosen * hidden)
    if full:
        a_token += width * (2 * hidden + block.norms * hidden + block.head_norms + block.inner)
    else:
        a_token += sum(_adapter_input(linear, job) for linear in block.linears if job.adapts(linear.name))
    return a_token * job.positions + _scores(block, job, "saved")


def _delta_rule(block: Block) -> float:
    """Bytes a token of the gated delta rule where its kernels are missing: float32 copies, and squares of a chunk."""
    chunk = 64
    return 4 * (figure("delta_rule", "features") * (2 * block.key + block.value) + block.heads * chunk)


def _adapter_input(linear: Linear, job: Job) -> float:
    """An adapter keeps its own copy of its input, what its first matrix gives, and what dropout left out."""
    kept = job.width * (linear.inp + job.r) + linear.inp * (job.lora_dropout > 0)
    return (kept + (job.width * linear.out * 2 if job.use_dora else 0)) * linear.count


def _working(shape: Shape, block: Block, job: Job) -> float:
    """Bytes that the backward pass of one layer needs beside what it kept."""
    widest = max(block.inner, block.query)
    a_token = 2 * shape.hidden * 4 + job.width * widest * (3 if block.gated else 1)
    if job.method == "lora" and job.mixed:
        a_token += 4 * widest * 2  # an adapter's input in float32, and its gradient
    dense = max((linear.weights // linear.count for linear in block.linears), default=0)
    unpacked = job.width * dense * (2 if job.quantization else 0)
    return float(a_token * job.positions + _scores(block, job, "working") + unpacked)


def _scores(block: Block, job: Job, which: str) -> float:
    """Bytes of attention scores, which only kernels that are not fused hold; and of the mask of packed rows."""
    if block.attention == "linear_attention":
        return 0.0
    pairs = job.rows * job.tokens * job.tokens
    if job.attention == "eager":
        return float(pairs * block.heads * figure("eager", which))
    return float(pairs * 3) if job.attention == "sdpa" and job.packed and which == "working" else 0.0
