"""The GPUs of this machine, as nvidia-smi lists them, each with its kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FIELDS = "index,name,memory.total,driver_version"
_MIB = 1 << 20
_GIB = 1 << 30
_TOLERANCE = 0.15  # a driver keeps up to a tenth of a card's memory for itself


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    index: int
    """Its number, as `--gpus` and CUDA_VISIBLE_DEVICES count under PCI order."""
    kind: str
    """Its kind, such as `rtx3090`; for a name that the table lacks, the name in lower case with dashes."""
    name: str
    """Its name as the driver gives it."""
    total_bytes: int
    """Its memory; 0 where the driver does not say."""
    driver: str
    """The driver's version."""


def list_gpus() -> str:
    """What nvidia-smi prints of every GPU, a line each; empty where there is no nvidia-smi or no driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ""
    try:
        asked = [command, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
        done = subprocess.run(asked, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs in the output of `list_gpus`; lines of another shape are driver messages and are passed over."""
    found: list[Gpu] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(_FIELDS.split(",")) or not cells[0].isdigit():
            continue
        index, name, mebibytes, driver = cells
        total = int(mebibytes) * _MIB if mebibytes.isdigit() else 0
        found.append(Gpu(int(index), gpu_kind(name, total), name, total, driver))
    return tuple(found)


def kinds() -> tuple[str, ...]:
    """The kinds that `--gpu` takes."""
    return tuple(_table())


def gpu_kind(name: str, total_bytes: int) -> str:
    """The kind of a GPU by its name, variants told apart by memory."""
    words = re.sub("[^a-z0-9]+", " ", name.lower()).split()
    distances = {
        kind: abs(gpu["memory_gib"] * _GIB - total_bytes) / (gpu["memory_gib"] * _GIB)
        for kind, gpu in _table().items()
        if f" {gpu['words']} " in f" {' '.join(words)} " and not set(gpu.get("not", ())) & set(words)
    }
    nearest = min(distances, key=lambda kind: distances[kind], default=None)
    if nearest is not None and distances[nearest] <= _TOLERANCE:
        return nearest
    return "-".join(words) or "unknown"


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("gpus.toml").read_text(encoding="utf-8"))
