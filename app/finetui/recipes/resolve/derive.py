"""The knobs that hardware and model decide by themselves, before rows are laid out."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from finetui.core.knobs import Value
from finetui.recipes.resolve.device import Device
from finetui.recipes.resolve.request import Request
from finetui.recipes.resolve.settings import Choice

FLASH, BITS = "flash-attn", "bitsandbytes"
"""The packages that settings depend on."""
DEFAULT_ROWS = 16
"""Rows of a step where neither recipe nor `--set` says anything."""
AMPERE = (8, 0)


def processes(request: Request, asked: Mapping[str, Choice]) -> Choice:
    """One a GPU, and no more than there are rows in a step."""
    gpus = request.machine.gpus
    if not gpus:
        return Choice(1, "reasons.processes-cpu")
    rows = asked["rows_per_step"].value if "rows_per_step" in asked else 0
    assert isinstance(rows, int)
    if 0 < rows < len(gpus):
        return Choice(rows, "reasons.processes-rows", {"rows": rows, "count": len(gpus)})
    facts = {"count": len(gpus), "kind": gpus[0].kind}
    return Choice(len(gpus), "reasons.processes-gpu" if len(gpus) == 1 else "reasons.processes-gpus", facts)


def dtype(device: Device) -> Choice:
    """Half the bytes where the hardware computes in them."""
    if device.kind is None:
        return Choice("float32", "reasons.dtype-cpu")
    facts = {"kind": device.name, "capability": _version(device.compute_capability)}
    return (
        Choice("bfloat16", "reasons.dtype-gpu", facts) if device.bf16 else Choice("float16", "reasons.dtype-old", facts)
    )


def attention(request: Request, device: Device, computed: Value) -> Choice:
    """The fastest kernel that model, GPU and installed packages allow."""
    model = request.model.shape.model_type
    version = request.packages.get(FLASH)
    facts = {"kind": device.name, "capability": _version(device.compute_capability), "model": model}
    possible = device.compute_capability >= AMPERE and computed != "float32"
    if version and possible:
        return Choice("flash_attention_2", "reasons.attention-flash", {**facts, "version": version})
    if model in model_facts()["without_sdpa"]:
        return Choice("eager", "reasons.attention-eager", facts)
    if device.kind is None:
        return Choice("sdpa", "reasons.attention-cpu")
    if not possible:
        return Choice("sdpa", "reasons.attention-old", {**facts, "dtype": str(computed)})
    return Choice("sdpa", "reasons.attention-sdpa", facts)


def threads(request: Request, count: int) -> Choice:
    """The cores, shared out."""
    cores = request.machine.physical_cores
    code = "reasons.threads" if count > 1 else "reasons.threads-one"
    return Choice(max(1, cores // count), code, {"cores": cores, "processes": count})


def storage(values: Mapping[str, Value]) -> Choice:
    """The type that FSDP2 can shard, where it has to."""
    if not values["load_in_4bit"]:
        return Choice("uint8", "reasons.storage-none")
    if values["parallelism"] == "fsdp2":
        return Choice(values["dtype"], "reasons.storage-sharded", {"dtype": str(values["dtype"])})
    return Choice("uint8", "reasons.storage-whole")


def rows_per_step(asked: Mapping[str, Choice], count: int) -> Choice:
    """What micro batch and accumulation come to where both are stated, else a usual number."""
    stated = asked.get("rows_per_step")
    if stated is not None and stated.value != 0:
        return stated
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    if not all(name in asked for name in names):
        return Choice(DEFAULT_ROWS, "reasons.rows-usual", {"rows": DEFAULT_ROWS})
    micro, accumulation = (_whole(asked[name].value) for name in names)
    facts = {"micro": micro, "accumulation": accumulation, "processes": count}
    return Choice(micro * accumulation * count, "reasons.rows", facts)


def accumulation(asked: Mapping[str, Choice], rows: int, micro: int, count: int, *, packed: bool) -> Choice:
    """As many micro batches as the rows of a step take; what is stated stands where it comes to the same."""
    needed = math.ceil(rows / (micro * count))
    stated = asked.get("gradient_accumulation_steps")
    facts = {"rows": rows, "micro": micro, "processes": count, "needed": needed}
    if stated is None and packed:
        return Choice(needed, "reasons.accumulation-packed", facts)
    if stated is None:
        return Choice(needed, "reasons.accumulation" if count == 1 else "reasons.accumulation-shared", facts)
    if stated.value == needed or stated.code == "reasons.set":
        return stated
    return Choice(needed, "reasons.accumulation-moved", {**facts, "stated": _whole(stated.value)})


@cache
def model_facts() -> Mapping[str, Any]:
    """What families of models cannot do in transformers, from `models.toml`."""
    return tomllib.loads(Path(__file__).with_name("models.toml").read_text(encoding="utf-8"))


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def _whole(value: Value) -> int:
    assert isinstance(value, int)
    return value
