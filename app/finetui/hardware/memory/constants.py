"""The figures of `constants.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

GIB = 1 << 30


@cache
def constants() -> Mapping[str, Any]:
    """Every table of the file, by its name."""
    return tomllib.loads(Path(__file__).with_name("constants.toml").read_text(encoding="utf-8"))


def figure(table: str, name: str) -> float:
    """One figure of a table."""
    return float(constants()[table][name])
