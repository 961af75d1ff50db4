"""Which data serves which stage of a recipe: the words of data and of recipes differ, and pairs serve two stages."""

from __future__ import annotations

_SERVED_BY = {"reward": ("rm", "dpo"), "dpo": ("dpo", "rm")}


def serves(data: str | None, stage: str) -> bool:
    """Whether data that is read for one stage can be trained in another: pairs teach to prefer and to score."""
    return data in _SERVED_BY.get(stage, (stage,))


def read_for(stage: str) -> str:
    """What `--stage` of data is called for a stage of recipes."""
    return _SERVED_BY.get(stage, (stage,))[0]
