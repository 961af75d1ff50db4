"""The CPU as numeric libraries see it: maker, model, the vector instructions that they dispatch on."""

from __future__ import annotations

import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cpu:
    """What decides which kernels run on a CPU."""

    vendor: str
    """Its maker, such as `AuthenticAMD`, `GenuineIntel` or `Arm`; `unknown` where the system does not say."""
    model: str
    """Its name as the system gives it."""
    instruction_set: str
    """The most capable level of `instruction_sets.toml` that it has."""


def probe_cpu(root: Path) -> Cpu:
    """The CPU of the system under `root`, from /proc/cpuinfo; where there is none, as far as the platform tells."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        level = "neon" if platform.machine().lower() in ("arm64", "aarch64") else UNKNOWN
        return Cpu(UNKNOWN, platform.processor() or UNKNOWN, level)
    facts = _first_processor(text)
    if "CPU implementer" in facts:
        maker = facts["CPU implementer"]
        vendor = str(_tables()["implementers"].get(maker, maker))
        model = facts.get("model name") or f"{vendor} {facts.get('CPU part', UNKNOWN)}"
        return Cpu(vendor, model, _level("arm", facts.get("Features", "")))
    vendor = facts.get("vendor_id", UNKNOWN)
    return Cpu(vendor, facts.get("model name", UNKNOWN), _level("x86", facts.get("flags", "")))


def _first_processor(text: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


def _level(family: str, flags: str) -> str:
    present = set(flags.split())
    levels = (level["name"] for level in _tables()[family] if present.issuperset(level["flags"]))
    return str(next(levels, UNKNOWN))


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("instruction_sets.toml").read_text(encoding="utf-8"))
