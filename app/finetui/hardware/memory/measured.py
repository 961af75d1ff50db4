"""What published measurements cover, and what they do not."""

from __future__ import annotations

from finetui.hardware.memory.constants import constants
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.shape import Shape


def unmeasured(shape: Shape, job: Job, gpu_kind: str | None) -> tuple[str, ...]:
    """Codes of messages, one for each way in which no published measurement is like this; none where one is."""
    covered = constants()["measured"]
    sort = "full" if job.method == "full" else "packed" if job.quantization else "adapted"
    kinds = {block.attention for block, _ in shape.blocks}
    found = {
        "memory.unmeasured-cpu": gpu_kind is None,
        "memory.unmeasured-gpu": gpu_kind is not None and gpu_kind not in covered["gpus"],
        "memory.unmeasured-gpus": job.world_size > 1,
        "memory.unmeasured-size": shape.parameters > covered[f"{sort}_parameters"],
        "memory.unmeasured-experts": shape.experts > 0,
        "memory.unmeasured-attention": "linear_attention" in kinds,
        "memory.unmeasured-method": job.use_dora or job.packed or job.master_weights,
        "memory.unmeasured-quantization": job.quantization not in (None, *covered["quantization"]),
        "memory.unmeasured-stage": job.stage not in ("sft", "pt"),
        "memory.unknown-family": not shape.known,
    }
    return tuple(code for code, true in found.items() if true)
