"""Shapes read from configurations hold as many weights as the classes that transformers makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from finetui.hardware.memory.shape import shape_of

pytestmark = pytest.mark.worker

BASE = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MOE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 16}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 20}
ROUTED = {
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_group": 1,
    "topk_group": 1,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 24},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": {"head_dim": 32, "sliding_window": 64},
    "ministral3": {},
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2},
    "smollm3": {},
    "granite": {},
    "seed_oss": {},
    "ernie4_5": {"head_dim": 16},
    "olmo2": {},
    "olmo3": {},
    "qwen2": {},
    "qwen2-tied": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 40, "mlp_only_layers": [1]},
    "qwen3": {},
    "qwen3_moe": {**MOE, "head_dim": 16, "decoder_sparse_step": 2},
    "qwen3_next": {**MOE, **LINEAR, "shared_expert_intermediate_size": 40, "head_dim": 16},
    "qwen3_5_text": {**LINEAR, "head_dim": 16},
    "qwen3_5_moe_text": {**MOE, **LINEAR, "shared_expert_intermediate_size": 40, "head_dim": 16},
    "phi": {"num_key_value_heads": 6},
    "phi3": {},
    "glm": {"head_dim": 16},
    "glm4": {"head_dim": 16, "attention_bias": False},
    "glm4_moe": {**ROUTED, "head_dim": 16, "use_qk_norm": True, "first_k_dense_replace": 1},
    "gemma": {"head_dim": 32},
    "gemma2": {"head_dim": 32},
    "gemma3_text": {"head_dim": 32},
    "gemma4_text": {"num_kv_shared_layers": 1, "use_double_wide_mlp": True, "vocab_size_per_layer_input": 512},
    "gemma4-experts": {
        "model_type": "gemma4_text",
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 24,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
    "deepseek_v2": {**LATENT, **ROUTED, "first_k_dense_replace": 1},
    "deepseek_v3": {**LATENT, **ROUTED, "first_k_dense_replace": 2, "num_key_value_heads": 6},
    "deepseek_v3-plain-queries": {
        "model_type": "deepseek_v3",
        **{**LATENT, "q_lora_rank": None},
        **ROUTED,
        "first_k_dense_replace": 1,
        "num_key_value_heads": 6,
    },
}


def make(name: str) -> tuple[dict[str, Any], torch.nn.Module]:
    """config.json as transformers would save it, and the model without any memory."""
    values = {**BASE, **CONFIGS[name]}
    config = AutoConfig.for_model(values.pop("model_type", name), **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return json.loads(config.to_json_string()), model


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shape_holds_as_many_weights_as_the_class(name: str) -> None:
    config, model = make(name)
    shape = shape_of(config)
    assert shape.known
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_linear_layers_are_those_that_adapters_find(name: str) -> None:
    config, model = make(name)
    head = model.get_output_embeddings()
    actual = sorted(
        (path.rpartition(".")[2], layer.out_features, layer.in_features)
        for path, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    )
    found = sorted(
        (linear.name, linear.out, linear.inp)
        for linear in shape_of(config).linear_layers()
        for _ in range(linear.count)
    )
    assert found == actual


def test_a_configuration_of_the_hub_that_leaves_out_what_is_usual_is_read_as_its_class_reads_it() -> None:
    said = {key: value for key, value in BASE.items() if key != "num_key_value_heads"}
    for kind in ("llama", "qwen2", "gemma2", "phi3"):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**BASE, "num_key_value_heads": 6}))
        config = {"model_type": kind, **said, "num_key_value_heads": 6}
        assert shape_of(config).parameters == sum(parameter.numel() for parameter in model.parameters()), kind
