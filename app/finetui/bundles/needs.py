"""Packages that a training needs beside those that every training needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PACKED = ("load_in_4bit", "load_in_8bit")
_OPTIMIZERS = ("adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


def needed_packages(settings: Mapping[str, object]) -> tuple[str, ...]:
    """Their names, as pip and Python both spell them; `settings` are values by knob, those missing at their default."""
    packed = any(settings.get(name) is True for name in _PACKED)
    return ("bitsandbytes",) if packed or settings.get("optim") in _OPTIMIZERS else ()


def packages_of(lock: Mapping[str, Any]) -> tuple[str, ...]:
    """The same for a lock."""
    return needed_packages({name: knob["value"] for name, knob in lock["training"].items()})
