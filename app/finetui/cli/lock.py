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
    accept_rejected: bool,
    choices: Choices,
    reading: Reading,
) -> None:
    """Write the bundle and say what it became."""
    from finetui.cli.stages import Stages
    from finetui.core.errors import render_warnings
    from finetui.core.messages import t
    from finetui.wizard import Draft, lock

    draft = Draft(
        data,
        model,
        recipe,
        out,
        (*assignments, *choices.assignments),
        template,
        python,
        accept_rejected,
        replace(reading, fill=choices.fill),
        choices.evaluation,
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
