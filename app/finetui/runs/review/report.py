"""`report.md` of a run that has ended, with pictures of its loss: what it gave, what is odd, where the time went."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finetui.core.errors import FinetuiError
from finetui.core.events import Reader
from finetui.core.files import write_text
from finetui.core.messages import t
from finetui.core.text import PATH_LIMIT, one_line
from finetui.runs.figures import short_duration, short_number
from finetui.runs.folder import RunFolder
from finetui.runs.outcome import locked, problem, result
from finetui.runs.review.findings import findings
from finetui.runs.review.history import History
from finetui.runs.review.ledger import ledger
from finetui.runs.review.plots import draw
from finetui.runs.state import FINISHED

NAME = "report.md"


def write_report(run: RunFolder) -> Path:
    """Write the report and its pictures into the run's folder; the path of the report.

    Raises OSError where they cannot be written, FinetuiError where the run's state is none.
    """
    history = History()
    history.take(Reader(run.path).read())
    pictures = draw(history, run.name, run.path)
    path = run.path / NAME
    write_text(path, report(run, history, [picture.name for picture in pictures]))
    return path


def report(run: RunFolder, history: History, pictures: Iterable[str] = ()) -> str:
    """The report as Markdown, in the language in force."""
    outcome, lock = result(run), locked(run)
    parts = [
        f"# {_cell(run.name)}",
        _verdict(run, outcome),
        *(f"![{t('report.loss')}]({name})" for name in pictures if name.endswith(".svg")),
        _table(_figures(outcome, history, lock)),
        _headed("report.odd", _list([found.text() for found in findings(history)]) or t("report.nothing-odd")),
        _headed("report.time", _ledger(run, history)),
        _headed("report.checkpoints", _checkpoints(history)),
        _headed("report.data", _data(lock)),
        _headed("report.settings", _settings(lock)),
        _headed("report.environment", _environment(lock)),
        _headed("report.next", _next(run, outcome)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(run: RunFolder, outcome: Mapping[str, Any]) -> str:
    if outcome["status"] == FINISHED:
        return t("report.finished", steps=outcome["steps"], seconds=short_duration(outcome["seconds"]))
    return _cell(problem(run, dict(outcome)).message())


def _figures(outcome: Mapping[str, Any], history: History, lock: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    def number(value: float | None, form: str = ".4f") -> str:
        return short_number(value if value is None or math.isfinite(value) else None, form)

    yield t("report.steps"), f"{outcome['steps']} / {outcome['steps_total']}"
    if history.repeated:
        yield t("report.repeated"), str(history.repeated)
    yield t("report.first-loss"), number(history.base_loss)
    yield t("report.final-loss"), number(outcome["final_loss"])
    if lowest := history.lowest_evaluation:
        yield t("report.evaluation"), t("report.at-step", value=number(lowest.loss), step=lowest.step)
    yield t("report.trained-tokens"), f"{history.trained_tokens:,}"
    yield t("report.speed"), number(outcome["tokens_per_second"], ".0f")
    yield t("report.memory"), _memory(history, lock)
    for name in ("adapter_sha256", "output_sha256"):
        if outcome.get(name):
            yield name, f"`{outcome[name]}`"


def _memory(history: History, lock: Mapping[str, Any]) -> str:
    peak = f"{history.memory_bytes / 2**30:.1f} GiB"
    predicted = lock.get("predicted") or {}
    if not predicted:
        return peak
    low, high = (f"{edge / 2**30:.1f}" for edge in predicted["band"])
    return t(
        "report.memory-predicted", peak=peak, predicted=f"{predicted['peak_bytes'] / 2**30:.1f}", low=low, high=high
    )


def _ledger(run: RunFolder, history: History) -> str:
    state = run.read()
    rows = [
        (
            t(f"curve.phase-{entry.phase}"),
            short_duration(entry.seconds),
            f"{100 * entry.share:.0f} %",
            *([] if entry.cost is None else [f"{entry.cost:.2f}"]),
        )
        for entry in ledger(history, gpus=state.world_size, price=state.price)
    ]
    return _table(rows)


def _checkpoints(history: History) -> str:
    best = None if history.best is None else history.best.step
    losses = {each.step: each.loss for each in history.evaluations}
    rows = [
        (f"`{_cell(saved.path)}`", _loss(losses.get(saved.step)), t("report.best") if saved.step == best else "")
        for saved in history.checkpoints
    ]
    return _table(rows)


def _data(lock: Mapping[str, Any]) -> str:
    data = lock.get("data") or {}
    rows = [
        (
            _cell(source["name"]),
            source["format"],
            t("report.rows", usable=source["rows"]["usable"], total=source["rows"]["total"]),
            f"`{source['sha256'][:16]}`",
        )
        for source in data.get("sources", [])
    ]
    return _table(rows)


def _settings(lock: Mapping[str, Any]) -> str:
    """What is not simply the default."""
    rows = [
        (f"`{knob}`", f"`{_cell(str(choice['value']))}`", _cell(choice["reason"]))
        for knob, choice in sorted((lock.get("training") or {}).items())
        if choice["reason"] != t("reasons.default", "en")
    ]
    return _table(rows)


def _environment(lock: Mapping[str, Any]) -> str:
    packages = lock.get("packages") or {}
    hardware = {name: str(value) for name, value in (lock.get("hardware") or {}).items()}
    return _table((name, _cell(version)) for name, version in [*hardware.items(), *sorted(packages.items())])


def _next(run: RunFolder, outcome: Mapping[str, Any]) -> str:
    if outcome["status"] != FINISHED:
        told = problem(run, dict(outcome))
        commands = ["```sh", one_line(told.next() or "", PATH_LIMIT), "```"] if told.next() else []
        return "\n\n".join(filter(None, [_cell(told.expected() or "", PATH_LIMIT), "\n".join(commands)]))
    merge = [] if run.holds_model() else [f"finetui merge {run.name}"]
    bundle = shlex.quote(one_line(outcome["bundle"], PATH_LIMIT))
    return "\n".join(["```sh", *merge, f"finetui chat {run.name} --compare", f"finetui replay {bundle}", "```"])


def _headed(code: str, text: str) -> str:
    return f"## {t(code)}\n\n{text}" if text else ""


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """A table without a heading, which Markdown has as an empty one."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    if not lines:
        return ""
    columns = lines[0].count("|") - 1
    return "\n".join(["|" + " |" * columns, "|" + "---|" * columns, *lines])


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _loss(value: float | None) -> str:
    return "" if value is None else format(value, ".4f")


def _cell(text: str, longest: int = 300) -> str:
    """Foreign text as a cell of a table."""
    return one_line(text, longest).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def main() -> int:
    """Write the report of the run whose folder is named: a process of its own, so that no supervisor holds pictures."""
    try:
        write_report(RunFolder(Path(sys.argv[1])))
    except (OSError, FinetuiError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
