"""The rows of the table of published memory figures as jobs, and which of them a prediction can be judged by."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from finetui.hardware.memory.job import Job
from finetui.hardware.memory.shape import Shape, shape_of

GB, GIB = 10**9, 1 << 30
_ALIASES = {
    "qwen-14b-chat": "Qwen-14B",
    "qwen-1_8b-chat": "Qwen-1.8B",
    "phi-1.5 1.3 B": "phi-1.5",
    "Llama 2 7 B": "LLaMA2-7B",
}
_ATTENTION = ("c_attn", "q_proj", "k_proj", "v_proj", "W_pack", "query_key_value")  # ms-swift's DEFAULT targets
_FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Row:
    """One published figure."""

    number: int
    """Its line in the table, the header being 1."""
    publisher: str
    model: str
    what: str
    measured: float | None
    """Bytes; None where the run did not fit."""
    shape: Shape | None
    job: Job | None
    """None where the row does not say enough, or what ran is nothing that we can describe."""
    process: bool
    """Whether the figure is of a process on a GPU, its context included; else of torch's allocator alone."""
    judged: bool
    why: str
    """Why it is not judged."""


def read_rows(path: Path) -> list[Row]:
    """All rows of the table.

    Raises OSError where it cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        return [_row(number, cells) for number, cells in enumerate(csv.DictReader(stream), 2)]


def read_held_out() -> list[Row]:
    """Rows of ms-swift's page that the table of figures lacks; no constant was fitted to them."""
    with Path(__file__).with_name("memory_held_out.csv").open(encoding="utf-8", newline="") as stream:
        return [_held_out(number, cells) for number, cells in enumerate(csv.DictReader(stream), 2)]


def _held_out(number: int, cells: Mapping[str, str]) -> Row:
    quantization = cells["quantization"] or None
    job = Job(
        method=cells["method"],
        r=int(cells["r"]),
        targets="all-linear" if cells["targets"] == "ALL" else _ATTENTION,
        lora_dropout=0.05,
        quantization=quantization,
        kept_dtype="float32" if quantization else None,
        micro_batch=int(cells["batch"]),
        tokens=int(cells["tokens"]),
        checkpointing=cells["checkpointing"] == "yes",
        attention=cells["attention"],
        varied=True,
    )
    what = ", ".join(f"{name} {cells[name]}" for name in cells if name not in ("model", "gib") and cells[name])
    model = cells["model"]
    return Row(
        number, "ms-swift", model, what, float(cells["gib"]) * GIB, models()[model], job, False, False, "held out"
    )


@cache
def models() -> dict[str, Shape]:
    """Shapes of the published models, by the table's names."""
    return {name: shape_of(entry["config"]) for name, entry in _entries().items()}


def config_of(model: str) -> Mapping[str, Any]:
    """A configuration for a class of transformers: the model's own, or that of its nearest kin."""
    entry = _entries()[_ALIASES.get(model, model)]
    found: Mapping[str, Any] = entry.get("kin", entry["config"])
    return found


@cache
def _entries() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("memory_models.toml").read_text(encoding="utf-8"))


def _row(number: int, cells: Mapping[str, str]) -> Row:
    source = cells["source"]
    shape = models().get(_ALIASES.get(cells["model"], cells["model"]))
    job, unit, process, why = None, GB, True, "another engine, or not a measurement of a stated job"
    if shape is not None and _one_gpu(cells["gpus"]):
        if source.startswith("QwenLM/Qwen README.md"):
            job, why = _qwen(cells)
        elif source.startswith("modelscope/ms-swift docs/source_en/LLM/Benchmark.md") and "Tuners" not in source:
            job, why = _swift(cells)
            unit, process = GIB, False
        elif "LLaMA-Factory wiki" in source:
            job, why = _llama_factory(cells)
        elif source.startswith("Lightning-AI/litgpt tutorials"):
            job, why, process = _litgpt(cells), "litgpt, not transformers", False
    elif shape is not None:
        why = "several GPUs"
    measured = _number(cells["reported_gib"])
    judged = job is not None and not why and (measured is not None or cells["reported_gib"] == "OOM")
    what = f"{cells['method']}, batch {cells['batch']}, {cells['seq']} tokens"
    figure = measured * unit if measured is not None else None
    return Row(number, _publisher(source), cells["model"], what, figure, shape, job, process, judged, why)


def _qwen(cells: Mapping[str, str]) -> tuple[Job, str]:
    """finetune.py of Qwen: r 64 on all linear layers, rows padded to the length, adapters in float32 as peft then did.

    The quantised and the full runs are DeepSpeed's: the first in float16 throughout, the second with float32 masters.
    """
    job = Job(r=64, lora_dropout=0.05, tokens=int(cells["seq"]), attention=_FLASH)
    method = cells["method"]
    if method == "full":
        return replace(job, method="full", master_weights=True), "DeepSpeed ZeRO-3"
    if "GPTQ" in method:
        return replace(job, quantization="gptq4", dtype="float16", loss_dtype="float16"), "GPTQ under DeepSpeed ZeRO-2"
    if method.startswith("LoRA+wte"):
        return replace(job, modules_to_save=("embed_tokens", "lm_head"), saved_dtype="bfloat16"), ""
    return job, ""


def _swift(cells: Mapping[str, str]) -> tuple[Job, str]:
    """ms-swift of January 2024: r 8 on the attention's inputs; reserved memory at its most, over rows of all lengths.

    Attention is flash attention for Qwen. The others are taken as eager, for the memory that they took between 4096 and
    8192 tokens grew with the square of the length, which flash attention never does.
    """
    eager = "qwen" not in cells["model"]
    attention = "eager" if eager else _FLASH
    job = Job(r=8, lora_dropout=0.05, tokens=int(cells["seq"]), targets=_ATTENTION, attention=attention, varied=True)
    method = cells["method"]
    if method == "full":
        return replace(job, method="full"), ""
    if "gptq" in method:
        kind = "gptq4" if "int4" in method else "gptq8"
        return replace(job, quantization=kind, kept_dtype="float32"), "GPTQ, which we do not train on"
    if "bnb" in method:
        return replace(job, quantization="nf4", kept_dtype="float32"), ""
    return job, ""


def _llama_factory(cells: Mapping[str, str]) -> tuple[Job | None, str]:
    """LLaMA-Factory of April 2024: r 8 on all linear layers, 4-bit with double quantisation.

    The comparison of engines trained on ordinary data padded batch by batch; that of lengths fills every length.
    """
    if "nsloth" in cells["notes"] or "nsloth" in cells["method"]:
        return None, "Unsloth's kernels"
    guessed = "?" in cells["batch"]
    attention = _FLASH if cells["attn"] == "FA2" else "sdpa"
    ordinary = not cells["gpus"].startswith("1x")
    job = Job(r=8, tokens=int(cells["seq"]), micro_batch=int(cells["batch"][0]), attention=attention, varied=ordinary)
    if "QLoRA" in cells["method"]:
        job = replace(job, quantization="nf4", double_quant=True)
    return job, "its batch is not given" if guessed else ""


def _litgpt(cells: Mapping[str, str]) -> Job | None:
    """litgpt: r 8 on queries and values, all of it in bfloat16, no checkpointing on one GPU."""
    quantised = {"QLoRA": "nf4"}.get(cells["method"])
    if cells["method"] not in ("LoRA", "QLoRA"):
        return None
    return Job(
        r=8,
        targets=("q_proj", "v_proj"),
        lora_dropout=0.05,
        adapter_dtype="bfloat16",
        quantization=quantised,
        double_quant="dq" in cells["precision"],
        micro_batch=int(cells["batch"]),
        tokens=int(cells["seq"].rpartition(" ")[2]),
        checkpointing=False,
    )


def _one_gpu(text: str) -> bool:
    return text.startswith(("1x", "1 GPU"))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _publisher(source: str) -> str:
    for start, name in (
        ("QwenLM/Qwen README.md", "Qwen"),
        ("modelscope/ms-swift docs/source_en/LLM/Benchmark.md", "ms-swift"),
        ("hiyouga/LLaMA-Factory wiki", "LLaMA-Factory"),
        ("Lightning-AI/litgpt", "litgpt"),
        ("pytorch/torchtune", "torchtune"),
        ("unsloth.ai", "Unsloth"),
    ):
        if start in source:
            return name
    return source.split(" ")[0]
