"""How a plan looks beside its other witnesses: the parts by formula and by trace, and what two real steps took."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetui.cli.hanging import print_hanging
from finetui.core.figures import duration, gib
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.hardware.memory.traced import Trace
from finetui.hardware.memory.tried import Tried
from finetui.recipes.resolve import Plan

_DETAIL = 200


def show_checks(console: Console, plan: Plan) -> None:
    """Print what there is of both; nothing where there is neither."""
    if plan.trace is not None:
        _trace(console, plan, plan.trace)
    if plan.tried is not None:
        _tried(console, plan.tried)


def _trace(console: Console, plan: Plan, trace: Trace) -> None:
    console.print()
    console.print(Text(t("tried.trace-head"), style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(
        "", Text(t("tried.trace-column-formula"), style="dim"), Text(t("tried.trace-column-trace"), style="dim")
    )
    parts = plan.prediction.parts
    for name, size in parts.items():
        if size or trace.parts[name]:
            table.add_row(Text(f"  {t(f'plan.part-{name}')}"), gib(size), gib(trace.parts[name]))
    together = gib(plan.prediction.total_bytes), gib(trace.total_bytes)
    table.add_row(Text(f"  {t('plan.part-total')}"), *(Text(size, style="bold") for size in together))
    console.print(table)
    layers = ", ".join(str(count) for count in sorted(set(trace.layers_traced)))
    _line(console, Text(t("tried.trace-said", seconds=duration(trace.seconds), layers=layers)))
    if trace.total_bytes > plan.free_bytes:
        facts = {"total": gib(trace.total_bytes), "free": gib(plan.free_bytes)}
        _line(console, Text(t("tried.trace-lacks", **facts), style="yellow"))


def _tried(console: Console, tried: Tried) -> None:
    console.print()
    console.print(Text(t("tried.head"), style="bold"))
    device = one_line(tried.device, 60) or "–"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(tried.when))
    if tried.peak_bytes is None or tried.error is None:
        facts = {"free": gib(tried.free_bytes), "detail": one_line(tried.detail, _DETAIL)}
        _line(console, Text(t("tried.out-of-memory", device=device, when=when, **facts), style="bold red"))
        return
    how = t("tried.how-resident" if tried.resident else "tried.how-gpu")
    facts = {"predicted": gib(tried.predicted_bytes), "error": f"{100 * tried.error:+.1f} %"}
    _line(console, Text(t("tried.measured", peak=gib(tried.peak_bytes), how=how, **facts)))
    lengths = t("tried.lengths-data" if tried.from_data else "tried.lengths-none")
    step = {"seconds": duration(tried.seconds_per_step or 0), "rows": tried.rows, "tokens": tried.tokens}
    _line(console, Text(t("tried.step", lengths=lengths, device=device, when=when, **step)))


def _line(console: Console, text: Text) -> None:
    print_hanging(console, Text("  "), text)
