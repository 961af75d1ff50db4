"""A run at a glance: a dozen lines that are redrawn, or one line a step where nothing may be redrawn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetui.core.figures import gib
from finetui.core.messages import t
from finetui.runs.figures import short_duration, short_number, sparkline
from finetui.runs.review.findings import findings
from finetui.runs.review.history import History
from finetui.runs.review.ledger import ledger

if TYPE_CHECKING:
    from rich.console import RenderableType

_SPARK = 34
_BAR = 24


@dataclass(frozen=True)
class Paid:
    """What is paid for."""

    gpus: int = 1
    price: float | None = None
    """Of one GPU for an hour, in any currency."""


NOTHING = Paid()

Fact = tuple[str, str, str]
"""A code whose `watch.CODE` is the label, what is said, and a style of rich."""


def dashboard(
    history: History, steps: int, lock: Mapping[str, Any], paid: Paid = NOTHING, *, live: bool = True
) -> RenderableType:
    """What is known of a run that is to do `steps` steps, in at most 80 columns; `lock` may be empty."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for code, text, style in facts(history, steps, lock, paid, live=live):
        table.add_row(t(f"watch.{code}"), Text(text, style=style))
    return table


def step_line(history: History, steps: int) -> str:
    """The last step in one line."""
    return t(
        "runs.step-line",
        step=history.steps[-1],
        steps=steps,
        loss=short_number(history.losses[-1], ".4f"),
        rate=short_number(history.rates[-1], ".3g"),
        norm=short_number(history.norms[-1], ".3g"),
        speed=short_number(history.speeds[-1], ".0f"),
        eta=short_duration(history.seconds_left(steps)),
    )


def time_line(history: History, paid: Paid = NOTHING) -> str:
    """Where the time of a run that has ended went, in one line."""
    return f"{t('watch.time')}: {_time(history, paid, live=False)}"


def facts(
    history: History, steps: int, lock: Mapping[str, Any], paid: Paid = NOTHING, *, live: bool = True
) -> Iterator[Fact]:
    """What is known of a run, line by line, for whoever draws it."""
    if len(history):
        yield from _training(history, steps)
    yield "memory", _memory(history, lock), ""
    if live and (left := _left(history, steps)):
        yield "left", left, ""
    if history.checkpoints:
        yield "saved", _saved(history), ""
    sample = history.sample if live else None
    for gpu in (sample or {}).get("gpus", []):
        yield "gpu", _gpu(gpu), "yellow" if gpu.get("throttled") else ""
    if sample and "cpu_percent" in sample:
        yield "cpu", _machine(sample), ""
    yield "time", _time(history, paid, live=live), ""
    for finding in findings(history):
        yield "odd", finding.text(), "yellow"


def _training(history: History, steps: int) -> Iterator[Fact]:
    done = history.steps[-1]
    filled = round(_BAR * min(1.0, done / max(1, steps)))
    bar = "━" * filled + "─" * (_BAR - filled)
    percent, epoch = round(100 * done / max(1, steps)), short_number(history.epochs[-1], ".2f")
    yield "step", t("watch.step-text", step=done, steps=steps, bar=bar, percent=percent, epoch=epoch), "bold"
    curve = history.smoothed
    loss = {"loss": short_number(history.losses[-1], ".4f"), "smoothed": short_number(curve[-1], ".4f")}
    yield "loss", t("watch.loss-text", spark=sparkline(curve, _SPARK), **loss), ""
    if history.evaluations and (lowest := history.lowest_evaluation):
        last = history.evaluations[-1]
        best = short_number(lowest.loss, ".4f")
        loss_now = short_number(last.loss, ".4f")
        yield "evaluation", t("watch.evaluation-text", loss=loss_now, step=last.step, lowest=best, at=lowest.step), ""
    rate = {"rate": short_number(history.rates[-1], ".3g"), "norm": short_number(history.norms[-1], ".3g")}
    yield "rate", t("watch.rate-text", **rate), ""
    speed = {"speed": short_number(history.speeds[-1], ",.0f"), "tokens": f"{history.trained_tokens:,}"}
    yield "speed", t("watch.speed-text", seconds=short_number(history.step_seconds, ".3g"), **speed), ""


def _memory(history: History, lock: Mapping[str, Any]) -> str:
    peak = gib(history.memory_bytes) if history.memory_bytes else "–"
    predicted = lock.get("predicted")
    if not predicted:
        return peak
    low, high = map(gib, predicted["band"])
    return t("watch.memory-text", peak=peak, predicted=gib(predicted["peak_bytes"]), low=low, high=high)


def _left(history: History, steps: int) -> str | None:
    left = history.seconds_left(steps)
    if left is None:
        return None
    facts = {"left": short_duration(left), "clock": time.strftime("%H:%M", time.localtime(time.time() + left))}
    return t("watch.left-text", count=history.recent, **facts)


def _saved(history: History) -> str:
    best = None if history.best is None else history.best.step
    shown = [f"{saved.step} ★" if saved.step == best else str(saved.step) for saved in history.checkpoints[-6:]]
    return t("watch.saved-text", steps=", ".join(shown))


def _gpu(gpu: Mapping[str, Any]) -> str:
    def known(name: str, unit: str) -> str | None:
        return None if gpu.get(name) is None else f"{gpu[name]} {unit}"

    memory = None
    if gpu.get("memory_bytes") is not None:
        memory = f"{gib(gpu['memory_bytes'])} / {gib(gpu['total_bytes'])}"
    slowed = t("watch.throttled") if gpu.get("throttled") else None
    parts = [known("use_percent", "%"), memory, known("temperature_c", "°C"), known("power_w", "W"), slowed]
    return f"{gpu['index']}  " + (" · ".join(part for part in parts if part) or t("watch.gpu-silent"))


def _machine(sample: Mapping[str, Any]) -> str:
    facts = {"cpu": sample["cpu_percent"], "ram": gib(sample["resident_bytes"]), "free": gib(sample["ram_free_bytes"])}
    return t("watch.cpu-text", disk=gib(sample["disk_free_bytes"]), **facts)


def _time(history: History, paid: Paid, *, live: bool) -> str:
    entries = ledger(history, now=time.time() if live else None, gpus=paid.gpus, price=paid.price)
    shown = [
        f"{t(f'curve.phase-{entry.phase}')} {short_duration(entry.seconds)}"
        + ("" if entry.cost is None else f" ({entry.cost:.2f})")
        for entry in entries
    ]
    costs = [entry.cost for entry in entries if entry.cost is not None]
    together = [t("watch.cost", amount=f"{sum(costs):.2f}")] if costs else []
    return " · ".join([*shown, *together])
