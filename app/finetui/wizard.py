"""The choices so far, and what they become: `Draft` → `plan` → `lock`. Commands and app are two faces of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from finetui.bundles.lock import Locked, write_bundle
from finetui.bundles.needs import needed_packages
from finetui.bundles.plan import LockPlan, bundle_name
from finetui.core import home, jobs
from finetui.core.encode import Template, load_template, load_tokenizer
from finetui.core.errors import MACHINE, FinetuiError, Problem, ShellWords
from finetui.core.figures import gib
from finetui.core.jobs import Progress
from finetui.core.knobs import Value, locked_under, parse_assignments
from finetui.data.choose.choosing import Choosing
from finetui.data.choose.chosen import ChosenRecords, open_datasets
from finetui.data.choose.tokens import token_counter
from finetui.data.results import Inspection
from finetui.data.sources.find import find_files
from finetui.draft import Draft
from finetui.hardware.disk import read_disk
from finetui.hardware.kind import hardware_kind, torch_build
from finetui.hardware.planned import parse_planned, planned_machine
from finetui.hardware.probe import Machine, probe, usable_cores
from finetui.models.find import find_model
from finetui.models.identify import TOKENIZERS, identify
from finetui.models.outline import Outline, outline
from finetui.recipes.recipe import Recipe, load_recipe
from finetui.recipes.resolve import Plan, Request, Settings, Tokens, resolve
from finetui.recipes.resolve.measure import Remembered, estimated, measured
from finetui.recipes.resolve.packages import ASKED, installed
from finetui.recipes.stages import read_for, serves

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Draft", "lock", "plan"]

T = TypeVar("T")
_TRAINED_STAGES = ("sft", "pt")
_TOLD_BY_BUNDLE = ("rules.cutoff-loses",)
"""Warnings of a plan that a bundle gives with each row counted."""
_TEMPLATES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.*",
)
"""Files beside the tokenizer that decide what a row comes to."""


def plan(draft: Draft, on_progress: Progress | None = None) -> Plan:
    """Resolve a draft without writing anything; data may be missing, and of the model all but its configuration.

    Raises FinetuiError with all that is wrong with recipe, settings, data, model and interpreter at once.
    """
    wrong = _Wrong()
    recipe, overrides = _asked(wrong, draft)
    machine = wrong.attempt(lambda: _machine(draft))
    model = wrong.attempt(lambda: outline(find_model(draft.model, on_progress)))
    packages = wrong.attempt(lambda: installed(draft.python))
    tokens = None
    asked = {**recipe.values, **overrides} if recipe and overrides is not None else {}
    choosing = wrong.attempt(lambda: Choosing.of(asked))
    if draft.data and recipe and model and choosing:
        found = wrong.attempt(lambda: _tokens(draft, model, asked, on_progress))
        stage, tokens = found or (recipe.stage, None)
        if not serves(stage, recipe.stage):
            wrong.problems.append(_other_stage(recipe, stage, draft))
    wrong.judge()
    assert recipe is not None
    assert overrides is not None
    assert machine is not None
    assert model is not None
    assert packages is not None
    return resolve(_request(draft, recipe, overrides, model, machine, tokens, packages))


def lock(draft: Draft, on_progress: Progress | None = None) -> Locked:
    """Resolve a draft and write its bundle.

    Raises FinetuiError with all that is wrong with recipe, settings, data, model and interpreter at once.
    """
    wrong = _Wrong()
    recipe, overrides = _asked(wrong, draft)
    inputs = wrong.attempt(lambda: open_datasets(draft.data, draft.reading, draft.evaluation))
    machine = wrong.attempt(lambda: _machine(draft))
    folder = wrong.attempt(lambda: find_model(draft.model, on_progress))
    model = wrong.attempt(lambda: identify(folder, on_progress)) if folder else None
    drawn = wrong.attempt(lambda: outline(model.folder)) if model else None
    environment = wrong.attempt(lambda: jobs.run("environment", {"optional": ASKED}, python=draft.python))
    encoding = wrong.attempt(lambda: _encoding(model.folder, draft.template)) if model else None
    asked = {**recipe.values, **overrides} if recipe and overrides is not None else {}
    choosing = wrong.attempt(lambda: Choosing.of(asked))
    if draft.out.exists():
        wrong.problems.append(Problem("bundles.exists", {}, str(draft.out)))
    if recipe and inputs and not serves(stage := Inspection(inputs[0]).stage, recipe.stage):
        wrong.problems.append(_other_stage(recipe, stage, draft))
    if recipe and recipe.stage not in _TRAINED_STAGES:
        wrong.problems.append(Problem("rules.no-trainer", {"stage": recipe.stage}))
    wrong.judge()
    assert recipe is not None
    assert overrides is not None
    assert inputs is not None
    assert machine is not None
    assert choosing is not None
    assert model is not None
    assert drawn is not None
    assert encoding is not None
    assert environment is not None
    tokenizer, template = encoding
    count = token_counter(tokenizer, template)
    records = ChosenRecords(inputs, choosing, count, accept_rejected=draft.accept_rejected)
    tokens = measured(records, tokenizer, template, machine.cores, on_progress)
    plan = resolve(_request(draft, recipe, overrides, drawn, machine, tokens, environment["optional"]))
    settings = plan.settings
    _refuse(plan, draft)
    more = needed_packages({name: choice.value for name, choice in settings.choices.items()})
    there = [name for name in more if draft.gpu is not None and name not in environment["optional"]]
    if here := [name for name in more if name not in there]:
        environment = jobs.run("environment", {"more": here}, python=draft.python)
    bundle = LockPlan(
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
        predicted={
            "peak_bytes": plan.prediction.total_bytes,
            "band": list(plan.prediction.band),
            "run_bytes": plan.settled.saving.run_bytes,
        },
        accept_rejected=draft.accept_rejected,
    )
    parts = ((chosen.part, chosen.record.record) for chosen in records)
    locked = write_bundle(draft.out, bundle, parts, tokenizer, on_progress=on_progress, processes=machine.cores)
    warnings = [warning for warning in plan.warnings if warning.code not in _TOLD_BY_BUNDLE]
    warnings += [Problem("plan.install-there", {"package": name, "gpu": draft.gpu}) for name in there]
    return Locked(locked.path, locked.id, (*warnings, *records.warnings(), *locked.warnings))


def _asked(wrong: _Wrong, draft: Draft) -> tuple[Recipe | None, dict[str, Value] | None]:
    """The recipe, and what `--set` says over it."""
    recipe = wrong.attempt(lambda: load_recipe(draft.recipe))
    return recipe, wrong.attempt(lambda: parse_assignments(draft.assignments))


def _machine(draft: Draft) -> Machine:
    """This machine, or with the GPUs of `--gpu`."""
    return probe() if draft.gpu is None else planned_machine(*parse_planned(draft.gpu), probe())


def _request(
    draft: Draft,
    recipe: Recipe,
    overrides: Mapping[str, Value],
    model: Outline,
    machine: Machine,
    tokens: Tokens | None,
    packages: Mapping[str, str],
) -> Request:
    return Request(
        recipe=recipe,
        overrides=overrides,
        model=model,
        machine=machine,
        tokens=tokens,
        packages=packages,
        elsewhere=draft.gpu is not None,
        free_disk_bytes=None if draft.gpu is not None else read_disk(home.home(), ()).free_bytes,
        price=draft.price,
    )


def _tokens(
    draft: Draft, model: Outline, asked: Mapping[str, Any], on_progress: Progress | None
) -> tuple[str | None, Tokens]:
    """The stage of the data and the lengths of its chosen rows, remembered from an earlier plan or measured."""
    choosing = Choosing.of(asked)
    files, _ = find_files(draft.data, draft.reading, draft.evaluation)
    seen = [found.file.path for found in files] + [path for path in model.folder.glob("*") if _decides_tokens(path)]
    template = Path(draft.template or "").expanduser()
    seen += [template] if template.is_file() else []
    facts = [choosing.asked(), choosing.seed, vars(draft.reading), draft.data, draft.evaluation, draft.template]
    remembered = Remembered({"facts": facts, "vocabulary": model.shape.vocab}, seen)
    if (known := remembered.get()) is not None:
        return known
    inputs = open_datasets(draft.data, draft.reading, draft.evaluation)
    stage = Inspection(inputs[0]).stage
    if model.has_tokenizer:
        tokenizer, chosen = _encoding(model.folder, draft.template)
        records = ChosenRecords(inputs, choosing, token_counter(tokenizer, chosen), accept_rejected=True)
        tokens = measured(records, tokenizer, chosen, usable_cores(Path("/")), on_progress)
    else:
        tokens = estimated(ChosenRecords(inputs, choosing, accept_rejected=True), model.shape.vocab)
    remembered.put(stage, tokens)
    return stage, tokens


def _decides_tokens(path: Path) -> bool:
    return any(path.match(pattern) for pattern in (*TOKENIZERS, *_TEMPLATES))


def _refuse(plan: Plan, draft: Draft) -> None:
    """Raise FinetuiError where the plan has no trainer, or (exit 5) does not fit and that was not accepted."""
    if plan.untrained:
        raise FinetuiError(plan.untrained)
    if not plan.fits and not draft.accept_memory:
        ways = [way.text() for way in plan.ways_out]
        facts = {"needed": gib(plan.prediction.band[1]), "free": gib(plan.free_bytes), "plan": draft.command()}
        device = plan.settled.frame.device.name
        raise FinetuiError(Problem("plan.too-large", {**facts, "device": device, "way": (ways or ["–"])[0]}), MACHINE)


def _encoding(folder: Path, choice: str | None) -> tuple[Tokenizer, Template]:
    tokenizer = load_tokenizer(folder)
    return tokenizer, load_template(folder, tokenizer, choice)


def _other_stage(recipe: Recipe, stage: str | None, draft: Draft) -> Problem:
    """The refusal of data that serves another stage than the recipe trains."""
    facts = {"stage": stage or "–", "recipe": recipe.name, "wanted": read_for(recipe.stage)}
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
