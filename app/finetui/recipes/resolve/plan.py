"""A plan: the settings with their reasons, what they need of memory, disk, time and money, and what would fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetui.core.errors import Problem
from finetui.core.messages import t
from finetui.hardware.memory.job import Job
from finetui.hardware.memory.predict import Prediction
from finetui.hardware.memory.traced import Trace, widened
from finetui.hardware.memory.tried import Tried
from finetui.hardware.probe import Machine
from finetui.recipes.resolve.cost import Cost, Time
from finetui.recipes.resolve.settings import Settings
from finetui.recipes.resolve.settle import Settled
from finetui.recipes.resolve.tokens import Tokens
from finetui.recipes.resolve.ways import Way

SLOW, ESTIMATED = "plan.speed-unmeasured", "plan.tokens-estimated"


@dataclass(frozen=True)
class Plan:
    """What would be trained, and what it takes."""

    settled: Settled
    ways_out: tuple[Way, ...]
    """What would fit, where this does not."""
    warnings: tuple[Problem, ...]
    """What is allowed, and probably not meant."""
    untrained: tuple[Problem, ...]
    """Why this can be planned and not be locked."""
    time: Time | None
    """Of the whole run; None where the number of rows is not known."""
    cost: Cost | None
    """None without a price."""
    trace: Trace | None = None
    """A step traced, where that was asked for."""
    tried: Tried | None = None
    """What two real steps took, now or earlier."""

    @property
    def settings(self) -> Settings:
        """Every knob with its value and reason."""
        return self.settled.settings

    @property
    def prediction(self) -> Prediction:
        """The peak of one process by the formula, the band wide enough for the trace too."""
        found = self.settled.prediction
        return found if self.trace is None else widened(found, self.trace)

    @property
    def job(self) -> Job:
        """What was predicted, for whoever measures or traces it."""
        return self.settled.job

    @property
    def machine(self) -> Machine:
        """The machine that will train."""
        return self.settled.request.machine

    @property
    def tokens(self) -> Tokens | None:
        """The lengths of the rows; None without data."""
        return self.settled.request.tokens

    @property
    def free_bytes(self) -> int:
        """Memory that a process can have of the GPU, or of the CPU's machine."""
        return self.settled.frame.device.free_bytes

    @property
    def fits(self) -> bool:
        """Whether the upper edge of the formula's prediction is free."""
        return self.settled.fits

    @property
    def disk_bytes(self) -> int:
        """What the run, its checkpoints and the merged model leave on the disk."""
        return self.settled.saving.all_bytes

    @property
    def disk_fits(self) -> bool:
        """Whether there is room for the run itself, where that is known."""
        free = self.settled.request.free_disk_bytes
        return free is None or self.settled.saving.run_bytes <= free

    @property
    def seconds(self) -> float | None:
        """The whole run."""
        return None if self.time is None else self.time.total

    @property
    def notes(self) -> tuple[str, ...]:
        """Codes of messages: what no measurement covers, and what is estimated."""
        slow = () if self.settled.frame.device.speed.measured else (SLOW,)
        guessed = (ESTIMATED,) if self.tokens and self.tokens.estimated else ()
        return (*self.prediction.notes, *slow, *guessed)

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui plan --json`."""
        request, saving, prediction = self.settled.request, self.settled.saving, self.prediction
        return {
            "fits": self.fits,
            "gpus": [{"kind": gpu.kind, "total_bytes": gpu.total_bytes} for gpu in self.machine.gpus],
            "free_bytes": self.free_bytes,
            "predicted_peak_bytes": prediction.total_bytes,
            "band": list(prediction.band),
            "breakdown": dict(prediction.parts),
            "trace": self.trace and self.trace.to_json(),
            "tried": self.tried and self.tried.to_json(),
            "unmeasured": [t(code, "en") for code in self.notes],
            "model": {"name": request.model.name, "parameters": request.model.parameters},
            "recipe": request.recipe.name,
            "stage": request.stage,
            "method": request.method,
            "settings": {name: choice.value for name, choice in self.settings.choices.items()},
            "reasons": {name: choice.reason for name, choice in self.settings.choices.items()},
            "tokens": self.tokens and self.tokens.to_json(),
            "steps": saving.steps,
            "disk_bytes": self.disk_bytes,
            "disk": {
                "fits": self.disk_fits,
                "free_bytes": request.free_disk_bytes,
                "checkpoint_bytes": saving.checkpoint_bytes,
                "checkpoints": saving.checkpoints,
                "output_bytes": saving.output_bytes,
                "merged_bytes": saving.merged_bytes,
                "data_bytes": saving.data_bytes,
            },
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "seconds_per_step": round(self.settled.fitted.seconds, 4),
            "time": self.time and self.time.to_json(),
            "cost": self.cost and self.cost.to_json(),
            "trainable": not self.untrained,
            "warnings": [problem.to_json() for problem in (*self.untrained, *self.warnings)],
            "ways_out": [way.to_json() for way in self.ways_out],
        }
