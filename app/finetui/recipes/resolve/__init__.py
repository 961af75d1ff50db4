"""From a recipe to settings: every knob with a value, and every value with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from finetui.core.errors import FinetuiError, Problem
from finetui.core.knobs import Value, knobs
from finetui.core.messages import t
from finetui.hardware.probe import Machine
from finetui.models.identify import ModelFacts
from finetui.recipes.recipe import Recipe

_WITHOUT_BFLOAT16 = ("v100-32g", "t4")


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen."""

    value: Value
    reason: str
    """In English, as it stands in the lock."""


@dataclass(frozen=True)
class Settings:
    """Everything that training is told."""

    choices: Mapping[str, Choice]
    """Every knob, in the order of the table."""
    warnings: tuple[Problem, ...] = ()
    """What is allowed, and probably not meant."""

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


def resolve(
    recipe: Recipe,
    overrides: Mapping[str, Value],
    model: ModelFacts,
    layers: Collection[str],
    longest: Callable[[], int],
    machine: Machine,
) -> Settings:
    """Give every knob its value: from `--set`, the recipe, what model, data and machine ask for, or the default.

    `layers` are the names of the model's layers that have weights. `longest` counts the tokens of the longest row; it
    reads all data, and is asked only where that decides something.

    Raises FinetuiError (exit 3) for values that cannot work together.
    """
    asked = {
        **{
            name: Choice(value, t("recipes.reason-recipe", "en", recipe=recipe.name))
            for name, value in recipe.values.items()
        },
        **{name: Choice(value, t("recipes.reason-set", "en")) for name, value in overrides.items()},
    }
    choices: dict[str, Choice] = {}
    for name, knob in knobs().items():
        if name in asked:
            choices[name] = asked[name]
        elif knob.default is not None and knob.applies(recipe.stage, recipe.method):
            choices[name] = Choice(knob.default, t("recipes.reason-default", "en"))
    if "max_length" not in choices:
        choices["max_length"] = _max_length(model, longest())
    choices.setdefault("dtype", _dtype(machine))
    choices.setdefault("omp_num_threads", _threads(machine, choices["nproc_per_node"].value))
    if choices["rows_per_step"].value == 0:
        choices["rows_per_step"] = _rows_per_step(choices)
    ordered = {name: choices[name] for name in knobs() if name in choices}
    settings = Settings(ordered)
    problems = _contradictions(settings, model, layers)
    if problems:
        raise FinetuiError(problems)
    return Settings(ordered, tuple(_doubts(settings)))


def _max_length(model: ModelFacts, longest: int) -> Choice:
    limit = model.max_position_embeddings
    if limit is not None and longest > limit:
        return Choice(limit, t("recipes.reason-length-model", "en", limit=limit, longest=longest))
    return Choice(max(8, longest), t("recipes.reason-length-data", "en", longest=longest))


def _rows_per_step(choices: Mapping[str, Choice]) -> Choice:
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "nproc_per_node")
    micro, accumulation, processes = (choices[name].value for name in names)
    assert isinstance(micro, int)
    assert isinstance(accumulation, int)
    assert isinstance(processes, int)
    facts = {"micro": micro, "accumulation": accumulation, "processes": processes}
    return Choice(micro * accumulation * processes, t("recipes.reason-rows", "en", **facts))


def _dtype(machine: Machine) -> Choice:
    if any(gpu.kind in _WITHOUT_BFLOAT16 for gpu in machine.gpus):
        return Choice("float16", t("recipes.reason-dtype-old-gpu", "en"))
    if machine.gpus:
        return Choice("bfloat16", t("recipes.reason-dtype-gpu", "en"))
    return Choice("float32", t("recipes.reason-dtype-cpu", "en"))


def _threads(machine: Machine, processes: Value) -> Choice:
    assert isinstance(processes, int)
    reason = t("recipes.reason-threads", "en", cores=machine.physical_cores, processes=processes)
    return Choice(max(1, machine.physical_cores // processes), reason)


def _contradictions(settings: Settings, model: ModelFacts, layers: Collection[str]) -> list[Problem]:
    problems = [_no_layer(name, layers) for name in _missing_targets(settings["target_modules"], layers)]
    limit = model.max_position_embeddings
    if limit is not None and settings.number("max_length") > limit:
        facts = {"value": settings.number("max_length"), "limit": limit, "model": model.name}
        problems.append(Problem("recipes.too-long-for-model", facts))
    return problems


def _missing_targets(targets: Value, layers: Collection[str]) -> list[str]:
    """The targets that are no layer's name or its end; peft passes over them in silence where another one fits."""
    if not isinstance(targets, list):  # all-linear, or one expression over whole names, as peft reads it
        try:
            fits = targets == "all-linear" or any(re.fullmatch(str(targets), layer) for layer in layers)
        except re.error:
            fits = False
        return [] if fits else [str(targets)]
    return [name for name in targets if not any(layer == name or layer.endswith(f".{name}") for layer in layers)]


def _no_layer(name: str, layers: Collection[str]) -> Problem:
    ends = sorted({layer.rpartition(".")[2] for layer in layers})
    return Problem("recipes.no-layer", {"name": name, "layers": ", ".join(ends)})


def _doubts(settings: Settings) -> list[Problem]:
    rate = settings["learning_rate"]
    if isinstance(rate, float) and rate < 2e-5:
        return [Problem("recipes.low-rate", {"value": f"{rate:g}"})]
    return []
