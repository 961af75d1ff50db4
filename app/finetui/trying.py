"""A plan beside other witnesses than its formula: a trace of one step, and two real steps of the trainer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from finetui.bundles.launch import variables
from finetui.bundles.schema import VERSION
from finetui.core import jobs
from finetui.core.errors import BAD_INPUT, MACHINE, FinetuiError, Problem
from finetui.core.jobs import Progress
from finetui.core.knobs import locked_under
from finetui.draft import Draft
from finetui.hardware.host import read_host
from finetui.hardware.memory.traced import trace
from finetui.hardware.memory.tried import Key, Tried, keep, kept
from finetui.recipes.resolve import Plan
from finetui.recipes.resolve.packages import TORCH

_STEPS = 2
_TRAINED_STAGES = ("sft", "pt")
_TRAINED_PARALLELISM = ("single", "ddp")
_INSTEAD: dict[str, Any] = {"max_steps": _STEPS, "save_steps": 0, "eval_steps": 0, "load_best_model_at_end": False}
"""Settings of a trial that are not the plan's: nothing is saved, and evaluation comes once, at the end."""
_TOUCHING = ("rows_per_step", "gradient_accumulation_steps", "bnb_4bit_quant_storage", "omp_num_threads", "parallelism")
"""Settings beside the job that a step's memory or time depends on."""


def checked(
    plan: Plan, draft: Draft, *, traces: bool = False, tries: bool = False, on_progress: Progress | None = None
) -> Plan:
    """The plan with a trace where it `traces`, and with what two steps took: now where it `tries`, else earlier.

    Raises what `trace` and `attempt` raise.
    """
    if traces:
        settled = plan.settled
        job, prediction, kind = settled.job, settled.prediction, settled.frame.device.kind
        accumulates = plan.settings.number("gradient_accumulation_steps") > 1
        plan = replace(
            plan,
            trace=trace(
                settled.request.model.config,
                job,
                prediction,
                kind,
                accumulates=accumulates,
                python=draft.python,
                on_progress=on_progress,
            ),
        )
    return replace(plan, tried=attempt(plan, draft, on_progress) if tries else kept(_key(plan)))


def attempt(plan: Plan, draft: Draft, on_progress: Progress | None = None) -> Tried:
    """Take two steps as planned, and keep what they come to; memory that runs out is an answer too.

    Raises FinetuiError: exit 3 where the model's weights are not here or the plan has no trainer, 5 where it is for
    another machine or the interpreter lacks the libraries, 1 where the steps fail for another reason than memory.
    """
    _refuse(plan, draft)
    rows, free = _rows(plan), _free_bytes(plan)
    found = jobs.run("trial", _request(plan, rows, free), python=draft.python, on_progress=on_progress)
    seconds = found.get("seconds")
    tried = Tried(
        fits=found["outcome"] == "measured",
        peak_bytes=found.get("peak_bytes"),
        predicted_bytes=plan.settled.prediction.total_bytes,
        resident=plan.settled.frame.device.kind is None,
        seconds_per_step=seconds[-1] if seconds else None,
        rows=len(rows),
        tokens=max(tokens for tokens, _ in rows),
        from_data=plan.tokens is not None,
        free_bytes=free,
        device=plan.machine.gpus[0].name if plan.machine.gpus else plan.machine.cpu_model,
        detail=found.get("detail", ""),
        when=time.time(),
    )
    keep(_key(plan), tried)
    return tried


def _refuse(plan: Plan, draft: Draft) -> None:
    model, words = plan.settled.request.model, draft.command()
    if plan.settled.request.elsewhere:
        raise FinetuiError(Problem("tried.elsewhere", {"gpu": draft.gpu or "–"}), MACHINE)
    problems = []
    for what, trained in (
        (plan.settled.request.stage, _TRAINED_STAGES),
        (str(plan.settings["parallelism"]), _TRAINED_PARALLELISM),
    ):
        if what not in trained:
            problems.append(Problem("tried.no-trainer", {"what": what, "command": words}))
    if not model.has_weights:
        problems.append(Problem("tried.no-weights", {"folder": str(model.folder), "model": draft.model}))
    if problems:
        raise FinetuiError(problems, BAD_INPUT)


def _key(plan: Plan) -> Key:
    request = plan.settled.request
    return Key(
        config=request.model.config,
        job=plan.job,
        settings={name: plan.settings[name] for name in _TOUCHING if name in plan.settings.choices},
        gpu_kind=plan.settled.frame.device.kind,
        torch=request.packages.get(TORCH, ""),
    )


def _request(plan: Plan, rows: list[tuple[int, int]], free: int) -> dict[str, Any]:
    model, gpus = plan.settled.request.model, plan.machine.gpus
    world = plan.settings.world_size
    return {
        "model": str(model.folder.absolute()),
        "lock": _lock(plan),
        "rows": rows,
        "evaluation": _evaluation(plan),
        "vocabulary": model.shape.vocab,
        "environment": variables(plan.settings.number("omp_num_threads")),
        "limit_bytes": None if gpus else free // world,
        "held_bytes": [gpu.total_bytes - gpu.free_bytes for gpu in gpus],
    }


def _lock(plan: Plan) -> dict[str, Any]:
    """What the trainer reads of a lock; no weights are hashed for it."""
    model, settings = plan.settled.request.model, plan.settings
    names = [name for name in locked_under("training") if name in settings.choices]
    values = {name: settings[name] for name in names}
    values |= {name: value for name, value in _INSTEAD.items() if name in values}
    return {
        "version": VERSION,
        "stage": plan.settled.request.stage,
        "method": plan.settled.request.method,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "vocab_size": model.config.get("vocab_size"),
            "files": {},
        },
        "data": {"train": {"digest": ""}, "eval": None},
        "training": {name: {"value": value, "reason": ""} for name, value in values.items()},
        "world_size": settings.world_size,
        "rows_per_step": settings.rows_per_step,
        "steps": _STEPS,
    }


def _rows(plan: Plan) -> list[tuple[int, int]]:
    """Tokens and trained tokens of one step's rows: those of the data's longest, the longest with the most trained.

    That is the batch which the prediction is of. Without data every row is of `max_length`, and all of it is trained.
    """
    count, most, tokens = plan.settings.rows_per_step, plan.settings.number("max_length"), plan.tokens
    if tokens is None or not tokens.train.rows:
        return [(most, most - 1)] * count
    return list(_longest(tokens.train.tokens, tokens.train.trained, count, most))


def _evaluation(plan: Plan) -> list[tuple[int, int]]:
    """The same of one evaluation pass; none where nothing is evaluated."""
    count, tokens = plan.settled.eval_batch * plan.settings.world_size, plan.tokens
    most = plan.settings.number("max_length")
    if tokens is None or not tokens.held.rows:
        return [(most, most - 1)] * count
    return list(_longest(tokens.held.tokens, tokens.held.trained, count, most))


def _longest(lengths: Counter[int], trained: Counter[int], count: int, most: int) -> Iterator[tuple[int, int]]:
    for length, learned in zip(_greatest(lengths, count), _greatest(trained, count), strict=False):
        tokens = max(2, min(length, most))
        yield tokens, max(1, min(learned, tokens - 1))


def _greatest(counts: Counter[int], count: int) -> Iterator[int]:
    left = count
    for value in sorted(counts, reverse=True):
        yield from [value] * min(counts[value], left)
        left -= min(counts[value], left)


def _free_bytes(plan: Plan) -> int:
    return plan.free_bytes if plan.machine.gpus else min(plan.free_bytes, read_host().ram_free_bytes)
