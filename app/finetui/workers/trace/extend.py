"""From the peaks of two depths to those of any depth: what every moment has is linear in the number of layers."""

from __future__ import annotations

from collections.abc import Mapping

from finetui.workers.trace.storages import PARTS, Peak


def extend(few: Mapping[str, Peak], more: Mapping[str, Peak], depths: tuple[int, int], layers: int) -> Peak:
    """The highest peak of a model of `layers` layers, which differs from both by whole periods of kinds of layers.

    A layer is followed both from the first one on and back from the last one; those between them lie between those two.
    """
    least, most = depths
    if least == most:
        return max(few.values(), key=lambda peak: peak.total)
    times = (layers - least) / (most - least)
    named_few, named_more = _named(few, least, least), _named(more, most, least)
    made = []
    for name, low in named_few.items():
        high = named_more[name]
        parts = {part: round(low.parts[part] + (high.parts[part] - low.parts[part]) * times) for part in PARTS}
        made.append(Peak(sum(parts.values()), parts))
    return max(made, key=lambda peak: peak.total)


def _named(peaks: Mapping[str, Peak], depth: int, reach: int) -> dict[str, Peak]:
    """Moments of layers under two names each, `forward first 0` and `forward last 1`, as far as both depths reach."""
    made = {}
    for moment, peak in peaks.items():
        way, _, number = moment.partition(":")
        if not number:
            made[way] = peak
            continue
        if int(number) < reach:
            made[f"{way} first {number}"] = peak
        if depth - int(number) <= reach:
            made[f"{way} last {depth - int(number)}"] = peak
    return made
