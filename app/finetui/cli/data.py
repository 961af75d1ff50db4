"""`finetui inspect` and `convert`: what data is, what is wrong with it, and what it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.cli.common import Output, PathWord, command, option
from finetui.cli.data_options import data_argument, reading_options
from finetui.cli.preview import preview_command
from finetui.core.errors import BAD_INPUT, DONE, render
from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from finetui.data import Inspection, Reading

__all__ = ["convert_command", "inspect_command", "preview_command"]

_EXAMPLES = 2


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
            _row(table, "written", one_line(str(out / "data.jsonl")))
            _row(table, "sha256", conversion.sha256)
        output.console().print(table)
    if refused := conversion.refusals():
        output.note(render(refused))
        return BAD_INPUT
    return DONE


def describe(inspection: Inspection) -> Table:
    """An inspection in words: a label and a fact a line."""
    from rich.table import Table

    contract = inspection.to_json()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    none = t("data.label-none")
    _row(table, "format", contract["format"] or none, "bold")
    _row(table, "stage", contract["stage"] or none)
    _row(table, "confidence", f"{contract['confidence']:.0%}")
    _row(table, "rows", t("data.label-counts", **contract["rows"]))
    for number, sentence in enumerate(inspection.evidence()):
        _row(table, "" if number else "why", sentence.text())
    for other in contract["alternatives"]:
        _row(table, "also", f"{other['format']} ({other['confidence']:.0%})")
    for number, file in enumerate(contract["files"]):
        kind = ", ".join(filter(None, [file["container"], file["compression"], file["encoding"]]))
        _row(
            table, "" if number else "file", t("data.label-file-facts", kind=kind, rows=file["rows"], path=file["path"])
        )
    for problem in contract["problems"]:
        _add_problem(table, problem)
    return table


def _add_problem(table: Table, problem: dict[str, Any]) -> None:
    from finetui.data.problems import SET_ASIDE

    code, aside = problem["code"], problem["code"] in SET_ASIDE
    fate = t("data.label-set-aside" if aside else "data.label-kept")
    said = f"{problem['count']} × {code}: {t(f'data.row-{code}')}"
    _row(table, "set-aside" if aside else "noted", said, "red" if aside else "yellow", label=fate)
    for example in problem["examples"][:_EXAMPLES]:
        where = f"{Path(example['file']).name}:{example['line'] or example['row']}"
        _row(table, "", one_line(f"  {where}  {example['detail']}".rstrip(), 160))


def _row(table: Table, name: str, text: str, style: str = "", *, label: str | None = None) -> None:
    from rich.text import Text

    shown = label if label is not None else (t(f"data.label-{name}") if name else "")
    table.add_row(Text(shown), Text(text, style=style))
