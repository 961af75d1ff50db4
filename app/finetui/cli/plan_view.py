"""How a plan looks: the verdict, the memory part by part, every setting with its reason, time, disk, what would fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from finetui.cli.common import Output
from finetui.cli.hanging import padded, print_hanging
from finetui.cli.plan_checks import show_checks
from finetui.cli.plan_settings import print_settings
from finetui.core.errors import render_warnings
from finetui.core.figures import duration, gib
from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line
from finetui.draft import Draft
from finetui.hardware.memory.predict import Prediction
from finetui.recipes.resolve import Plan
from finetui.recipes.resolve.plan import ESTIMATED, SLOW
from finetui.recipes.resolve.ways import Way

_BAR = 44
"""Characters of the memory bars."""
_LEAST_AMOUNT = 0.01
_SIGNS = {"full": "█", "thin": "▏", "likely": "░", "free": "│", "yes": "✓", "no": "✗"}
_ASCII = {"full": "#", "thin": ".", "likely": "-", "free": "|", "yes": "+", "no": "x"}
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
    print_head(console, t("plan.head-memory"))
    print_memory(console, plan.prediction, plan.free_bytes)
    for code in plan.prediction.notes:
        print_hanging(console, Text("  "), Text(t("plan.unmeasured", what=t(code)), style="yellow"))
    show_checks(console, plan)
    print_head(console, t("plan.head-settings"))
    print_settings(console, plan.settings)
    print_head(console, t("plan.head-run"))
    _run(console, plan)
    if warnings := (*plan.untrained, *plan.warnings):
        console.print()
        console.print(Text(render_warnings(warnings), style="yellow"), soft_wrap=True)
    if not plan.fits:
        _ways(console, plan, draft)


def print_head(console: Console, text: str) -> None:
    """The title of a part of the plan."""
    console.print()
    console.print(Text(text, style="bold"))


def print_memory(console: Console, prediction: Prediction, free: int) -> None:
    """A bar for each part, beginning where the one before it ends; the last one against what is free."""
    low, high = prediction.band
    scale = _BAR / max(high, min(free, 2 * high))
    parts = {name: size for name, size in prediction.parts.items() if size}
    labels = {name: t(f"plan.part-{name}") for name in (*parts, "total")}
    width = max(map(cell_len, labels.values()))
    signs, begin = _signs(console), 0
    for name, size in parts.items():
        first, last = round(begin * scale), round((begin + size) * scale)
        bar = Text(" " * first) + Text(signs["full"] * (last - first) or signs["thin"], style=_STYLES[name])
        _bar(console, padded(labels[name], width), size, bar)
        begin += size
    sure, likely = round(low * scale), round(high * scale)
    cells = [*signs["full"] * sure, *signs["likely"] * (likely - sure), *" " * (_BAR + 1 - likely)]
    if round(free * scale) <= _BAR:
        cells[round(free * scale)] = signs["free"]
    style = "bold" if high <= free else "bold red"
    _bar(console, padded(labels["total"], width), prediction.total_bytes, Text("".join(cells).rstrip(), style=style))
    print_hanging(
        console,
        Text("  "),
        t("plan.band", low=gib(low), high=gib(high), free=gib(free), likely=signs["likely"], limit=signs["free"]),
    )


def _signs(console: Console) -> Mapping[str, str]:
    """What the terminal can show."""
    return _SIGNS if console.encoding.lower().startswith("utf") else _ASCII


def _bar(console: Console, label: str, size: int, bar: Text) -> None:
    console.print(Text(f"  {label}  {gib(size):>9}  ") + bar, soft_wrap=True)


def _verdict(console: Console, plan: Plan) -> None:
    sign, style = ("yes", "bold green") if plan.fits else ("no", "bold red")
    print_hanging(console, Text(f"{_signs(console)[sign]} ", style=style), Text(verdict(plan), style=style))
    print_hanging(console, Text("  "), what(plan))


def verdict(plan: Plan) -> str:
    """Whether it fits, in one sentence."""
    device, (low, high) = plan.settled.frame.device, plan.prediction.band
    facts = {"where": _where(plan), "low": gib(low), "high": gib(high), "free": gib(plan.free_bytes)}
    if plan.fits:
        return t("plan.fits-cpu" if device.kind is None else "plan.fits", **facts)
    lacking = gib(high - plan.free_bytes)
    return t("plan.does-not-fit-cpu" if device.kind is None else "plan.does-not-fit", lacking=lacking, **facts)


def what(plan: Plan) -> str:
    """Which model is trained by which recipe."""
    request = plan.settled.request
    billions = request.model.parameters / 1e9
    size = f"{billions:.1f} B" if billions >= 1 else f"{1000 * billions:.0f} M"
    facts = {"recipe": request.recipe.name, "stage": request.stage, "method": _method(plan)}
    return t("plan.what", model=one_line(request.model.name, 60), size=size, **facts)


def _method(plan: Plan) -> str:
    if plan.settled.request.method == "full":
        return t("plan.method-full")
    chosen = plan.settings
    packed = "QLoRA" if chosen["load_in_4bit"] else "LoRA"
    return f"{packed}, DoRA" if chosen["use_dora"] else packed


def _where(plan: Plan) -> str:
    machine, count = plan.machine, plan.settings.world_size
    if not machine.gpus:
        return t("plan.where-cpu", cores=machine.physical_cores)
    return t("plan.where", count=count, device=plan.settled.frame.device.name)


def _run(console: Console, plan: Plan) -> None:
    lines = [*figures(plan)]
    width = max(cell_len(label) for label, _ in lines)
    for label, text in lines:
        print_hanging(console, Text(f"  {padded(label, width)}  ", style="cyan"), Text(text, style="default"))


def figures(plan: Plan) -> Iterator[tuple[str, str]]:
    """A label and what stands beside it."""
    yield t("plan.label-rows"), _rows(plan)
    if ESTIMATED in plan.notes:
        yield "", t(ESTIMATED)
    yield t("plan.label-time"), _time(plan)
    if SLOW in plan.notes:
        yield "", t(SLOW)
    yield t("plan.label-disk"), _disk(plan)
    request = plan.settled.request
    if request.free_disk_bytes is not None:
        yield "", t("plan.disk-free" if plan.disk_fits else "plan.disk-lacks", free=gib(request.free_disk_bytes))
    if request.price is not None:
        yield t("plan.label-cost"), _cost(plan, request.price)


def _rows(plan: Plan) -> str:
    if plan.tokens is None:
        return t("plan.rows-none", length=plan.settings.number("max_length"))
    lengths = plan.tokens.to_json()
    spread = {name: f"{lengths[name]:,}" for name in ("p50", "p95", "max")}
    left = plan.tokens.left(plan.settings.number("max_length"), str(plan.settings["overlong"]))
    return t("plan.rows", rows=f"{left:,}", held=f"{plan.tokens.held_rows:,}", **spread)


def _time(plan: Plan) -> str:
    step = duration(plan.settled.fitted.seconds)
    if plan.time is None:
        return t("plan.time-step", step=step)
    parts = {name: seconds for name, seconds in vars(plan.time).items() if seconds >= 1 and name != "training"}
    others = [t(f"plan.time-{name}", time=duration(seconds)) for name, seconds in parts.items()]
    steps = f"{plan.settled.saving.steps:,}"
    training = t("plan.time-training", steps=steps, step=step, time=duration(plan.time.training))
    return t("plan.time", total=duration(plan.time.total), parts=" + ".join([training, *others]))


def _disk(plan: Plan) -> str:
    saving = plan.settled.saving
    sizes = {"output": saving.output_bytes, "merged": saving.merged_bytes, "data": saving.data_bytes}
    parts = [t(f"plan.disk-{name}", size=gib(size)) for name, size in sizes.items() if size]
    if saving.checkpoints:
        kept = t("plan.disk-checkpoints", count=saving.checkpoints, size=gib(saving.checkpoint_bytes))
        parts.insert(0, kept)
    return t("plan.disk", total=gib(plan.disk_bytes), parts=" + ".join(parts))


def _cost(plan: Plan, price: float) -> str:
    facts = {"gpus": max(1, len(plan.machine.gpus)), "price": f"{price:g}"}
    if plan.cost is None or plan.time is None:
        return t("plan.cost-unknown", **facts)
    amount = f"{plan.cost.amount:,.2f}" if plan.cost.amount >= _LEAST_AMOUNT else f"< {_LEAST_AMOUNT}"
    return t("plan.cost", amount=amount, time=duration(plan.time.total), **facts)


def _ways(console: Console, plan: Plan, draft: Draft) -> None:
    """Each with its command in one piece, to be copied."""
    print_head(console, t("plan.head-ways"))
    if not plan.ways_out:
        print_hanging(console, Text("  "), t("plan.no-ways"))
    for number, way in enumerate(plan.ways_out, 1):
        print_hanging(console, Text(f"  {number}. "), way.text())
        print_hanging(console, Text("     "), needs(way))
        command = one_line(draft.taking(way).command(), PATH_LIMIT)
        console.print(Text(f"     {command}", style="bold"), soft_wrap=True)


def needs(way: Way) -> str:
    """What a way out needs."""
    settled = way.settled
    facts = {"high": gib(settled.prediction.band[1]), "free": gib(settled.frame.device.free_bytes)}
    return t("plan.way-needs", seconds=duration(settled.fitted.seconds), **facts)
