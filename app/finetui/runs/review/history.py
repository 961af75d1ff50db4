"""The curve of a run and what stands beside it, gathered from its events; flat arrays, for a million steps."""

from __future__ import annotations

import math
import statistics
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetui.core.events import Event
from finetui.runs.outcome import finite
from finetui.runs.review.spending import EVALUATING, SAVING, TRAINING, Spending

_RECENT = 20


@dataclass(frozen=True)
class Evaluated:
    """One evaluation."""

    step: int
    loss: float
    """Mean per trained token; NaN where it was no number."""


@dataclass(frozen=True)
class Saved:
    """One checkpoint."""

    step: int
    path: str
    """Relative to the run's folder."""


class History:
    """All that the events so far say of a run. Steps that were lost and done again stand in it once, as last done."""

    def __init__(self) -> None:
        self.steps = array("q")
        self.times = array("d")
        """When each step ended, in seconds since 1970."""
        self.losses = array("d")
        """Per trained token; NaN where it was no number."""
        self.rates = array("d")
        """Learning rates."""
        self.norms = array("d")
        """Norms of the gradient before clipping; NaN where none was taken."""
        self.speeds = array("d")
        """Non-padding tokens a second."""
        self.epochs = array("d")
        self.memory_bytes = 0
        """Highest peak that a step has named."""
        self.trained_tokens = 0
        """Exact where every step was taken; where only some were, each stands for those since the one before it."""
        self.evaluations: list[Evaluated] = []
        self.checkpoints: list[Saved] = []
        self.best: Saved | None = None
        """The checkpoint that the trainer took for the result."""
        self.warnings: list[str] = []
        self.sample: dict[str, Any] | None = None
        """The machine as the supervisor saw it last."""
        self.device = ""
        """What the last one trains on: `cpu`, or the name of a GPU."""
        self.launched_at = 0
        """Steps that were there when the last one was started."""
        self.repeated = 0
        """Steps that were lost and done again."""
        self.spending = Spending()
        """What the time went to."""
        self._average = Average()
        self._smoothed: array[float] = array("d")

    def take(self, events: Iterable[Event]) -> None:
        """Add events, in the order in which they happened."""
        for event in events:
            self.spending.take(event)
            match event.name:
                case "step":
                    self._step(event.facts)
                case "evaluation":
                    step, loss = event.step or 0, finite(event["loss"])
                    self._evaluated(Evaluated(step, math.nan if loss is None else loss))
                case "checkpoint":
                    saved = Saved(event.step or 0, str(event["path"]))
                    self.checkpoints = [each for each in self.checkpoints if each.step < saved.step] + [saved]
                case "best":
                    self.best = Saved(event.step or 0, str(event["path"]))
                case "warning":
                    self.warnings.append(str(event["text"]))
                case "sample":
                    self.sample = event.facts
                case "started":
                    if (reached := event.facts.get("resumed_from")) is not None:
                        self._go_back(reached)
                    self.device, self.launched_at = str(event["device"]), len(self)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def smoothed(self) -> array[float]:
        """The moving average of the losses, one a step; not to be changed."""
        if len(self._smoothed) < len(self):
            self._smoothed.extend(map(self._average.add, self.losses[len(self._smoothed) :]))
        return self._smoothed

    @property
    def recent(self) -> int:
        """Steps whose time predicts the rest: enough to be steady, few enough to follow a machine that slows down."""
        return min(_RECENT, len(self) - 1)

    @property
    def step_seconds(self) -> float | None:
        """Median time of the recent steps alone; None before there are two."""
        if self.recent < 1:
            return None
        last = range(len(self) - self.recent, len(self))
        return statistics.median(
            (self.times[place] - self.times[place - 1]) / (self.steps[place] - self.steps[place - 1]) for place in last
        )

    def seconds_left(self, steps: int) -> float | None:
        """Until `steps` are done: the rest at the recent pace, with evaluations and saves in the proportion so far."""
        if self.step_seconds is None:
            return None
        spent = self.spending.until()
        others = (spent[EVALUATING] + spent[SAVING]) / spent[TRAINING] if spent[TRAINING] > 0 else 0.0
        return max(0.0, self.step_seconds) * (1 + others) * max(0, steps - self.steps[-1])

    @property
    def base_loss(self) -> float:
        """Loss of the first steps, which the base itself almost gives; NaN before there is any."""
        first = [loss for loss in self.losses[: max(1, min(5, len(self) // 10))] if math.isfinite(loss)]
        return sum(first) / len(first) if first else math.nan

    @property
    def lowest_evaluation(self) -> Evaluated | None:
        """The evaluation with the lowest loss."""
        known = [each for each in self.evaluations if math.isfinite(each.loss)]
        return min(known, key=lambda each: each.loss) if known else None

    def _step(self, facts: dict[str, Any]) -> None:
        step = facts["step"]
        since = self.steps[-1] if self.steps else step - 1
        if self.steps and step <= self.steps[-1]:
            self._go_back(step - 1)
        self.steps.append(step)
        self.times.append(facts["time"])
        self.losses.append(_number(facts["loss"]))
        self.rates.append(_number(facts["learning_rate"]))
        self.norms.append(_number(facts["grad_norm"]))
        self.speeds.append(_number(facts["tokens_per_second"]))
        self.epochs.append(_number(facts["epoch"]))
        self.memory_bytes = max(self.memory_bytes, facts["memory_bytes"])
        self.trained_tokens += facts["trained_tokens"] * max(1, step - since)

    def _go_back(self, step: int) -> None:
        """Forget what came after this step: it is lost, and will be done again."""
        kept = bisect_right(self.steps, step)
        self.repeated += len(self) - kept
        for column in (self.steps, self.times, self.losses, self.rates, self.norms, self.speeds, self.epochs):
            del column[kept:]
        self._average, self._smoothed = Average(), array("d")
        self.evaluations = [each for each in self.evaluations if each.step <= step]
        self.checkpoints = [saved for saved in self.checkpoints if saved.step <= step]

    def _evaluated(self, found: Evaluated) -> None:
        self.evaluations = [each for each in self.evaluations if each.step < found.step] + [found]


class Average:
    """An exponential moving average, without the pull of its start towards 0 (as Adam's moments are corrected)."""

    def __init__(self, weight: float = 0.9) -> None:
        self._weight = weight
        self._mean = 0.0
        self._norm = 0.0
        self._last = math.nan

    def add(self, value: float) -> float:
        """The average with this value in it; one that is no number leaves it as it was."""
        if math.isfinite(value):
            self._mean = self._weight * self._mean + (1 - self._weight) * value
            self._norm = self._weight * self._norm + (1 - self._weight)
            self._last = self._mean / self._norm
        return self._last


def smoothed(values: Iterable[float], weight: float = 0.9) -> array[float]:
    """The exponential moving average of all values."""
    return array("d", map(Average(weight).add, values))


def _number(value: object) -> float:
    number = finite(value)
    return math.nan if number is None else number
