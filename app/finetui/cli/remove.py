"""The commands `rm` and `clean`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from finetui.cli.common import Amount, Output, command, option
from finetui.core.errors import USAGE, FinetuiError, Problem, ShellWords
from finetui.core.messages import t
from finetui.core.text import safe_text
from finetui.models.fetch.space import in_words
from finetui.runs.folder import RunFolder, find_run
from finetui.runs.removing import DAYS, check_removable, clutter, remove, remove_run, size


@command("rm")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@option("--yes", is_flag=True, help_code="remove.opt-yes")
def rm_command(output: Output, runs: tuple[str, ...], yes: bool) -> int:
    """Remove runs, with everything in them."""
    found = list({run.path.resolve(): run for run in map(find_run, runs)}.values())
    check_removable(found)
    sizes = {run.name: size(run.path.resolve()) for run in found}
    for run in found:
        output.note(_line(run, sizes[run.name]))
    total = sum(sizes.values())
    if not yes and not _agreed(output, "remove.ask-runs", len(found), total, ["finetui", "rm", *sizes]):
        return 0
    freed = {run.name: remove_run(run) for run in found}
    output.result({"removed": [{"run": name, "bytes": held} for name, held in freed.items()], "freed": _sum(freed)})
    output.data(t("remove.removed", count=len(freed), size=in_words(_sum(freed))))
    return 0


@command("clean")
@option("--days", type=Amount(), default=DAYS, show_default=True, metavar="N", help_code="remove.opt-days")
@option("--dry-run", is_flag=True, help_code="remove.opt-dry-run")
@option("--yes", is_flag=True, help_code="remove.opt-yes")
def clean_command(output: Output, days: float, dry_run: bool, yes: bool) -> int:
    """Remove what nobody needs any more."""
    items = clutter(days)
    total = sum(item.bytes for item in items)
    contract = {"items": [item.to_json() for item in items], "bytes": total, "freed": 0}
    if not items:
        output.result(contract)
        output.data(t("remove.nothing"))
        return 0
    if not output.json:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("size", "what", "path"):
            table.add_column(t(f"remove.column-{column}"), no_wrap=column != "path", overflow="fold")
        for item in items:
            table.add_row(in_words(item.bytes), t(f"remove.kind-{item.kind}"), safe_text(str(item.path)))
        output.console().print(table)
    if dry_run:
        output.result(contract)
        output.data(t("remove.would", count=len(items), size=in_words(total)))
        return 0
    if not yes and not _agreed(output, "remove.ask-clean", len(items), total, ["finetui", "clean"]):
        return 0
    freed = remove(items)
    output.result({**contract, "freed": freed})
    output.data(t("remove.removed", count=len(items), size=in_words(freed)))
    return 0


def _line(run: RunFolder, held: int) -> str:
    """What goes with a run: its result above all."""
    checkpoints = sum(1 for _ in run.checkpoints.glob("checkpoint-*"))
    holds = [t("remove.holds-output")] if run.output.is_dir() else []
    holds += [t("remove.holds-merged")] if (run.path / "merged").is_dir() else []
    holds += [t("remove.holds-checkpoints", count=checkpoints)] if checkpoints else []
    facts = {"run": safe_text(run.name), "size": in_words(held)}
    return t("remove.run-line", **facts, holds=", ".join(holds)) if holds else t("remove.run-line-plain", **facts)


def _agreed(output: Output, question: str, count: int, total: int, command_words: Iterable[str]) -> bool:
    """Ask the person; what cannot ask refuses.

    Raises FinetuiError (exit 2) where there is nobody to be asked.
    """
    facts = {"count": count, "size": in_words(total)}
    if output.json or not sys.stdin.isatty():
        command_line = ShellWords(" ".join(command_words))
        raise FinetuiError(Problem("remove.not-asked", {**facts, "command": command_line}), USAGE)
    if click.confirm(t(question, **facts), err=True):
        return True
    output.note(t("remove.kept"))
    return False


def _sum(freed: dict[str, int]) -> int:
    return sum(freed.values())
