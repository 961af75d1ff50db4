"""What layers keep for the backward pass is what the prediction counts, on transformers' own classes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from finetui.hardware.memory.activations import activations
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.shape import shape_of
from tests.workers.test_shapes import BASE, CONFIGS

pytestmark = pytest.mark.worker

ROWS, TOKENS, VOCAB = 2, 64, 512
WIDE = {**BASE, "hidden_size": 192, "intermediate_size": 512, "head_dim": 32, "vocab_size": VOCAB}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]  # peft adapts the experts too where it is told all-linear
ALL = "all-linear"
SETTINGS: dict[str, Any] = {"phi": {"num_key_value_heads": 6}, "deepseek_v3": {"head_dim": None}}


def train(name: str, layers: int, method: str, targets: str | list[str], attention: str) -> tuple[int, dict[str, Any]]:
    """Bytes that autograd keeps of a forward pass through so many layers, weights apart; and the configuration."""
    asked = {**WIDE, **CONFIGS[name], **SETTINGS.get(name, {})}
    values = {key: value for key, value in asked.items() if value is not None}
    config = AutoConfig.for_model(name, **{**values, "num_hidden_layers": layers})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
    body = model.model
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))
        body = model.get_base_model().model
    model.train()
    weights = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    ids = torch.randint(0, VOCAB, (ROWS, TOKENS))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        body(input_ids=ids)
    return sum(storage.nbytes() for storage in kept.values()), json.loads(config.to_json_string())


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize(
    ("name", "targets", "attention"),
    [
        ("llama", ALL, "sdpa"),
        ("llama", ALL, "eager"),
        ("qwen3", ALL, "sdpa"),
        ("phi", ALL, "sdpa"),
        ("phi3", ALL, "sdpa"),
        ("gemma2", ALL, "sdpa"),
        ("glm4", ALL, "sdpa"),
        ("mixtral", ATTENTION, "sdpa"),
        ("deepseek_v3", ["q_a_proj", "q_b_proj", "o_proj"], "sdpa"),
        ("gpt_oss", ALL, "eager"),
    ],
)
def test_two_more_layers_keep_as_much_more_as_is_counted(
    name: str, targets: str | list[str], attention: str, method: str
) -> None:
    few, config = train(name, 3, method, targets, attention)
    more, larger = train(name, 5, method, targets, attention)
    job = Job(
        method=method,
        r=8,
        targets=targets if isinstance(targets, str) else tuple(targets),
        micro_batch=ROWS,
        tokens=TOKENS,
        checkpointing=False,
        attention=attention,
    )
    counted = [activations(shape_of(read), job).kept for read in (config, larger)]
    assert counted[1] - counted[0] == pytest.approx(more - few, rel=0.2)
