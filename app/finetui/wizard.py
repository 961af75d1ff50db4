"""The choices so far, and what they become: `Draft` → `resolve` → `lock`. Commands and app are two faces of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from finetui.bundles.lock import Locked, write_bundle
from finetui.bundles.plan import LockPlan, bundle_name
from finetui.core import jobs
from finetui.core.encode import Template, load_template, load_tokenizer
from finetui.core.errors import FinetuiError, Problem, ShellWords
from finetui.core.jobs import Progress
from finetui.core.knobs import locked_under, parse_assignments
from finetui.data.choose.choosing import Choosing
from finetui.data.choose.chosen import ChosenRecords, open_datasets
from finetui.data.choose.tokens import token_counter
from finetui.data.profile.profiles import profile
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.results import Inspection
from finetui.hardware.kind import hardware_kind, torch_build
from finetui.hardware.probe import Machine, probe
from finetui.models.find import find_model
from finetui.models.identify import identify
from finetui.models.weights import read_weights
from finetui.recipes.recipe import Recipe, load_recipe
from finetui.recipes.resolve import Settings, resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Draft:
    """What a person has chosen."""

    data: tuple[str, ...]
    """Files or folders of chat data, raw or converted."""
    model: str
    """A folder, the name of one under models/, or `demo`."""
    recipe: str
    """The name of a recipe, or a file."""
    out: Path
    """The bundle's folder, which must not exist."""
    assignments: tuple[str, ...] = ()
    """`knob=value`, over the recipe."""
    template: str | None = None
    """Chat template for a base model without one: a built-in name or a file."""
    python: str | None = None
    """The interpreter that will train."""
    accept_rejected: bool = False
    """Go on although more than 1 % of the rows are rejected."""
    reading: Reading = AS_DETECTED
    """How the data is to be read, where that is not left to the detection."""
    evaluation: tuple[str, ...] = ()
    """Data that is evaluated and never trained."""


def lock(draft: Draft, on_progress: Progress | None = None) -> Locked:
    """Resolve a draft and write its bundle.

    Raises FinetuiError with all that is wrong with recipe, settings, data, model and interpreter at once.
    """
    wrong = _Wrong()
    recipe = wrong.attempt(lambda: load_recipe(draft.recipe))
    overrides = wrong.attempt(lambda: parse_assignments(draft.assignments))
    inputs = wrong.attempt(lambda: open_datasets(draft.data, draft.reading, draft.evaluation))
    model = wrong.attempt(lambda: identify(find_model(draft.model, on_progress)))
    environment = wrong.attempt(lambda: jobs.run("environment", {}, python=draft.python))
    encoding = wrong.attempt(lambda: _encoding(model.folder, draft.template)) if model else None
    asked = {**recipe.values, **overrides} if recipe and overrides is not None else {}
    choosing = wrong.attempt(lambda: Choosing.of(asked))
    if draft.out.exists():
        wrong.problems.append(Problem("bundles.exists", {}, str(draft.out)))
    if recipe and inputs and (stage := Inspection(inputs[0]).stage) != recipe.stage:
        wrong.problems.append(_other_stage(recipe, stage, draft))
    wrong.judge()
    assert recipe is not None
    assert overrides is not None
    assert inputs is not None
    assert choosing is not None
    assert model is not None
    assert encoding is not None
    assert environment is not None
    tokenizer, template = encoding
    count = token_counter(tokenizer, template)
    records = ChosenRecords(inputs, choosing, count, accept_rejected=draft.accept_rejected)
    machine = probe()
    layers = [name.removesuffix(".weight") for name in read_weights(model.folder, []).names if name.endswith(".weight")]

    def longest() -> int:
        rows = (chosen.record for chosen in records)
        return profile(rows, tokenizer, template, processes=machine.cores, on_progress=on_progress).longest

    settings = resolve(recipe, overrides, model, layers, longest, machine)
    plan = LockPlan(
        name=bundle_name(draft.out),
        recipe_text=recipe.text,
        stage=recipe.stage,
        method=recipe.method,
        model=model,
        template=template,
        sources=lambda: [source.to_json() for source in records.sources],
        chosen=lambda: _with_reasons(records.report(), settings),
        settings={name: settings.locked(name) for name in locked_under("training") if name in settings.choices},
        rows_per_step=settings.rows_per_step,
        world_size=settings.world_size,
        steps=settings.steps,
        environment=environment,
        hardware=_hardware(machine, settings, environment),
        threads=settings.number("omp_num_threads"),
        accept_rejected=draft.accept_rejected,
    )
    parts = ((chosen.part, chosen.record.record) for chosen in records)
    locked = write_bundle(draft.out, plan, parts, tokenizer, on_progress=on_progress, processes=machine.cores)
    return Locked(locked.path, locked.id, (*settings.warnings, *records.warnings(), *locked.warnings))


def _encoding(folder: Path, choice: str | None) -> tuple[Tokenizer, Template]:
    tokenizer = load_tokenizer(folder)
    return tokenizer, load_template(folder, tokenizer, choice)


def _other_stage(recipe: Recipe, stage: str | None, draft: Draft) -> Problem:
    """The refusal of data that serves another stage than the recipe trains."""
    facts = {"stage": stage or "–", "recipe": recipe.name, "wanted": recipe.stage}
    return Problem("recipes.other-stage", {**facts, "data": ShellWords(shlex.join(draft.data))}, draft.data[0])


def _with_reasons(chosen: Mapping[str, Any] | None, settings: Settings) -> Mapping[str, Any] | None:
    """How rows were chosen, each setting of it with its reason."""
    if chosen is None:
        return None
    asked = {name: dict(zip(("value", "reason"), settings.locked(name), strict=True)) for name in chosen["asked"]}
    return {**chosen, "asked": asked}


def _hardware(machine: Machine, settings: Settings, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The hardware kind that the lock is resolved for: as many GPUs as there are processes, else the CPU."""
    gpus = [gpu.index for gpu in machine.gpus[: settings.world_size]]
    return hardware_kind(machine, settings.number("omp_num_threads"), torch_build(environment["torch"]), gpus)


class _Wrong:
    """Problems of independent steps, collected so that one look shows them all."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.exit_code: int | None = None

    def attempt(self, step: Callable[[], T]) -> T | None:
        """The step's result, or None after keeping its problems."""
        try:
            return step()
        except FinetuiError as error:
            self.problems += error.problems
            self.exit_code = self.exit_code or error.exit_code
            return None

    def judge(self) -> None:
        """Raise FinetuiError where any step failed, with the exit code of the first."""
        if self.problems:
            raise FinetuiError(self.problems, *([self.exit_code] if self.exit_code else []))
