"""`python -m finetui.workers.trace`: the peak of one training step, counted on tensors without memory.

The request has `config` (config.json), `job` (the fields of hardware/memory's Job, and `rows`, those in memory at
once), `device` (cpu or cuda) and `accumulates` (whether a step has several micro batches). The result has `peak_bytes`,
`parts` (weights, adapter, gradients, optimizer, activations, logits), `layers_traced` and CPU `seconds`.
"""

from __future__ import annotations

import time
from typing import Any

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.worker_io import progress, serve
from finetui.workers.trace.extend import extend
from finetui.workers.trace.model import attach, build, depths, layers_of
from finetui.workers.trace.step import take


def trace(request: dict[str, Any]) -> dict[str, Any]:
    """Count a step at two depths, and extend it to all layers.

    Raises FinetuiError where the job is of a kind that is not traced, or the model's class cannot be run like this.
    """
    started = time.process_time()
    config, job, device = request["config"], request["job"], request["device"]
    _check(job)
    layers = len(layers_of(build(config, job)))
    few, more = depths(layers_of(build(config, job)))
    peaks = []
    for depth in sorted({few, more}):
        progress(stage="trace", done=len(peaks), total=2)
        model = build(config, job)
        del layers_of(model)[depth:]
        try:
            peaks.append(take(attach(model, job, device), job, device, request["accumulates"]))
        except FinetuiError:
            raise
        except Exception as error:  # classes differ in what they cannot do without values
            facts = {"type": config.get("model_type"), "error": f"{type(error).__name__}: {error}"[:300]}
            raise FinetuiError(Problem("trace.not-run", facts), BAD_INPUT) from error
    peak = extend(peaks[0], peaks[-1], (few, more), layers)
    return {
        "peak_bytes": peak.total,
        "parts": peak.parts,
        "layers_traced": [few, more],
        "seconds": time.process_time() - started,
    }


def _check(job: dict[str, Any]) -> None:
    problems = []
    if job["stage"] not in ("sft", "pt"):
        problems.append(Problem("trace.stage", {"stage": job["stage"]}))
    if job["sharding"] != "none":
        problems.append(Problem("trace.sharding", {"sharding": job["sharding"]}))
    if job["quantization"] in ("gptq4", "gptq8"):
        problems.append(Problem("trace.quantization", {"quantization": job["quantization"]}))
    if problems:
        raise FinetuiError(problems, BAD_INPUT)


if __name__ == "__main__":
    serve(trace)
