"""What is known of a kind of GPU before there is one: memory, speed and what training makes of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_GIB = 1 << 30
_MEASURED = "a100-80g"
_TOLERANCE = 0.15  # a driver keeps up to a tenth of a card's memory for itself


@dataclass(frozen=True)
class GpuKind:
    """One entry of `gpus.toml`."""

    name: str
    words: str
    """What the driver's name for it holds, in lower case."""
    excluded: frozenset[str]
    """Words that make a name with `words` that of another card."""
    total_bytes: int
    """Memory of the card."""
    usable_bytes: int
    """Memory that CUDA has to give on an idle card."""
    compute_capability: tuple[int, int]
    tflops: Mapping[str, float]
    """Dense TFLOP/s of the tensor cores by dtype; 0 where there is no such kernel."""
    bandwidth: float
    """Of the memory, GB/s."""
    nvlink: float
    """Of all links together, GB/s; 0 where there are none."""
    achieved: Mapping[str, float]
    """Share of the peak that training of very wide models comes to, by method: lora, full."""
    measured: bool
    """Whether `achieved` was measured on this kind, not taken over from another."""

    @property
    def bf16(self) -> bool:
        """Whether bfloat16 is native."""
        return self.tflops["bfloat16"] > 0


def gpu_kinds() -> Mapping[str, GpuKind]:
    """Every kind that `--gpu` takes, by its name."""
    return _kinds()


def gpu_kind(name: str, total_bytes: int) -> str:
    """The kind of a GPU by its name, variants told apart by memory; of another card, its name with dashes."""
    words = re.sub("[^a-z0-9]+", " ", name.lower()).split()
    distances = {
        kind.name: abs(kind.total_bytes - total_bytes) / kind.total_bytes
        for kind in gpu_kinds().values()
        if f" {kind.words} " in f" {' '.join(words)} " and not kind.excluded & set(words)
    }
    nearest = min(distances, key=lambda kind: distances[kind], default=None)
    if nearest is not None and distances[nearest] <= _TOLERANCE:
        return nearest
    return "-".join(words) or "unknown"


@cache
def _kinds() -> dict[str, GpuKind]:
    text = Path(__file__).with_name("gpus.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    made = {}
    for name, entry in table.items():
        major, _, minor = entry["compute_capability"].partition(".")
        half = float(entry["fp16"])
        made[name] = GpuKind(
            name=name,
            words=entry["words"],
            excluded=frozenset(entry.get("not", ())),
            total_bytes=entry["memory_gib"] * _GIB,
            usable_bytes=int(entry["usable_gib"] * _GIB),
            compute_capability=(int(major), int(minor)),
            tflops={"bfloat16": float(entry["bf16"]), "float16": half, "float32": half / 8},
            bandwidth=float(entry["bandwidth"]),
            nvlink=float(entry["nvlink"]),
            achieved=entry.get("achieved") or table[_MEASURED]["achieved"],
            measured="achieved" in entry,
        )
    return made
