"""What the training libraries make of this machine: each really imported, a 4-bit layer really computed.

Every stage is told as soon as it is known: a library that takes the process down with it takes nothing else away.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import sys
import sysconfig
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from finetui.core.text import one_line
from finetui.core.worker_io import progress, serve
from finetui.workers.environment import NEEDED

CHECKED = (
    *NEEDED,
    *("trl", "bitsandbytes", "datasets", "flash-attn", "kernels", "gguf", "huggingface-hub", "wandb"),
    *("torchvision", "torchaudio", "triton"),
)
"""Packages whose versions have to go together, those that are there."""
IMPORTED = ("transformers", "accelerate", "peft", "trl")
WORDS = 300


def handle(_: Mapping[str, Any]) -> dict[str, Any]:
    """What every stage found, by its name."""
    found = {}
    for name, look in STAGES.items():
        progress(stage=name)
        found[name] = look()
        progress(stage=name, found=found[name])
    return found


def python() -> dict[str, Any]:
    """The interpreter itself."""
    return {
        "version": platform.python_version(),
        "program": sys.executable,
        "has_pip": importlib.util.find_spec("pip") is not None,
        "has_ensurepip": importlib.util.find_spec("ensurepip") is not None,
        "is_managed": sys.prefix == sys.base_prefix
        and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists(),
    }


def packages() -> dict[str, Any]:
    """Version and requirements of each package, by reading metadata alone."""
    found = {}
    for name in CHECKED:
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = {"version": package.version, "requires": list(package.requires or ())}
    return found


def torch() -> dict[str, Any]:
    """The build of torch, and whether it sees GPUs."""
    found: dict[str, Any] = {"error": import_error("torch")}
    if found["error"] is not None:
        return found
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        works = torch.cuda.is_available()
        words = "" if works or torch.version.cuda is None else cuda_error()
    return {
        **found,
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "works": works,
        "words": words or (one_line(str(said[-1].message), WORDS) if said and not works else ""),
        "capabilities": [arch.partition("_")[2] for arch in torch.cuda.get_arch_list()] if works else [],
        "devices": torch.cuda.device_count() if works else 0,
    }


def cuda_error() -> str:
    """Why CUDA does not start, in torch's own words."""
    import torch

    try:
        torch.cuda.init()
    except Exception as error:  # whatever it is, it is the answer
        return one_line(str(error), WORDS)
    return ""


def imports() -> dict[str, Any]:
    """Why each of the other libraries cannot be imported, None for one that can; those that are not there left out."""
    return {name: import_error(name) for name in IMPORTED if installed(name)}


def bitsandbytes() -> dict[str, Any]:
    """Whether a 4-bit layer computes, forward and back, on the device that training would use."""
    if not installed("bitsandbytes") or not installed("torch"):
        return {}
    try:
        return four_bit_layer()
    except Exception as error:  # whatever it is, it is the answer
        return {"error": one_line(f"{type(error).__name__}: {error}", WORDS)}


def four_bit_layer() -> dict[str, Any]:
    """Compute one; raises whatever bitsandbytes does."""
    import torch
    from bitsandbytes.nn import Linear4bit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = Linear4bit(64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to(device)
    rows = torch.ones(2, 64, device=device, requires_grad=True)
    layer(rows).sum().backward()
    works = rows.grad is not None and bool(torch.isfinite(rows.grad).all()) and bool(rows.grad.abs().sum() > 0)
    return {"device": device, "error": None if works else "the gradient is not a number"}


def flash_attention() -> dict[str, Any]:
    """Whether flash-attn can be imported, where it is there."""
    return {"error": import_error("flash_attn")} if installed("flash_attn") else {}


def installed(module: str) -> bool:
    """Whether there is such a module, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def import_error(module: str) -> str | None:
    """Why a module cannot be imported, or None."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken library raises anything
        return one_line(f"{type(error).__name__}: {error}", WORDS)
    return None


STAGES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "python": python,
    "packages": packages,
    "torch": torch,
    "imports": imports,
    "bitsandbytes": bitsandbytes,
    "flash_attention": flash_attention,
}
"""In this order: what is likeliest to end the process comes last."""


if __name__ == "__main__":
    serve(handle)
