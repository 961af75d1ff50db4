"""`finetui preview`: rows as the model will see them, one by one or in figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetui.cli.common import Output, command, option
from finetui.cli.data_options import DataWord, data_argument, reading_options
from finetui.cli.marked import Lens
from finetui.core.errors import BAD_INPUT, DONE, USAGE, FinetuiError, Problem, ShellWords
from finetui.core.messages import t

if TYPE_CHECKING:
    from finetui.data import Reading

_SAMPLE = 2000
"""Rows that are measured where nothing is said: the 95th percentile is then known to about one percent of the rows."""


@command("preview")
@data_argument
@option("--model", metavar="PATH|HUB_ID|demo", help_code="profile.opt-model")
@option("--template", metavar="NAME|FILE", help_code="profile.opt-template")
@option("--row", type=click.IntRange(min=1), metavar="N", help_code="profile.opt-row")
@option("--count", type=click.IntRange(min=1), metavar="N", help_code="profile.opt-count")
@option("--raw", is_flag=True, help_code="profile.opt-raw")
@option("--max-length", type=click.IntRange(min=1), metavar="N", help_code="profile.opt-max-length")
@option("--stats", is_flag=True, help_code="profile.opt-stats")
@option("--sample", type=click.IntRange(min=1), metavar="N", help_code="profile.opt-sample")
@option("--full", is_flag=True, help_code="profile.opt-full")
@option("--eval-data", "evaluation", type=DataWord(), multiple=True, metavar="PATH", help_code="profile.opt-eval-data")
@reading_options
def preview_command(
    output: Output,
    paths: tuple[str, ...],
    model: str | None,
    template: str | None,
    max_length: int | None,
    reading: Reading,
    **options: Any,
) -> int:
    """Show rows as the model will see them, or what all of them are like."""
    _check(options)
    if options["stats"]:
        lens = _lens(model, template, max_length)
        sample = None if options["full"] else options["sample"] or _SAMPLE
        return _show_statistics(output, paths, lens, reading, options["evaluation"], sample)
    chosen = None if options["raw"] else _lens(model, template, max_length)
    return _show_rows(output, paths, chosen, reading, options["row"] or 1, options["count"] or 1)


def _show_rows(
    output: Output, paths: Sequence[str], lens: Lens | None, reading: Reading, first: int, count: int
) -> int:
    from finetui.cli.preview_rows import see
    from finetui.data.lookup import find_rows

    rows = [see(row, lens) for row in find_rows(paths, first, count, reading)]
    output.result({"rows": [row.to_json() for row in rows]})
    if not output.json:
        console = output.console()
        if lens is not None:
            console.print(t("profile.legend"), style="cyan")
        for row in rows:
            row.show(console)
    return DONE if any(row.is_usable for row in rows) else BAD_INPUT


def _show_statistics(
    output: Output, paths: Sequence[str], lens: Lens, reading: Reading, evaluation: Sequence[str], sample: int | None
) -> int:
    from finetui.cli.stages import Stages
    from finetui.cli.statistics import describe_statistics
    from finetui.data.profile.statistics import statistics
    from finetui.hardware.probe import usable_cores

    with Stages(output) as stages:
        found = statistics(
            paths,
            lens.tokenizer,
            lens.template,
            reading,
            evaluation=evaluation,
            max_length=lens.max_length,
            sample=sample,
            processes=usable_cores(Path("/")),
            on_progress=stages,
        )
    output.result(found.to_json())
    if not output.json:
        output.console().print(describe_statistics(found))
    return DONE


def _lens(model: str | None, template: str | None, max_length: int | None) -> Lens:
    """Tokenizer and template of the model.

    Raises FinetuiError (exit 2) where none is named, or as finding and loading it do.
    """
    if model is None:
        facts = {"parameter": "--model", "command": ShellWords("finetui preview")}
        raise FinetuiError(Problem("cli.missing-parameter", facts), USAGE)
    from finetui.core.encode import load_template, load_tokenizer
    from finetui.models.find import find_model

    folder = find_model(model)
    tokenizer = load_tokenizer(folder)
    return Lens(tokenizer, load_template(folder, tokenizer, template), max_length)


def _check(options: dict[str, Any]) -> None:
    """Raise FinetuiError (exit 2) where options for single rows and for figures are mixed."""
    given = {name for name, value in options.items() if value}
    names = {"evaluation": "--eval-data"}
    if "stats" in given:
        wrong, code = given & {"row", "count", "raw"}, "profile.not-with-stats"
    else:
        wrong, code = given & {"sample", "full", "evaluation"}, "profile.needs-stats"
    if wrong:
        raise FinetuiError((Problem(code, {"option": names.get(name, f"--{name}")}) for name in sorted(wrong)), USAGE)
