"""What two real steps took of memory and time, and where that is kept for the next plan of the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from finetui import __version__
from finetui.core import home
from finetui.core.files import read_json, sha256_json, write_json
from finetui.hardware.memory.job import Job

_INCIDENTAL = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache")
"""Entries of config.json that differ between copies of a model and change no memory."""


@dataclass(frozen=True)
class Tried:
    """Two steps on the longest rows: measured, or out of memory."""

    fits: bool
    """Whether they ended; false where memory ran out."""
    peak_bytes: int | None
    """Of the fullest process. GPU: what the allocator reserved, and all beside it; CPU: resident memory, loading apart.
    None where memory ran out."""
    predicted_bytes: int
    """What the formula said of the same."""
    resident: bool
    """Whether the peak is resident memory, which holds what an allocator has not given back too."""
    seconds_per_step: float | None
    """Of the second step; None where memory ran out."""
    rows: int
    """Rows of each of the two steps."""
    tokens: int
    """Of the longest of them."""
    from_data: bool
    """Whether the rows are as long as those of the data; else all are of `max_length`. The tokens are random ones."""
    free_bytes: int
    """Memory that was free when they began."""
    device: str
    """The device's own name."""
    detail: str = ""
    """What the libraries say of memory that ran out."""
    when: float = 0.0
    """Seconds since 1970."""

    @property
    def error(self) -> float | None:
        """Predicted by measured, less one."""
        return None if self.peak_bytes is None else self.predicted_bytes / self.peak_bytes - 1

    def to_json(self) -> dict[str, Any]:
        """The entry `tried` of the contract of `plan`."""
        told = {name: value for name, value in asdict(self).items() if name not in ("resident", "when", "from_data")}
        return {
            **told,
            "seconds_per_step": self.seconds_per_step and round(self.seconds_per_step, 4),
            "error": None if self.error is None else round(self.error, 4),
            "measured_by": "resident memory" if self.resident else "allocator and driver",
            "lengths_from": "data" if self.from_data else "max_length",
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.when)),
        }


@dataclass(frozen=True)
class Key:
    """What a measurement holds for. Whatever changes no memory and no time of a step, a learning rate, is not in it."""

    config: Mapping[str, Any]
    """The whole of config.json: the weights of a model come to as many bytes whatever their values are."""
    job: Job
    """All that decides memory, the lengths of the rows included."""
    settings: Mapping[str, Any]
    """Other settings that a step's memory or time depends on."""
    gpu_kind: str | None
    torch: str
    """Its version, with the build."""

    def digest(self) -> str:
        """64 hex digits."""
        model = {name: value for name, value in self.config.items() if name not in _INCIDENTAL}
        settings = dict(self.settings)
        return sha256_json([__version__, model, asdict(self.job), settings, self.gpu_kind or "cpu", self.torch])


def kept(key: Key) -> Tried | None:
    """What was measured before, where anything was."""
    try:
        found = read_json(_path(key))
        return Tried(**{field.name: found[field.name] for field in fields(Tried)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(key: Key, tried: Tried) -> None:
    """Keep it; a disk that cannot is no error."""
    with contextlib.suppress(OSError):
        _path(key).parent.mkdir(parents=True, exist_ok=True)
        write_json(_path(key), asdict(tried))


def _path(key: Key) -> Path:
    return home.home() / "cache" / "tried" / f"{key.digest()}.json"
