"""The model of a training without any memory, and how few of its layers stand for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.workers.trace.device import VARLEN
from finetui.workers.trace.packed import Packed, PackedLora

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def build(config: Mapping[str, Any], job: Mapping[str, Any]) -> PreTrainedModel:
    """The class that transformers would load, on the device `meta`, with all its layers.

    Raises FinetuiError where transformers has no class for the configuration, or cannot make one of it.
    """
    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise FinetuiError(Problem("trace.no-class", {"type": kind}), BAD_INPUT)
    values = {key: value for key, value in config.items() if key not in ("model_type", "quantization_config")}
    attention = VARLEN if job["attention"] == "flash_attention_2" else job["attention"]
    master = job["method"] == "full" and job["master_weights"]
    dtype = torch.float32 if master else DTYPES[job["dtype"]]
    try:
        made = CONFIG_MAPPING[kind].from_dict(values)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(made, dtype=dtype, attn_implementation=attention)
    except Exception as error:  # a foreign configuration goes wrong in whatever way its class has
        facts = {"type": kind, "error": f"{type(error).__name__}: {error}"}
        raise FinetuiError(Problem("trace.not-made", facts), BAD_INPUT) from error


def layers_of(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's layers."""
    return model.get_decoder().layers


def depths(layers: torch.nn.ModuleList) -> tuple[int, int]:
    """Two numbers of layers that differ by the period in which kinds of layers recur; equal where all are needed.

    The first leaves out whole periods alone, so that both end as the model does.
    """
    kinds = [_kind(layer) for layer in layers]
    total = len(kinds)
    for few in range(2, total):
        for period in range(1, total - few + 1):
            if (total - few) % period or few + period >= total:
                continue
            first = few - max(period, 1)
            if first >= 0 and all(kinds[at] == kinds[at + period] for at in range(first, total - period)):
                return few, few + period
    return total, total


def _kind(layer: torch.nn.Module) -> tuple[Any, ...]:
    said = tuple(
        str(value)
        for module in layer.modules()
        for name, value in sorted(vars(module).items())
        if name in ("attention_type", "layer_type", "sliding_window", "is_sliding", "use_rope", "is_kv_shared_layer")
    )
    return said + tuple((name, *parameter.shape) for name, parameter in layer.named_parameters())


def attach(model: PreTrainedModel, job: Mapping[str, Any], device: str) -> torch.nn.Module:
    """What is trained: the model itself, or its frozen layers, packed where asked for, with an adapter in float32."""
    if job["method"] == "full":
        return model
    inside = {id(module) for module in model.get_decoder().modules()} - {id(model.get_output_embeddings())}
    linear = [name for name, of in model.named_modules() if isinstance(of, torch.nn.Linear) and id(of) in inside]
    every = job["targets"] == "all-linear"
    targets = [name for name in linear if every or name.rpartition(".")[2] in job["targets"]]
    if not targets:
        raise FinetuiError(Problem("trace.no-targets", {"targets": ", ".join(job["targets"])}), BAD_INPUT)
    if job["quantization"] is not None:
        _pack(model, linear, job, device)
    config = LoraConfig(
        r=job["r"],
        lora_dropout=job["lora_dropout"],
        target_modules=targets,
        modules_to_save=list(job["modules_to_save"]) or None,
        use_dora=job["use_dora"],
        task_type="CAUSAL_LM",
    )
    config._register_custom_module({Packed: PackedLora})
    with torch.device(model.device):
        adapted = get_peft_model(model, config)
    if config.target_parameters:  # peft reads some names of linear layers as those of the experts
        raise FinetuiError(
            Problem("trace.experts", {"targets": ", ".join(sorted(config.target_parameters))}), BAD_INPUT
        )
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            kept = job["saved_dtype" if "modules_to_save" in name else "adapter_dtype"]
            parameter.data = parameter.data.to(DTYPES[kept])
    return adapted


def _pack(model: PreTrainedModel, names: list[str], job: Mapping[str, Any], device: str) -> None:
    dtype = DTYPES[job["dtype"]]
    if job["kept_dtype"] is not None:
        model.to(DTYPES[job["kept_dtype"]])
    casts = device == "cuda" and dtype != torch.float32
    for name in names:
        parent, _, own = name.rpartition(".")
        layer = model.get_submodule(name)
        setattr(model.get_submodule(parent), own, Packed(layer, job["quantization"], job["double_quant"], dtype, casts))
