"""`finetui inspect` and `convert`: what data is, what is wrong with it, and what it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finetui.cli.common import Output, PathWord, command, option
from finetui.cli.data_options import data_argument, reading_options
from finetui.cli.describe import add_fact, describe
from finetui.cli.preview import preview_command
from finetui.core.errors import BAD_INPUT, DONE, render
from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from finetui.data import Reading

__all__ = ["convert_command", "inspect_command", "preview_command"]


@command("inspect")
@data_argument
@option("--other-tools", is_flag=True, help_code="elsewhere.opt-other-tools")
@reading_options
def inspect_command(output: Output, paths: tuple[str, ...], other_tools: bool, reading: Reading) -> int:
    """Say what the data is, why, and what is wrong with it."""
    from finetui.cli.elsewhere import show
    from finetui.data import inspect
    from finetui.data.elsewhere import compare

    inspection = inspect(paths, reading)
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
@reading_options
def convert_command(output: Output, paths: tuple[str, ...], out: Path, accept_rejected: bool, reading: Reading) -> int:
    """Write the data as canonical records, and the rows that were set aside."""
    from finetui.data import convert

    conversion = convert(paths, out, reading, accept_rejected=accept_rejected)
    output.result(conversion.to_json())
    if not output.json:
        table = describe(conversion.inspection)
        if conversion.sha256 is not None:
            add_fact(table, t("data.label-written"), one_line(str(out / "data.jsonl")))
            add_fact(table, t("data.label-sha256"), conversion.sha256)
        output.console().print(table)
    if refused := conversion.refusals():
        output.note(render(refused))
        return BAD_INPUT
    return DONE
