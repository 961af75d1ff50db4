"""What other tools would do with the rows, as a table and its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from finetui.data.elsewhere import Comparison

_COUNTS = ("kept", "changed", "dropped", "stops")


def show(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print what every tool would do, and why; nothing where no tool was asked for."""
    if comparisons:
        console.print()
        console.print(_counts_table(comparisons))
        for line in _reasons(comparisons):
            console.print(line)


def _counts_table(comparisons: Sequence[Comparison]) -> Table:
    """A line a tool: how many rows are kept, changed, dropped, and would stop it."""
    from rich.table import Table

    table = Table(title=t("elsewhere.title"), title_justify="left", title_style="cyan", box=None, pad_edge=False)
    table.add_column(t("elsewhere.tool"))
    for effect in _COUNTS:
        table.add_column(t(f"elsewhere.{effect}"), justify="right")
    for comparison in comparisons:
        table.add_row(comparison.tool.name, *(str(comparison.effects[effect]) for effect in _COUNTS))
    return table


def _reasons(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A line a reason, the frequent first; and a line for each tool that would stop."""
    for comparison in comparisons:
        tool = comparison.tool.name
        for code, count in comparison.reasons.most_common():
            row = comparison.first[code].row
            yield t("elsewhere.reason", tool=tool, count=count, why=comparison.why(code).text(), row=row)
        if stop := comparison.first_stop:
            yield t("elsewhere.stopped", tool=tool, row=stop.row, file=one_line(stop.file))
