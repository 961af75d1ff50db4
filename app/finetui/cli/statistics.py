"""The figures of a dataset in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.cli.describe import add_fact, add_problem
from finetui.core.errors import Problem
from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from finetui.data.profile.lengths import Cut
    from finetui.data.profile.statistics import Statistics

_BAR = 24
"""Characters of the longest bar."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LANGUAGES = 6
_EXAMPLES = 2


def describe_statistics(found: Statistics) -> Table:
    """A label and a fact a line: rows, what they are, how long, what is cut, what is odd."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    _add_rows(table, found)
    measures = found.profile.measures
    add_fact(table, _name("kind"), _shares(measures.kinds, "kind"), "bold")
    if measures.turns:
        add_fact(table, _name("turns"), _spread(measures.turns))
        roles = " · ".join(f"{one_line(role)} {count:,}" for role, count in measures.roles.most_common())
        add_fact(table, _name("roles"), roles)
    if measures.languages:
        add_fact(table, _name("languages"), _shares(measures.languages, "lang"))
    if found.lengths.rows:
        _add_lengths(table, found)
        _add_cuts(table, found)
    _add_odd(table, found)
    for problem in found.problems():
        add_problem(table, problem)
    return table


def _add_rows(table: Table, found: Statistics) -> None:
    add_fact(table, _name("rows"), t("profile.rows", **_numbers(found.counts)))
    for part, rows in found.outcome.kept.items():
        if part != "train":
            add_fact(table, "", t("profile.held-out", rows=f"{rows:,}", part=t(f"choose.part-{part}")))
    facts = _numbers({"measured": found.profile.measures.rows, "rows": found.profile.rows})
    add_fact(table, "", t("profile.exact" if found.profile.exact else "profile.sampled", **facts))


def _add_lengths(table: Table, found: Statistics) -> None:
    from finetui.data.profile import lengths as figures

    tokens, trained = found.lengths.tokens, found.lengths.trained
    shown = {}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        low, high = figures.percentile_interval(tokens, share, found.population)
        shown[name] = _within(figures.percentile(tokens, share), low, high)
    add_fact(table, _name("tokens"), t("profile.spread", **shown, max=f"{max(tokens):,}"))
    total, (low, high) = found.total(tokens)
    add_fact(table, "", t("profile.tokens-in-all", total=_about(total, low, high)))
    for side, lengths in found.profile.measures.sides.items():
        if len(found.profile.measures.sides) > 1:
            add_fact(table, "", f"{t(f'profile.side-{side}')}: {_spread(lengths.tokens)}")
    learned = f"{figures.total(trained) / max(1, figures.total(tokens)):.0%}"
    add_fact(table, _name("trained"), t("profile.trained-share", share=learned, spread=_spread(trained)))
    bins = figures.bins(tokens)
    most = max(rows for _, _, rows in bins)
    width = len(f"{bins[-1][0]:,}–{bins[-1][1]:,}")
    for number, (first, last, rows) in enumerate(bins):
        span = f"{first:,}–{last:,}" if last > first else f"{first:,}"
        add_fact(table, "" if number else _name("lengths"), f"{span:>{width}} {_bar(rows / most)} {rows:,}")


def _add_cuts(table: Table, found: Statistics) -> None:
    """What the cutoff loses that was asked about; of the usual ones a line each."""
    from finetui.data.profile import lengths as figures

    trained = max(1, figures.total(found.lengths.trained))
    for number, cut in enumerate(found.cuts()):
        label, limit = "" if number else _name("cutoff"), f"{cut.max_length:,}"
        share = _percent(*figures.share_interval(cut.rows, found.lengths.rows, found.population))
        lost = {"answers": f"{cut.answers:,}", "tokens": f"{cut.tokens / trained:.1%}"}
        if not cut.rows:
            add_fact(table, label, t("profile.cut-nothing", limit=limit))
        elif found.max_length is None:
            answers = f"{found.lengths.starts.total():,}"
            add_fact(table, label, t("profile.cut-short", limit=limit, share=share, all=answers, **lost))
        else:
            facts = {"limit": limit, "rows": f"{cut.rows:,}", "losing": f"{cut.losing:,}"}
            add_fact(table, label, t("profile.cut-rows", **facts, share=share))
            _add_loss(table, cut, trained)


def _add_loss(table: Table, cut: Cut, trained: int) -> None:
    if cut.losing:
        lost = {"answers": f"{cut.answers:,}", "broken": f"{cut.broken:,}", "emptied": f"{cut.emptied:,}"}
        tokens = {"tokens": f"{cut.tokens:,}", "share": f"{cut.tokens / trained:.1%}"}
        add_fact(table, "", t("profile.cut-loss", **lost, **tokens), "yellow")


def _add_odd(table: Table, found: Statistics) -> None:
    from finetui.data.profile.statistics import ODD

    for code in ODD:
        odd = found.odd(code)
        if not odd["count"]:
            continue
        facts = {"count": f"{odd['count']:,}", "share": _percent(*odd["share"])}
        add_fact(table, _name(code), t("profile.odd", **facts, meaning=t(f"profile.means-{code}")), "red")
        for example in odd["examples"][:_EXAMPLES]:
            where = f"{Path(example['file']).name}:{example['line'] or example['row']}"
            add_fact(table, "", one_line(f"  {where}  {_detail(code, example)}".rstrip(), 160))


def _detail(code: str, example: dict[str, Any]) -> str:
    if code == "refused":
        return Problem.from_wire(example["problem"]).message()
    return str(example.get("token", ""))


def _numbers(counts: dict[str, int]) -> dict[str, str]:
    return {name: f"{count:,}" for name, count in counts.items()}


def _name(name: str) -> str:
    return t(f"profile.name-{name}")


def _shares(counts: Counter[str], prefix: str) -> str:
    total = counts.total()
    most = counts.most_common(_LANGUAGES)
    shown = [f"{t(f'profile.{prefix}-{name}')} {_share(count / total)}" for name, count in most]
    return " · ".join(shown) + (" · …" if len(counts) > len(most) else "")


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"


def _percent(low: float, high: float) -> str:
    return _share(low) if low == high else f"{low:.1%}–{high:.1%}"


def _spread(counts: Counter[int]) -> str:
    from finetui.data.profile.lengths import percentile

    shown = {"p50": f"{percentile(counts, 0.5):,}", "p95": f"{percentile(counts, 0.95):,}"}
    return t("profile.spread", **shown, max=f"{max(counts):,}")


def _within(value: int, low: int, high: int) -> str:
    return f"{value:,}" if low == high else t("profile.within", value=f"{value:,}", low=f"{low:,}", high=f"{high:,}")


def _about(value: int, low: int, high: int) -> str:
    return f"{value:,}" if low == high else t("profile.about", value=f"{value:,}", low=f"{low:,}", high=f"{high:,}")


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return bar or ("▏" if share else "")
