"""What was asked about choosing rows, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem

EXACT, NEAR = "exact", "near"


@dataclass(frozen=True)
class Choosing:
    """Which rows are wanted; as it is made, all of them, and all for training. The names are those of the knobs."""

    max_samples: int = 0
    """Rows of each dataset; 0 for all."""
    val_size: float = 0
    """Rows for evaluation while training: a share below 1, else a number."""
    test_size: float = 0
    """Rows kept for afterwards: a share below 1, else a number."""
    group_by: str = ""
    """Path of a field whose rows of one value stay together in a split."""
    dedupe: str = "none"
    """`exact` or `near`: of rows that are the same, or nearly, one is taken."""
    near_duplicates: float = 0.8
    """Jaccard similarity from which two rows are nearly the same."""
    min_tokens: int = 0
    """Rows with fewer tokens are dropped."""
    max_tokens: int = 0
    """Rows with more tokens are dropped; 0 for no limit."""
    seed: int = 42
    """Decides every draw."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Choosing:
        """From the values of knobs, of which others than these are left out.

        Raises FinetuiError (exit 2) where a value cannot be obeyed, or where two exclude each other.
        """
        names = cls.__dataclass_fields__
        made = cls(**{name: value for name, value in values.items() if name in names})
        if problems := made._contradictions():
            raise FinetuiError(problems, USAGE)
        return made

    def _contradictions(self) -> list[Problem]:
        problems = [
            Problem("choose.size-not-whole", {"knob": knob, "value": value})
            for knob, value in (("val_size", self.val_size), ("test_size", self.test_size))
            if value > 1 and value != int(value)
        ]
        if self.val_size < 1 and self.test_size < 1 and self.val_size + self.test_size >= 1:
            problems.append(Problem("choose.nothing-to-train", {"val": self.val_size, "test": self.test_size}))
        if 0 < self.max_tokens < self.min_tokens:
            problems.append(Problem("choose.tokens-crossed", {"min": self.min_tokens, "max": self.max_tokens}))
        return problems

    @property
    def counts_tokens(self) -> bool:
        """Whether rows are chosen by their tokens, which takes a model's tokenizer."""
        return self.min_tokens > 0 or self.max_tokens > 0

    @property
    def decides(self) -> bool:
        """Whether anything is asked at all."""
        return bool(self.asked())

    def asked(self) -> dict[str, Any]:
        """What differs from taking everything, for the report; with the seed where one was drawn by."""
        everything = asdict(EVERYTHING)
        asked = {name: value for name, value in asdict(self).items() if name != "seed" and value != everything[name]}
        if self.dedupe != NEAR:
            asked.pop("near_duplicates", None)
        return asked


EVERYTHING = Choosing()
