"""What trackers are sent, and whether wandb sends it on: told to the person beforehand, done by the worker `track`."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

METRICS = {
    "step": {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "grad_norm": "train/grad_norm",
        "tokens_per_second": "train/tokens_per_second",
        "trained_tokens": "train/trained_tokens",
        "epoch": "train/epoch",
        "memory_bytes": "train/memory_bytes",
    },
    "evaluation": {"loss": "eval/loss"},
}
"""What of an event is sent, and under which name: the names that transformers' own trainer has made usual."""


def wandb_mode() -> str:
    """`$WANDB_MODE`, else `online` where somebody is logged in, else `offline`. The key itself is wandb's to read."""
    return os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0].split(":")[0]
    try:
        words = Path(os.environ.get("NETRC", "~/.netrc")).expanduser().read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return False
    return any(pair == ("machine", host) for pair in itertools.pairwise(words))
