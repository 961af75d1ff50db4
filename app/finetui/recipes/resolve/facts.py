"""What the rules judge by: every knob in force, and what they come to with model, data and machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finetui.core.figures import gib
from finetui.models.outline import Outline
from finetui.recipes.resolve.derive import BITS, FLASH, model_facts
from finetui.recipes.resolve.settle import Settled

_BILLION = 1e9


def facts_of(settled: Settled) -> dict[str, Any]:
    """All facts by name; None for what is not known."""
    request = settled.request
    asked = {name: choice.value for name, choice in request.asked().items()}
    values = {**asked, **{name: choice.value for name, choice in settled.settings.choices.items()}}
    return {
        **values,
        "stage": request.stage,
        "method": request.method,
        "elsewhere": request.elsewhere,
        **_model(request.model),
        **_device(settled),
        **_packages(settled, values),
        **_rows(settled, values),
        **_steps(settled, values),
        **_disk(settled),
        "scale": _scale(values) if request.method == "lora" else None,
        "packs": bool(values.get("load_in_4bit") or values.get("load_in_8bit")),
        "storage_differs": values.get("bnb_4bit_quant_storage") not in (None, "uint8", values["dtype"]),
    }


def _model(model: Outline) -> dict[str, Any]:
    table = model_facts()
    kind = model.shape.model_type
    successors = table["successors"].get(kind, ())
    billions = model.parameters / _BILLION
    without_class = bool(successors)
    return {
        "model": model.name,
        "model_type": model.model_type or kind,
        "billions": round(billions, 1) if billions >= 1 else billions,
        "quantization": model.quantization,
        "packed_checkpoint": model.quantization is not None,
        "without_sdpa": kind in table["without_sdpa"],
        "without_class": without_class,
        "successor": next((name for most, name in successors if billions <= most), ""),
        "architecture": model.architecture,
        "continues_no_text": any(model.architecture.endswith(end) for end in table["continue_no_text"]),
        "without_text_class": model.model_type in table["without_text_class"],
        "linear_attention": any(block.attention == "linear_attention" for block, _ in model.shape.blocks),
        "own_code": bool(model.custom_code) and not model.shape.known,
        "code": ", ".join(model.custom_code),
        "limit": model.max_position_embeddings or 0,
    }


def _device(settled: Settled) -> dict[str, Any]:
    device, machine = settled.frame.device, settled.request.machine
    holders = [holder for gpu in machine.gpus for holder in gpu.holders]
    return {
        "device": "cpu" if device.kind is None else "gpu",
        "kind": device.name,
        "capability": float(".".join(map(str, device.compute_capability))),
        "bf16": device.bf16,
        "gpus": len(machine.gpus),
        "too_many_processes": bool(machine.gpus) and settled.frame.world > len(machine.gpus),
        "held": gib(device.held_bytes),
        "held_share": device.held_bytes / device.total_bytes,
        "holders": ", ".join(f"{holder.name or '?'} ({holder.pid})" for holder in holders),
    }


def _packages(settled: Settled, values: Mapping[str, Any]) -> dict[str, Any]:
    packages = settled.request.packages
    needing = [name for name in ("load_in_4bit", "load_in_8bit") if values.get(name)]
    needing += [f"optim={values['optim']}"] if _bits_optimizer(values) else []
    return {
        "has_flash": FLASH in packages,
        "has_bits": BITS in packages,
        "needs_bits": bool(needing),
        "needing": ", ".join(needing),
        "bits_optimizer": _bits_optimizer(values),
    }


def _rows(settled: Settled, values: Mapping[str, Any]) -> dict[str, Any]:
    tokens = settled.request.tokens
    micro, times = values["per_device_train_batch_size"], values["gradient_accumulation_steps"]
    room = micro * times * settled.frame.world
    stated = settled.settings.choices["gradient_accumulation_steps"].code == "reasons.set"
    needed = math.ceil(settled.frame.rows / (micro * settled.frame.world))
    limit = settled.request.model.max_position_embeddings
    known = tokens is not None and tokens.train.rows > 0
    left = tokens.left(values["max_length"], values["overlong"]) if tokens and known else None
    return {
        "room": room,
        "rows_add_up": not stated or times == needed,
        "beyond_model": 0 if limit is None else max(0, values["max_length"] - limit),
        "rows": tokens.rows if tokens else None,
        "rows_left": left,
        "longest": tokens.longest if tokens else None,
        "losing": tokens.cut(values["max_length"]).losing if tokens and known else None,
        "evaluation_rows": tokens.held_rows if tokens else None,
        "best_is_saved": bool(values["eval_steps"] and values["save_steps"])
        and values["save_steps"] % values["eval_steps"] == 0,
    }


def _steps(settled: Settled, values: Mapping[str, Any]) -> dict[str, Any]:
    tokens, steps = settled.request.tokens, settled.saving.steps
    asked = settled.request.asked()
    warmup, every = values["warmup_steps"], values["eval_steps"]
    evaluates = steps and every and tokens and tokens.held_rows
    left = tokens.left(values["max_length"], values["overlong"]) if tokens else 0
    passes = steps * settled.frame.rows / left if steps and left else None
    return {
        "steps": steps,
        "evaluations": steps // every if evaluates else None,
        "passes": passes and round(passes, 1),
        "steps_and_epochs": values["max_steps"] > 0 and "num_train_epochs" in asked,
        "warmup_share": None if not steps else (warmup / steps if warmup >= 1 else warmup),
    }


def _disk(settled: Settled) -> dict[str, Any]:
    free, needed = settled.request.free_disk_bytes, settled.saving.all_bytes
    return {
        "disk_needed": gib(needed),
        "disk_free": gib(free or 0),
        "disk_lacks": None if free is None else max(0, needed - free),
    }


def _bits_optimizer(values: Mapping[str, Any]) -> bool:
    return "bit" in str(values["optim"])


def _scale(values: Mapping[str, Any]) -> float:
    rank = values["r"]
    scale: float = values["lora_alpha"] / (math.sqrt(rank) if values["use_rslora"] else rank)
    return scale
