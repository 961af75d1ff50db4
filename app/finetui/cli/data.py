"""`finetui inspect`, `convert` and `preview`: what data is, what it becomes, and what the model will see of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetui.cli.common import Output, command, option
from finetui.core.errors import BAD_INPUT, DONE, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.data.problems import SET_ASIDE
from finetui.data.results import Inspection

_PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
_FORMAT = option("--format", "format", metavar="NAME", help_code="data.opt-format")
_LABEL = 12
_SHOWN = 78


@command("inspect")
@_PATHS
@_FORMAT
def inspect_command(output: Output, paths: tuple[Path, ...], format: str | None) -> int:
    """Say what the data is, why, and what is wrong with it."""
    from finetui.data import inspect

    inspection = inspect(paths, format=format)
    output.result(inspection.to_json())
    output.data("\n".join(describe(inspection)))
    return DONE


@command("convert")
@_PATHS
@option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help_code="data.opt-out")
@option("--accept-rejected", is_flag=True, help_code="data.opt-accept-rejected")
@_FORMAT
def convert_command(
    output: Output, paths: tuple[Path, ...], out: Path, accept_rejected: bool, format: str | None
) -> int:
    """Write the data as canonical records, and the rows that were set aside."""
    from finetui.data import convert

    conversion = convert(paths, out, format=format, accept_rejected=accept_rejected)
    output.result(conversion.to_json())
    output.data("\n".join(describe(conversion.inspection)))
    if conversion.sha256 is not None:
        output.data(_pair("written", one_line(str(out / "data.jsonl"))))
        output.data(_pair("sha256", conversion.sha256))
    if refused := conversion.refusals():
        output.note(render(refused))
        return BAD_INPUT
    return DONE


def describe(inspection: Inspection) -> list[str]:
    """An inspection in words, one fact a line."""
    contract = inspection.to_json()
    lines = [
        _pair("format", f"{contract['format'] or t('data.label-none')} ({contract['confidence']:.0%})"),
        _pair("stage", contract["stage"] or t("data.label-none")),
        _pair("rows", t("data.label-counts", **contract["rows"])),
    ]
    lines += [_pair("why" if not number else "", said.text()) for number, said in enumerate(inspection.evidence())]
    for other in contract["alternatives"]:
        lines.append(_pair("also", f"{other['format']} ({other['confidence']:.0%})"))
    for file in contract["files"]:
        kind = " ".join(filter(None, [file["container"], file["compression"], file["encoding"]]))
        lines.append(_pair("file", f"{file['path']}  {kind}  {file['rows']}"))
    lines += [line for problem in contract["problems"] for line in _problem(problem)]
    return lines


def _problem(problem: dict[str, Any]) -> list[str]:
    code = problem["code"]
    fate = t("data.label-set-aside" if code in SET_ASIDE else "data.label-kept")
    lines = [_pair("problem", f"{problem['count']:>6}  {fate}  {code}: {t(f'data.row-{code}')}")]
    for example in problem["examples"][:2]:
        where = f"{Path(example['file']).name}:{example['line'] or example['row']}"
        lines.append(_pair("", one_line(f"{'':6}  {where}  {example['detail']}", _SHOWN)))
    return lines


def _pair(label: str, text: str) -> str:
    """`label` and `text` in two columns; a label in Chinese takes two cells a character."""
    shown = t(f"data.label-{label}") if label else ""
    width = sum(2 if ord(character) > 0x2E7F else 1 for character in shown)
    return shown + " " * max(1, _LABEL - width) + text
