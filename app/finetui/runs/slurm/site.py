"""What `site.toml` says of the cluster: its table `[slurm]`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from typing import Self

from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem


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
                if name != "preamble" and isinstance(value, str) and any(sign in value for sign in "\n\r"):
                    raise ValueError(f"[slurm] {name} has more than one line")
        except (ValueError, RecursionError) as error:
            raise FinetuiError(Problem("slurm.bad-site", {"error": str(error)}, str(path)), BAD_INPUT) from error
        return cls(**table)
