"""How a plan looks: the verdict, the memory part by part, every setting with its reason, time, disk, what would fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finetui.cli.common import Output
from finetui.core.errors import render_warnings
from finetui.core.glossary import as_toml
from finetui.core.knobs import GROUPS, knobs
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.draft import Draft
from finetui.recipes.resolve import Choice, Plan
from finetui.recipes.resolve.figures import duration, gib

_BAR = 44
"""Characters of the memory bars."""
_STYLES = {
    "weights": "blue",
    "adapter": "cyan",
    "gradients": "green",
    "optimizer": "yellow",
    "activations": "magenta",
    "logits": "red",
    "overhead": "bright_black",
}


def show(output: Output, plan: Plan, draft: Draft) -> None:
    """Print a plan, the verdict first."""
    console = output.console()
    _verdict(console, plan)
    _memory(console, plan)
    _settings(console, plan)
    _run(console, plan)
    if plan.warnings:
        console.print()
        console.print(Text(render_warnings(plan.warnings), style="yellow"), soft_wrap=True)
    if not plan.fits:
        _ways(console, plan, draft)


def _verdict(console: Console, plan: Plan) -> None:
    request = plan.settled.request
    billions = request.model.parameters / 1e9
    size = f"{billions:.1f} B" if billions >= 1 else f"{1000 * billions:.0f} M"
    facts = {"recipe": request.recipe.name, "stage": request.stage, "method": _method(plan)}
    console.print(Text(t("plan.what", model=one_line(request.model.name, 60), size=size, **facts)))
    low, high = (gib(edge) for edge in plan.prediction.band)
    device = plan.settled.frame.device
    cpu = "-cpu" if device.kind is None else ""
    said = {"low": low, "high": high, "free": gib(plan.free_bytes), "device": device.name}
    if plan.fits:
        text = t(f"plan.verdict-fits{cpu}", **said)
    else:
        text = t(f"plan.verdict-lacks{cpu}", lacking=gib(plan.prediction.band[1] - plan.free_bytes), **said)
    heading = Text(t("plan.fits" if plan.fits else "plan.does-not-fit"), style="bold green" if plan.fits else "bold red")
    console.print(heading + Text(f" ({_where(plan)}): ", style="") + Text(text, style=""))


def _method(plan: Plan) -> str:
    chosen = {name: choice.value for name, choice in plan.settings.choices.items()}
    if plan.settled.request.method == "full":
        return "full"
    packed = "QLoRA" if chosen["load_in_4bit"] else "LoRA"
    return f"{packed}, DoRA" if chosen["use_dora"] else packed


def _where(plan: Plan) -> str:
    machine, count = plan.machine, plan.settings.world_size
    if not machine.gpus:
        return t("plan.where-cpu", cores=machine.physical_cores)
    return t("plan.where", count=count, device=plan.settled.frame.device.name)


def _memory(console: Console, plan: Plan) -> None:
    """A bar for each part, beginning where the one before it ends; the last one against what is free."""
    _head(console, t("plan.head-memory"))
    prediction, free = plan.prediction, plan.free_bytes
    low, high = prediction.band
    scale = _BAR / max(high, min(free, 2 * high))
    parts = {name: size for name, size in prediction.parts.items() if size}
    labels = {name: t(f"plan.part-{name}") for name in (*parts, "total")}
    width = max(map(cell_len, labels.values()))
    begin = 0
    for name, size in parts.items():
        first, last = round(begin * scale), round((begin + size) * scale)
        bar = Text(" " * first) + Text("█" * (last - first) or "▏", style=_STYLES[name])
        console.print(_line(labels[name], width, gib(size), bar), soft_wrap=True)
        begin += size
    cells = ["█" if at < round(low * scale) else "░" if at < round(high * scale) else " " for at in range(_BAR + 1)]
    if round(free * scale) <= _BAR:
        cells[round(free * scale)] = "│"
    bar = Text("".join(cells).rstrip(), style="bold" if plan.fits else "red")
    console.print(_line(labels["total"], width, gib(prediction.total_bytes), bar), soft_wrap=True)
    text = t("plan.band", low=gib(low), high=gib(high), free=gib(free))
    console.print(Padding(Text(text), (0, 0, 0, 2)))
    for code in plan.notes:
        console.print(Padding(Text(t("plan.unmeasured", what=t(code)), style="yellow"), (0, 0, 0, 2)))


def _line(label: str, width: int, size: str, bar: Text) -> Text:
    return Text(f"  {label}{' ' * (width - cell_len(label))}  {size:>9}  ") + bar


def _settings(console: Console, plan: Plan) -> None:
    """What is derived or asked for, by group; defaults in one paragraph."""
    _head(console, t("plan.head-settings"))
    choices, table = plan.settings.choices, knobs()
    shown = {name: choice for name, choice in choices.items() if choice.code != "reasons.default"}
    wide = max(len(name) for name in shown)
    for group in GROUPS:
        members = {name: choice for name, choice in shown.items() if table[name].group == group}
        if members:
            console.print(Text(f"  {t(f'knobs.group-{group}')}", style="cyan"))
            console.print(_table(members, wide))
    defaults = [f"{name} = {as_toml(choice.value)}" for name, choice in choices.items() if name not in shown]
    text = Text(t("plan.defaults", names=", ".join(one_line(each) for each in defaults)), style="dim")
    console.print(Padding(text, (0, 0, 0, 2)))


def _table(members: Mapping[str, Choice], wide: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=wide + 4, no_wrap=True)
    table.add_column(max_width=14, overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for name, choice in members.items():
        why = t("plan.reason-recipe") if choice.code == "reasons.recipe" else choice.why()
        table.add_row(Text(f"    {name}"), Text(one_line(as_toml(choice.value).strip('"'))), Text(why))
    return table


def _run(console: Console, plan: Plan) -> None:
    _head(console, t("plan.head-run"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for label, text in _figures(plan):
        table.add_row(Text(f"  {label}"), Text(text))
    console.print(table)


def _figures(plan: Plan) -> Iterator[tuple[str, str]]:
    saving, settled = plan.settled.saving, plan.settled
    yield t("plan.label-rows"), _rows(plan)
    step = duration(settled.fitted.seconds)
    if plan.time is None:
        yield t("plan.label-time"), t("plan.time-step", step=step)
    else:
        parts = {name: duration(seconds) for name, seconds in vars(plan.time).items()}
        yield (
            t("plan.label-time"),
            t("plan.time", total=duration(plan.time.total), steps=f"{saving.steps:,}", step=step, **parts),
        )
    sizes = {
        "checkpoint": saving.checkpoint_bytes,
        "output": saving.output_bytes,
        "merged": saving.merged_bytes,
        "data": saving.data_bytes,
    }
    facts = {name: gib(size) for name, size in sizes.items()}
    yield (
        t("plan.label-disk"),
        t("plan.disk-parts", total=gib(plan.disk_bytes), count=saving.checkpoints, **facts),
    )
    if (free := settled.request.free_disk_bytes) is not None:
        yield "", t("plan.disk-free" if plan.disk_fits else "plan.disk-lacks", free=gib(free))
    price = settled.request.price
    if plan.cost is not None and plan.time is not None:
        money = {"amount": f"{plan.cost.amount:,.2f}", "price": f"{plan.cost.price:g}", "gpus": plan.cost.gpus}
        yield t("plan.label-cost"), t("plan.cost", time=duration(plan.time.total), **money)
    elif price is not None:
        gpus = max(1, len(plan.machine.gpus))
        yield t("plan.label-cost"), t("plan.cost-unknown", price=f"{price:g}", gpus=gpus)


def _rows(plan: Plan) -> str:
    if plan.tokens is None:
        return t("plan.rows-none", length=plan.settings.number("max_length"))
    figures = plan.tokens.to_json()
    spread = {name: f"{figures[name]:,}" for name in ("p50", "p95", "max")}
    return t("plan.rows", rows=f"{plan.tokens.rows:,}", held=f"{plan.tokens.held_rows:,}", **spread)


def _ways(console: Console, plan: Plan, draft: Draft) -> None:
    """Each with its command in one piece, to be copied."""
    _head(console, t("plan.head-ways"))
    if not plan.ways_out:
        console.print(Text(f"  {t('plan.no-ways')}"))
    for number, way in enumerate(plan.ways_out, 1):
        settled = way.settled
        facts = {"high": gib(settled.prediction.band[1]), "free": gib(settled.frame.device.free_bytes)}
        needs = t("plan.way-needs", seconds=duration(settled.fitted.seconds), **facts)
        console.print(Padding(Text(f"{number}. {way.text()} ({needs})"), (0, 0, 0, 2)))
        console.print(Text(f"     {draft.taking(way).command()}", style="bold"), soft_wrap=True)


def _head(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))
