"""`finetui lock`: write a bundle."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.cli.choose_options import Choices, choose_options
from finetui.cli.common import Output, PathWord, command, option
from finetui.cli.data_options import reading_options

if TYPE_CHECKING:
    from finetui.data import Reading


@command("lock")
@option("--model", required=True, help_code="cli.opt-model")
@option("--data", multiple=True, required=True, help_code="cli.opt-data")
@option("--recipe", required=True, help_code="cli.opt-recipe")
@option("--set", "assignments", multiple=True, metavar="KNOB=VALUE", help_code="cli.opt-set")
@option("--out", required=True, type=PathWord(), help_code="cli.opt-out")
@option("--template", help_code="cli.opt-template")
@option("--python", help_code="cli.opt-python")
@option("--gpu", metavar="KIND[:N]", help_code="plan.opt-gpu")
@option("--accept-memory", is_flag=True, help_code="plan.opt-accept-memory")
@option("--accept-rejected", is_flag=True, help_code="cli.opt-accept-rejected")
@choose_options()
@reading_options
def lock_command(
    output: Output,
    model: str,
    data: tuple[str, ...],
    recipe: str,
    assignments: tuple[str, ...],
    out: Path,
    template: str | None,
    python: str | None,
    gpu: str | None,
    accept_memory: bool,
    accept_rejected: bool,
    choices: Choices,
    reading: Reading,
) -> None:
    """Write the bundle and say what it became."""
    from finetui.cli.stages import Stages
    from finetui.core.errors import render_warnings
    from finetui.core.messages import t
    from finetui.draft import Draft
    from finetui.wizard import lock

    draft = Draft(
        data=data,
        model=model,
        recipe=recipe,
        out=out,
        assignments=(*assignments, *choices.assignments),
        template=template,
        python=python,
        accept_rejected=accept_rejected,
        reading=replace(reading, fill=choices.fill),
        evaluation=choices.evaluation,
        gpu=gpu,
        accept_memory=accept_memory,
    )
    with Stages(output) as stages:
        locked = lock(draft, stages)
    if locked.warnings:
        output.note(render_warnings(locked.warnings))
    output.note(t("cli.locked", bundle=str(locked.path), id=locked.id))
    again = ["--model", model] if Path(model).expanduser().is_dir() else []  # else it is found by its name
    again += ["--python", python] if python else []
    output.note(t("errors.next", command=shlex.join(["finetui", "run", str(locked.path), *again])))
    output.result(
        {"bundle": str(locked.path), "id": locked.id, "warnings": [problem.to_json() for problem in locked.warnings]}
    )
