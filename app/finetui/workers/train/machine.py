"""The device: made deterministic and quiet, and described for the record."""

from __future__ import annotations

import os
import platform
import resource
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from .failure import Failure
from .settings import Knobs

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "pyarrow", "numpy")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_up(knobs: Knobs) -> None:
    """Seed, fix the number of threads, and allow only deterministic algorithms.

    The variables that determinism needs (CUBLAS_WORKSPACE_CONFIG and others) are launch.sh's: they have to be there
    before the device starts, and transformers' own switch would overwrite them.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and changes no result
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(knobs.omp_num_threads)
    torch.manual_seed(knobs.seed)


def check_able(knobs: Knobs) -> None:
    """Look for what the settings need beyond the usual packages.

    Raises Failure with all that is missing.
    """
    missing = []
    if any(sign in knobs.optim for sign in ("bnb", "8bit", "paged")) and find_spec("bitsandbytes") is None:
        missing.append(f"optim {knobs.optim} needs the package bitsandbytes")
    if knobs.attn_implementation == "flash_attention_2" and not (on_cuda() and find_spec("flash_attn")):
        missing.append("flash_attention_2 needs a GPU and the package flash-attn; sdpa needs neither")
    if knobs.dtype == "float16" and not on_cuda():
        missing.append("float16 needs a GPU; on a CPU bfloat16 and float32 compute")
    if missing:
        raise Failure("error", "; ".join(missing))


def be_quiet() -> None:
    """Keep progress bars and advice of the libraries out of the log; errors and our own warnings stay."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|accelerate)\b")


def dtype(name: str) -> torch.dtype:
    """torch's type for a value of the knob `dtype`."""
    return _DTYPES[name]


def on_cuda() -> bool:
    """Whether the training is on GPUs."""
    return torch.cuda.is_available()


def device_name() -> str:
    """`cpu`, or the GPU as its driver calls it."""
    return torch.cuda.get_device_name() if on_cuda() else "cpu"


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide the result; None where one is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def hardware(world_size: int) -> dict[str, Any]:
    """The hardware used, for the record: device, its name, how many, threads, vector instructions, torch build."""
    build = {"torch": torch.__version__}
    if on_cuda():
        memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return {"device": "cuda", "name": device_name(), "total_bytes": memory, "count": world_size, **build}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": "cpu", "name": _cpu_name(), "capability": capability, "threads": torch.get_num_threads(), **build}


def memory_bytes() -> int:
    """The most memory that this process has held so far: the GPU's where there is one, else resident memory.

    Of a GPU it is what torch's allocator has reserved, fragments included: the predicted total without what the
    allocator never sees (the driver's context and NCCL).
    """
    if on_cuda():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def differing_variables(locked: Mapping[str, str]) -> list[str]:
    """Locked environment variables that are not in force, as `NAME=value (locked: value)`."""
    pairs = ((name, os.environ.get(name), value) for name, value in sorted(locked.items()))
    return [f"{name}={actual} (locked: {value})" for name, actual, value in pairs if actual != value]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
