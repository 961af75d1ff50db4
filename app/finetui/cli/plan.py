"""`finetui plan`: whether a training fits, with which settings, and why; before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from finetui.cli.choose_options import Choices, choose_options
from finetui.cli.common import Amount, Output, command, option
from finetui.cli.data_options import DataWord, reading_options
from finetui.core.errors import MACHINE, Problem, render

if TYPE_CHECKING:
    from finetui.data import Reading


@command("plan")
@option("--model", required=True, help_code="cli.opt-model")
@option("--data", type=DataWord(), multiple=True, help_code="cli.opt-data")
@option("--recipe", required=True, help_code="cli.opt-recipe")
@option("--set", "assignments", multiple=True, metavar="KNOB=VALUE", help_code="cli.opt-set")
@option("--gpu", metavar="KIND[:N]", help_code="plan.opt-gpu")
@option("--price", type=Amount(), metavar="PER_HOUR", help_code="plan.opt-price")
@option("--template", help_code="cli.opt-template")
@option("--python", help_code="cli.opt-python")
@option("--trace", "traces", is_flag=True, help_code="tried.opt-trace")
@option("--try", "tries", is_flag=True, help_code="tried.opt-try")
@choose_options()
@reading_options
def plan_command(
    output: Output,
    model: str,
    data: tuple[str, ...],
    recipe: str,
    assignments: tuple[str, ...],
    gpu: str | None,
    price: float | None,
    template: str | None,
    python: str | None,
    traces: bool,
    tries: bool,
    choices: Choices,
    reading: Reading,
) -> int:
    """Plan, print it, and exit 5 where it does not fit, be it by prediction or because memory ran out in a trial."""
    from finetui.cli.plan_view import show
    from finetui.cli.stages import Stages
    from finetui.core.figures import gib
    from finetui.core.messages import t
    from finetui.draft import Draft
    from finetui.trying import checked
    from finetui.wizard import plan

    draft = Draft(
        data=data,
        model=model,
        recipe=recipe,
        assignments=(*assignments, *choices.assignments),
        template=template,
        python=python,
        reading=replace(reading, fill=choices.fill),
        evaluation=choices.evaluation,
        gpu=gpu,
        price=price,
    )
    with Stages(output) as stages:
        found = checked(plan(draft, stages), draft, traces=traces, tries=tries, on_progress=stages)
    commands = [{"command": str(draft.taking(way).command())} for way in found.ways_out]
    contract = found.to_json()
    ways = [{**way, **command} for way, command in zip(contract["ways_out"], commands, strict=True)]
    output.result({**contract, "ways_out": ways})
    if not output.json:
        show(output, found, draft)
        if found.fits and data and not found.untrained:
            output.note("\n" + t("errors.next", command=draft.next()))
    if tries and found.tried is not None and not found.tried.fits:
        facts = {"free": gib(found.tried.free_bytes), "predicted": gib(found.tried.predicted_bytes)}
        if not output.json:
            output.note(render([Problem("tried.ran-out", {**facts, "command": draft.command()})]))
        return MACHINE
    return 0 if found.fits else MACHINE
