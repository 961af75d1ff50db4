"""`finetui doctor`: this machine, what is missing, and the command that mends it."""

from __future__ import annotations

from finetui.cli.common import Output, command, option
from finetui.core.errors import MACHINE, USAGE, FinetuiError, Problem
from finetui.core.knobs import nearest
from finetui.core.messages import t


@command("doctor")
@option("--for", "names", multiple=True, metavar="PURPOSE", help_code="doctor.opt-for")
@option("--model", metavar="MODEL", help_code="doctor.opt-model")
@option("--recipe", metavar="NAME|FILE", help_code="doctor.opt-recipe")
@option("--online", is_flag=True, help_code="doctor.opt-online")
@option("--python", metavar="PATH", help_code="cli.opt-python")
def doctor_command(
    output: Output, names: tuple[str, ...], model: str | None, recipe: str | None, online: bool, python: str | None
) -> int:
    """Look at the machine; exit 5 where something is missing that was asked for."""
    from finetui.cli.doctor_view import show
    from finetui.doctor.examine import examine
    from finetui.doctor.purpose import purpose_of, purposes
    from finetui.doctor.situation import gather
    from finetui.recipes.recipe import load_recipe

    for name in names:
        if name not in purposes():
            facts = {"name": name, "names": ", ".join(purposes()), "near": nearest(name, purposes()) or purposes()[0]}
            raise FinetuiError(Problem("doctor.no-such-purpose", facts), USAGE)
    purpose = purpose_of(names, None if recipe is None else load_recipe(recipe))
    if purpose.packages:
        output.note(t("doctor.looking"))
    report = examine(gather(purpose, python=python, model=model, online=online))
    output.result(report.to_json())
    if not output.json:
        show(output, report)
    return 0 if report.ok else MACHINE
