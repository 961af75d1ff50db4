"""How far off a prediction may be."""

from __future__ import annotations

from finetui.hardware.memory.constants import figure


def band(total: float, moving: float) -> tuple[int, int]:
    """Lower and upper edge: wider, the more of the total comes and goes within a step.

    What stays is counted exactly; what moves depends on lengths, kernels and the allocator.
    """
    staying = total - moving
    low = staying * (1 - figure("band", "staying")) + moving * (1 - figure("band", "moving_down"))
    high = staying * (1 + figure("band", "staying")) + moving * (1 + figure("band", "moving_up"))
    return int(low), int(high)
