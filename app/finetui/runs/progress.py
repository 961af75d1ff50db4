"""How far a run is, gathered from its events: one immutable picture after each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from finetui.core.events import Event
from finetui.runs.outcome import finite

_RECENT = 20
"""Steps whose mean time predicts the rest: enough to be steady, few enough to follow a machine that slows down."""


@dataclass(frozen=True)
class Progress:
    """What is known of a run at one moment; None where it has not been said yet."""

    steps: int
    """Optimizer steps that the run is to do."""
    step: int = 0
    """Steps done."""
    loss: float | None = None
    """Loss of the last step, per trained token; None also where it was no number."""
    learning_rate: float | None = None
    """Learning rate of the last step."""
    tokens_per_second: float | None = None
    """Non-padding tokens a second, at the last step."""
    evaluation_loss: float | None = None
    """Loss of the last evaluation."""
    world_size: int | None = None
    """Training processes."""
    times: tuple[float, ...] = ()
    """When the last steps ended, in seconds since 1970."""

    @property
    def eta_s(self) -> float | None:
        """Seconds that the remaining steps take if they go on as the last ones did."""
        if len(self.times) < 2:
            return None
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) * max(0, self.steps - self.step)

    def after(self, event: Event) -> Progress:
        """The picture once `event` has happened."""
        match event.name:
            case "started":
                return replace(self, world_size=event["world_size"])
            case "model_loaded":
                return replace(self, times=(event.time,))
            case "step":
                return replace(
                    self,
                    step=event["step"],
                    loss=finite(event["loss"]),
                    learning_rate=finite(event["learning_rate"]),
                    tokens_per_second=finite(event["tokens_per_second"]),
                    times=(*self.times, event.time)[-_RECENT - 1 :],
                )
            case "evaluation":
                return replace(self, evaluation_loss=finite(event["loss"]))
            case _:
                return self


def short_duration(seconds: float | None) -> str:
    """`1:02:03`, `2:03` or, where it is not known, `–`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_number(value: float | None, form: str) -> str:
    """The number in this format, or `–` where it is not known."""
    return "–" if value is None else format(value, form)
