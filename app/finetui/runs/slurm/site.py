"""What `site.toml` says of the cluster: its table `[slurm]`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from typing import Self

from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem

_MOST_SIGNAL_SECONDS = 65535
"""Slurm's own limit."""


@dataclass(frozen=True)
class Site:
    """A cluster's own words; what is empty is left to Slurm."""

    account: str = ""
    partition: str = ""
    qos: str = ""
    gres: str = ""
    """Devices of each node, as `--gres` takes them; else as many GPUs as a node has processes."""
    time: str = ""
    """Time limit of a job, as `--time` takes it."""
    preamble: str = ""
    """Lines of shell before the training: `module load …`."""
    python: str = ""
    """The interpreter on the nodes."""
    signal_seconds: int = 120
    """How long before the time limit the training is asked to save."""

    @classmethod
    def read(cls) -> Self:
        """Raises FinetuiError (exit 3) where `site.toml` is not TOML, or says what is not known here."""
        path = home.home() / "site.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("slurm", {}) if path.exists() else {}
            if not isinstance(table, dict):
                raise ValueError("slurm is no table")
            known = {field.name: str if field.name != "signal_seconds" else int for field in fields(cls)}
            for name, value in table.items():
                if name not in known:
                    raise ValueError(f"[slurm] knows no {name}; it knows {', '.join(known)}")
                if type(value) is not known[name]:
                    raise ValueError(f"[slurm] {name} is no {'whole number' if known[name] is int else 'text'}")
                _check(name, value)
        except (ValueError, RecursionError) as error:
            raise FinetuiError(Problem("slurm.bad-site", {"error": str(error)}, str(path)), BAD_INPUT) from error
        return cls(**table)


def _check(name: str, value: str | int) -> None:
    """Raises ValueError for what neither sbatch nor a shell takes as it is meant."""
    if isinstance(value, int):
        if not 1 <= value <= _MOST_SIGNAL_SECONDS:
            raise ValueError(f"[slurm] {name} is not between 1 and {_MOST_SIGNAL_SECONDS}")
    elif name != "preamble" and any(sign in value for sign in "\n\r"):
        raise ValueError(f"[slurm] {name} has more than one line")
    elif not all(sign.isprintable() or sign in "\n\t" for sign in value):
        raise ValueError(f"[slurm] {name} has characters that cannot be seen")
    elif name not in ("preamble", "python") and any(sign in value for sign in '"\\'):
        raise ValueError(f"[slurm] {name} has quotes or backslashes")
