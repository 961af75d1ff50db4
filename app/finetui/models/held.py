"""Rows of ids on which a merged model is compared with base + adapter."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from finetui.models.identify import ModelFacts

_ROWS = 16
_TOKENS = 256
_SEEDED_TOKENS = 32
_SEED = 0


def cut(rows: Iterable[Sequence[int]]) -> list[list[int]]:
    """The first rows of some, no longer than the comparison needs: their logits have to fit on the disk."""
    return [list(row[:_TOKENS]) for row in islice((row for row in rows if row), _ROWS)]


def own_rows(facts: ModelFacts) -> list[list[int]]:
    """Rows for a model of which no data is at hand: short texts through its tokenizer, else seeded ids."""
    tokenizer_file = facts.folder / "tokenizer.json"
    if not tokenizer_file.is_file():
        source = random.Random(_SEED)
        return [[source.randrange(facts.vocab_size) for _ in range(_SEEDED_TOKENS)] for _ in range(_ROWS)]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(tokenizer_file.read_bytes())
    texts = (Path(__file__).parent / "held.txt").read_text(encoding="utf-8").strip().split("\n\n")
    return cut(tokenizer.encode(text).ids for text in texts)
