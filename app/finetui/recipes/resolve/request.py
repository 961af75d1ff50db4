"""What is resolved: a recipe for a model, with what is known of data, machine and interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from finetui.core.knobs import Value
from finetui.hardware.probe import Machine
from finetui.models.outline import Outline
from finetui.recipes.recipe import Recipe
from finetui.recipes.resolve.settings import Choice
from finetui.recipes.resolve.tokens import Tokens


@dataclass(frozen=True)
class Request:
    """Everything that decides a setting."""

    recipe: Recipe
    overrides: Mapping[str, Value]
    """What `--set` says, over the recipe."""
    model: Outline
    machine: Machine
    """The machine that will train."""
    tokens: Tokens | None = None
    """The lengths of the rows; None without data."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Versions of what is installed, by the package's name, as far as anything depends on it."""
    elsewhere: bool = False
    """Whether the machine is one that is planned with, so that what is installed here says nothing of it."""
    free_disk_bytes: int | None = None
    """Where finetui keeps things; None where that is not known."""
    price: float | None = None
    """Of one GPU for an hour, in any currency."""

    @property
    def stage(self) -> str:
        """What is trained."""
        return self.recipe.stage

    @property
    def method(self) -> str:
        """How."""
        return self.recipe.method

    def asked(self) -> dict[str, Choice]:
        """What recipe and `--set` state, each with that as its reason."""
        stated = {
            name: Choice(value, "reasons.recipe", {"recipe": self.recipe.name})
            for name, value in self.recipe.values.items()
        }
        return {**stated, **{name: Choice(value, "reasons.set") for name, value in self.overrides.items()}}
