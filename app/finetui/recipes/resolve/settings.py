"""What a training is told: every knob with its value, and every value with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from finetui.core.knobs import Value
from finetui.core.messages import t


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen."""

    value: Value
    code: str
    """The message that says why."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Its figures."""

    @property
    def reason(self) -> str:
        """Why, in English, as it stands in the lock."""
        return self.why("en")

    def why(self, lang: str | None = None) -> str:
        """Why, in one sentence."""
        return t(self.code, lang, **self.facts)


@dataclass(frozen=True)
class Settings:
    """Everything that training is told."""

    choices: Mapping[str, Choice]
    """Every knob that stage and method have, in the order of the table."""

    def __getitem__(self, name: str) -> Value:
        return self.choices[name].value

    def locked(self, name: str) -> tuple[Value, str]:
        """The value of a knob and its reason."""
        choice = self.choices[name]
        return choice.value, choice.reason

    def number(self, name: str) -> int:
        """The value of a whole-number knob."""
        value = self[name]
        assert isinstance(value, int), name
        return value

    @property
    def world_size(self) -> int:
        """Number of training processes."""
        return self.number("nproc_per_node")

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step over all processes."""
        return self.number("rows_per_step")

    def steps(self, rows: int) -> int:
        """Optimizer steps for `rows` rows: `max_steps` where set, else ⌈epochs × ⌈rows / rows per step⌉⌉."""
        if self.number("max_steps") > 0:
            return self.number("max_steps")
        epochs = self["num_train_epochs"]
        assert isinstance(epochs, (int, float))
        return max(1, math.ceil(epochs * math.ceil(rows / self.rows_per_step)))
