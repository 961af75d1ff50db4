"""The second opinion on a prediction: one training step traced on tensors without memory; seconds, needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from finetui.core import jobs
from finetui.core.jobs import Progress
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.predict import Prediction


@dataclass(frozen=True)
class Trace:
    """The peak of one GPU as the trace has it, in bytes."""

    total_bytes: int
    """With the overhead that the formula adds, so that both totals mean the same."""
    parts: Mapping[str, int]
    """weights, adapter, gradients, optimizer, activations, logits at the step's highest moment, and overhead."""
    layers_traced: tuple[int, int]
    """The two depths that the whole was extended from; equal where all layers were run."""
    seconds: float
    """Of the CPU, imports not counted."""

    def to_json(self) -> dict[str, Any]:
        """What `plan --json` says of it."""
        return {
            "predicted_peak_bytes": self.total_bytes,
            "breakdown": dict(self.parts),
            "layers_traced": list(self.layers_traced),
            "seconds": round(self.seconds, 2),
        }


def trace(
    config: Mapping[str, Any],
    job: Job,
    prediction: Prediction,
    gpu_kind: str | None,
    *,
    accumulates: bool = False,
    python: str | None = None,
    on_progress: Progress | None = None,
) -> Trace:
    """Trace a step of `job` on the model of a config.json; `accumulates`: a step has several micro batches.

    Raises FinetuiError where the job or the model's class cannot be traced, or where `python` has no torch.
    """
    request = {
        "config": dict(config),
        "job": {**asdict(job), "rows": job.rows},
        "device": "cpu" if gpu_kind is None else "cuda",
        "accumulates": accumulates,
    }
    found = jobs.run("trace", request, python=python, on_progress=on_progress)
    parts = {**found["parts"], "overhead": prediction.parts["overhead"]}
    few, more = found["layers_traced"]
    return Trace(found["peak_bytes"] + parts["overhead"], parts, (few, more), found["seconds"])


def widened(prediction: Prediction, traced: Trace) -> Prediction:
    """The prediction with a band that the trace lies in; never a narrower one, and nothing else is changed."""
    low, high = prediction.band
    return replace(prediction, band=(min(low, traced.total_bytes), max(high, traced.total_bytes)))
