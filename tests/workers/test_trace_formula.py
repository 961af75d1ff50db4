"""Two methods that know nothing of each other agree on every architecture: counting by shape, and tracing a step."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from transformers import AutoConfig

from finetui.hardware.memory.job import Job
from finetui.hardware.memory.predict import predict
from finetui.hardware.memory.shape import shape_of
from finetui.workers.trace import __main__ as worker
from tests.workers.test_kept_activations import ATTENTION
from tests.workers.test_shapes import BASE, CONFIGS
from tests.workers.test_trace import EXPERTS, ODD

pytestmark = pytest.mark.worker

SIZES = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
"""Small, and yet in the proportions of real ones."""
LORA = Job(tokens=1024, micro_batch=2)
FULL = replace(LORA, method="full", checkpointing=False)
GPU = "a100-80g"


def config_of(name: str) -> dict[str, Any]:
    asked = {**BASE, **SIZES, **CONFIGS[name], **ODD.get(name, {})}
    values = {key: value for key, value in asked.items() if value is not None}
    return json.loads(AutoConfig.for_model(values.pop("model_type", name), **values).to_json_string())


@pytest.mark.parametrize(("job", "low", "high"), [(LORA, -0.15, 0.05), (FULL, -0.08, 0.3)], ids=["lora", "full"])
@pytest.mark.parametrize("name", CONFIGS)
def test_formula_and_trace_agree(name: str, job: Job, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "progress", lambda **_: None)
    if name in EXPERTS and job.method == "lora":
        job = replace(job, targets=(*ATTENTION, "q_a_proj", "q_b_proj"))
    if name == "gpt_oss":
        job = replace(job, attention="eager")
    config = config_of(name)
    request = {"config": config, "job": {**asdict(job), "rows": job.rows}, "device": "cuda", "accumulates": False}
    traced, formula = worker.trace(request)["peak_bytes"], predict(shape_of(config), job, GPU)
    overhead = formula.parts["overhead"]
    assert low < (formula.total_bytes - overhead) / traced - 1 < high
    assert formula.band[0] < traced + overhead < formula.band[1]
