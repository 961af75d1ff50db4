"""What comes of a merge, and whether it is good."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

_LOST_SHARE = 0.1
_NOISE, _NOISE_16 = 0.002, 0.05


@dataclass(frozen=True)
class Quantization:
    """How the base's weights were packed while the adapter was trained."""

    type: str
    """nf4, fp4 or int8."""
    double_quant: bool = False
    """Whether the scales of 4-bit blocks were packed too."""


@dataclass(frozen=True)
class QuantizedBase:
    """How far the merged model is from what was trained, where that was on a packed base: its rounding."""

    type: str
    """nf4, fp4 or int8."""
    kl: float | None
    """Mean over positions of KL(packed base + adapter ‖ merged) in nats; None where it could not be measured."""
    top1_agreement: float | None
    """Share of positions with the same most likely token."""
    max_logit_difference: float | None
    mean_logit_difference: float | None
    """Over all logits of all positions, without their signs."""
    why_not: str | None = None
    """Why it could not be measured."""

    @classmethod
    def unmeasured(cls, quantization: Quantization | None) -> Self | None:
        """Where there was not memory enough to look; None for a base that was not packed."""
        return cls(quantization.type, None, None, None, None, "too little memory to compare") if quantization else None


@dataclass(frozen=True)
class Merged:
    """What came of a merge: the contract of `finetui merge --json`."""

    out: str
    """The model's folder."""
    bytes: int
    """Size of its files."""
    peak_rss_bytes: int
    """Most memory that the merging process had."""
    seconds: float
    """Time from the first check to the end of the comparison."""
    base: str
    """Name of the base model."""
    kl: float | None = None
    """Mean over positions of KL(base + adapter ‖ merged) in nats; None where nothing was compared."""
    adapter_kl: float | None = None
    """The same of KL(base + adapter ‖ base): how much the adapter changes."""
    top1_agreement: float | None = None
    """Share of positions with the same most likely token."""
    max_logit_difference: float | None = None
    mean_logit_difference: float | None = None
    loads_offline: bool | None = None
    """Whether transformers loads the folder without a network; None where memory does not suffice to try."""
    why_not: str | None = None
    """Why it does not load."""
    positions: int = 0
    """Positions compared."""
    compared_in: str | None = None
    """The dtype of the comparison."""
    sample: str | None = None
    """Some tokens that the merged model generated."""
    quantized_base: QuantizedBase | None = None
    """Against the packed base that the adapter was trained on; None where the base was not packed."""

    def to_json(self) -> dict[str, Any]:
        """The contract."""
        return {**asdict(self), "near_trained": self.near_trained}

    @property
    def most_kl(self) -> float:
        """The largest KL of a merge that kept what was trained: a tenth of what the adapter changes.

        The merged model differs from base + adapter by one rounding of the weights to their dtype, and that by next to
        nothing may be all of what a barely trained adapter does; so less than the noise of the arithmetic is no fault
        (measured for a 135 M model in bfloat16: 2e-4 in float32 arithmetic, 4e-3 in 16 bits).
        """
        noise = _NOISE if self.compared_in == "float32" else _NOISE_16
        return max(noise, _LOST_SHARE * (self.adapter_kl or 0.0))

    @property
    def is_good(self) -> bool:
        """Whether it loads and says what base + adapter say; true where memory forbade to look."""
        if self.loads_offline is None:
            return True
        return self.kl is not None and self.kl <= self.most_kl

    @property
    def near_trained(self) -> bool | None:
        """Whether it says what packed base + adapter said, by the same bar; None where nothing was packed or measured.

        A merge that is not may be good: what the adapter learned was fitted to a rounding that only training had.
        """
        trained = self.quantized_base
        return trained.kl <= self.most_kl if trained is not None and trained.kl is not None else None
