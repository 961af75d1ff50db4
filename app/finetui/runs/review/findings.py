"""What is odd about a curve, in words: the patterns by which people recognise a run that goes wrong."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finetui.core.messages import t
from finetui.runs.review.history import History

_ENOUGH = 30
"""Steps without which a curve says nothing."""
_FLAT = 0.02
"""Share of the base's loss that a training which learns has lost by then."""
_NOISY = 0.05
"""Share of the base's loss beyond which a fall is one, however much the losses scatter."""
_UNKNOWN_TEXT = 6.0
"""A base model meets its own template and a language that it knows with less than this, in nats a token; a vocabulary
of 50 000 guessed at random gives 10.8."""
_BY_HEART = 0.05
"""Rows that are known word for word, in nats a token."""
_RISEN = 0.01
"""Share by which an evaluation has to stand above the lowest one, more than its noise from step to step."""
_DIVERGED = 1.3
"""Times the lowest smoothed loss."""
_HIGHER = 0.2
"""Share by which the loss stands higher after a resume than before, more than rows differ."""
_SPIKE = 8.0
"""Spreads above the smoothed loss."""
_BURST = 20.0
"""Times the median norm of the gradient in the steps before."""
_USUAL = 200
"""So many steps before one say which norm is usual."""
_SLOWER = 0.7
"""Share of the best speed."""
_WINDOW = 20
_RECENT = 2000
"""Steps among which single odd ones are looked for: what is older has been seen, and a look has to stay cheap."""


@dataclass(frozen=True)
class Finding:
    """One thing that is odd."""

    code: str
    """Stable; its words are `curve.CODE`."""
    facts: dict[str, object]

    def text(self, lang: str | None = None) -> str:
        """In words, with what to look at."""
        return t(f"curve.{self.code}", lang, **self.facts)


def findings(history: History) -> list[Finding]:
    """All that is odd about the curve so far, the gravest first; nothing while it is too short to say."""
    return [finding for look in _LOOKS for finding in look(history)]


def _no_gradient(history: History) -> Iterator[Finding]:
    norms = history.norms[-_WINDOW:]
    if len(norms) >= 3 and all(norm == 0 for norm in norms) and not history.losses[-1] < _BY_HEART:
        yield Finding("no-gradient", {"steps": len(norms)})


def _unknown_text(history: History) -> Iterator[Finding]:
    if history.base_loss > _UNKNOWN_TEXT:
        yield Finding("unknown-text", {"loss": _short(history.base_loss)})


def _flat(history: History) -> Iterator[Finding]:
    losses = [loss for loss in history.losses if math.isfinite(loss)]
    if len(losses) < _ENOUGH:
        return
    late = losses[-len(losses) // 3 :]
    early = losses[: max(5, len(losses) // 10)]
    first, last = statistics.fmean(early), statistics.fmean(late)
    noise = 2 * math.hypot(*(_spread(some) / math.sqrt(len(some)) for some in (early, late)))
    if abs(first - last) < max(_FLAT * first, min(noise, _NOISY * first)) and last > _BY_HEART:
        yield Finding("flat", {"loss": _short(last), "steps": len(losses)})


def _diverged(history: History) -> Iterator[Finding]:
    curve = [loss for loss in history.smoothed if math.isfinite(loss)]
    if len(curve) < _ENOUGH:
        return
    lowest = min(range(len(curve)), key=curve.__getitem__)
    if len(curve) - lowest > _WINDOW // 2 and curve[-1] > max(_DIVERGED * curve[lowest], 0.5):
        facts = {"step": history.steps[lowest], "lowest": _short(curve[lowest]), "loss": _short(curve[-1])}
        yield Finding("diverges", facts)


def _higher_since_resume(history: History) -> Iterator[Finding]:
    place = history.launched_at
    before = [loss for loss in history.losses[max(0, place - _WINDOW) : place] if math.isfinite(loss)]
    after = [loss for loss in history.losses[place : place + _WINDOW] if math.isfinite(loss)]
    if min(len(before), len(after)) < _WINDOW // 2:
        return
    was, now = statistics.fmean(before), statistics.fmean(after)
    if now - was > max(_HIGHER * was, 2 * _spread(before), _BY_HEART):
        yield Finding("higher-since-resume", {"step": history.steps[place - 1], "was": _short(was), "now": _short(now)})


def _evaluation_rises(history: History) -> Iterator[Finding]:
    best = history.lowest_evaluation
    after = [each for each in history.evaluations if best and each.step > best.step]
    if best is None or len(after) < 2 or not all(each.loss > best.loss * (1 + _RISEN) for each in after[-2:]):
        return
    facts = {"step": best.step, "lowest": _short(best.loss), "loss": _short(after[-1].loss)}
    near = [saved for saved in history.checkpoints if saved.step == best.step]
    yield (
        Finding("evaluation-rises", {**facts, "path": near[0].path})
        if near
        else Finding("evaluation-rises-unsaved", facts)
    )


def _by_heart(history: History) -> Iterator[Finding]:
    last = [loss for loss in history.losses[-_WINDOW:] if math.isfinite(loss)]
    if len(history) >= _ENOUGH and last and statistics.fmean(last) < _BY_HEART:
        yield Finding("by-heart", {"loss": _short(statistics.fmean(last)), "epoch": round(history.epochs[-1], 1)})


def _spikes(history: History) -> Iterator[Finding]:
    found = [
        step
        for step, loss, mean, spread in _beside_their_past(history.steps[-_RECENT:], history.losses[-_RECENT:])
        if loss - mean > _SPIKE * max(spread, 0.05 * mean) and step not in history.steps[history.launched_at :][:1]
    ]
    if found:
        yield Finding("spikes", {"steps": _steps(found), "count": len(found)})


def _bursts(history: History) -> Iterator[Finding]:
    found = list(_above_their_usual(history.steps[-_RECENT:], history.norms[-_RECENT:]))
    if found:
        _, norm, usual = max(found, key=lambda burst: burst[1])
        steps = [step for step, _, _ in found]
        facts = {"steps": _steps(steps), "count": len(steps), "norm": _short(norm), "usual": _short(usual)}
        yield Finding("gradient-bursts", facts)


def _slower(history: History) -> Iterator[Finding]:
    since = max(history.launched_at, len(history) - _RECENT)  # resumed runs have other settings, and other machines
    speeds = [speed for speed in history.speeds[since:] if math.isfinite(speed)]
    if len(speeds) < 3 * _WINDOW:
        return
    medians = [statistics.median(speeds[start : start + _WINDOW]) for start in range(0, len(speeds), _WINDOW)]
    best, last = max(medians), statistics.median(speeds[-_WINDOW:])
    if last < _SLOWER * best:
        code = "slower-cpu" if history.device == "cpu" else "slower"
        yield Finding(code, {"best": round(best), "speed": round(last), "share": round(100 * last / best)})


_LOOKS: Sequence[Callable[[History], Iterator[Finding]]] = (
    _no_gradient,
    _unknown_text,
    _flat,
    _higher_since_resume,
    _diverged,
    _evaluation_rises,
    _by_heart,
    _spikes,
    _bursts,
    _slower,
)


def _beside_their_past(steps: Sequence[int], losses: Sequence[float]) -> Iterator[tuple[int, float, float, float]]:
    """Each step and its loss with mean and spread of the steps before it."""
    for place in range(_WINDOW, len(losses)):
        past = [loss for loss in losses[place - _WINDOW : place] if math.isfinite(loss)]
        if len(past) > 2 and math.isfinite(losses[place]):
            yield steps[place], losses[place], sum(past) / len(past), _spread(past)


def _above_their_usual(steps: Sequence[int], norms: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Each step whose norm of the gradient bursts, with that norm and the usual one: the median of those before it."""
    window: deque[float] = deque()
    ordered: list[float] = []
    for step, norm in zip(steps, norms, strict=True):
        if not math.isfinite(norm):
            continue
        if len(window) >= _ENOUGH and norm > max(_BURST * (usual := ordered[len(ordered) // 2]), 1.0):
            yield step, norm, usual
        window.append(norm)
        insort(ordered, norm)
        if len(window) > _USUAL:
            del ordered[bisect_left(ordered, window.popleft())]


def _spread(values: Sequence[float]) -> float:
    """The standard deviation, in floats: `statistics` reckons in fractions, too slow to be asked at every look."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _steps(found: Sequence[int]) -> str:
    return ", ".join(map(str, found[:3])) + ("…" if len(found) > 3 else "")


def _short(value: float) -> str:
    return format(value, ".3g")
