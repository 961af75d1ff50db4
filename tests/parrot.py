"""A model that says what it is told to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.tiny import make_tiny_model

STOP = 258


def make_parrot(folder: Path, text: str) -> Path:
    """A model that answers anything with `text`, of which no sign may come twice.

    Attention and MLP add nothing, so that the last token alone decides the next: lm_head holds, as the row of each
    token, the embedding of the one before it.
    """
    make_tiny_model(folder)
    tokens = _tokens(folder)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] = np.zeros_like(weights[name])
    embeddings = weights["model.embed_tokens.weight"]
    head = np.zeros_like(weights["lm_head.weight"])
    chain = [tokens[sign] for sign in ["\n", *text]] + [STOP]
    for before, after in pairwise(chain):
        head[after] += embeddings[before] / np.linalg.norm(embeddings[before])
    weights["lm_head.weight"] = head
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _tokens(folder: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return {tokenizer.decode([token]): token for token in range(256)}
