"""`finetui inspect` and `convert`: what data is, what is wrong with it, and what it becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetui.cli.choose_options import Choices, choose_options, token_counter_of
from finetui.cli.chosen import add_parts
from finetui.cli.common import Output, PathWord, command, option
from finetui.cli.data_options import data_argument, reading_options
from finetui.cli.describe import describe
from finetui.cli.preview import preview_command
from finetui.cli.reading import reading_shown
from finetui.core.errors import BAD_INPUT, DONE, render, render_warnings

if TYPE_CHECKING:
    from finetui.data import Reading

__all__ = ["convert_command", "inspect_command", "preview_command"]


@command("inspect")
@data_argument
@option("--other-tools", is_flag=True, help_code="elsewhere.opt-other-tools")
@option(
    "--near-duplicates",
    "similarity",
    type=click.FloatRange(0.5, 1),
    is_flag=False,
    flag_value=0.8,
    metavar="[SHARE]",
    help_code="reading.opt-near-duplicates",
)
@reading_options
def inspect_command(
    output: Output, paths: tuple[str, ...], other_tools: bool, similarity: float | None, reading: Reading
) -> int:
    """Say what the data is, why, and what is wrong with it."""
    from finetui.cli.elsewhere import show
    from finetui.data import inspect
    from finetui.data.elsewhere import compare

    with reading_shown(output) as on_progress:
        inspection = inspect(paths, reading, similarity=similarity, on_progress=on_progress)
    comparisons = compare(inspection.input.files) if other_tools else []
    told = {"other_tools": [comparison.to_json() for comparison in comparisons]} if other_tools else {}
    output.result({**inspection.to_json(), **told})
    if not output.json:
        output.console().print(describe(inspection))
        show(comparisons, output.console())
    return DONE


@command("convert")
@data_argument
@option("--out", required=True, type=PathWord(), metavar="DIR", help_code="data.opt-out")
@option("--accept-rejected", is_flag=True, help_code="data.opt-accept-rejected")
@option("--model", metavar="PATH|HUB_ID|demo", help_code="choose.opt-model")
@option("--template", metavar="NAME|FILE", help_code="choose.opt-template")
@choose_options(seed=True)
@reading_options
def convert_command(
    output: Output,
    paths: tuple[str, ...],
    out: Path,
    accept_rejected: bool,
    model: str | None,
    template: str | None,
    choices: Choices,
    reading: Reading,
) -> int:
    """Write the data as canonical records, each part in its own file, and the rows that were set aside."""
    from finetui.data import convert
    from finetui.data.choose.choosing import Choosing

    choosing = Choosing.of(choices.values())
    with reading_shown(output) as on_progress:
        conversion = convert(
            paths,
            out,
            replace(reading, fill=choices.fill),
            choosing,
            evaluation=choices.evaluation,
            count=token_counter_of(model, template) if choosing.counts_tokens else None,
            accept_rejected=accept_rejected,
            on_progress=on_progress,
        )
    output.result(conversion.to_json())
    if not output.json:
        table = describe(conversion.inspection)
        add_parts(table, conversion)
        output.console().print(table)
    if conversion.warnings:
        output.note(render_warnings(conversion.warnings))
    if refused := conversion.refusals():
        output.note(render(refused))
        return BAD_INPUT
    return DONE
