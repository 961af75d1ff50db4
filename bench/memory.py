"""Predicted memory beside published measurements: the error of every row, and what it comes to.

    python bench/memory.py [FIGURES.csv] > bench/results/memory.md

Judged are measurements of a stated job on one GPU by transformers' Trainer with peft and bitsandbytes, which is what
finetui runs; the others are shown where they can be predicted, and count for nothing.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from memory_rows import GIB, Row, read_held_out, read_rows

from finetui.hardware.memory.predict import Prediction, predict

FIGURES = Path(__file__).parents[2] / "shared" / "memory-figures.csv"
CARDS = {"24 GB": 24 * GIB, "40 GB": 40 * GIB, "80 GB": 80 * GIB}


_INTRODUCTION = """# Predicted memory beside published measurements

`python bench/memory.py` over the published figures; the formula alone, from configuration and job. Judged: measurements
of a stated job on one GPU by transformers' Trainer with peft and bitsandbytes. A false fit is a card of 24, 40 or 80 GB
that the upper edge of the band would fit, where more was measured. Held out: rows of one of the pages that no constant
was fitted to.

The pages differ in what they read. Qwen and LLaMA-Factory: the whole process, in GB. ms-swift: the most that the
allocator ever reserved over rows of 91 to 19 548 tokens, in GiB, which is two to four times what a step needs on a
roomy card. litgpt: the most that was allocated.
"""


@dataclass(frozen=True)
class Compared:
    """A row with its prediction."""

    row: Row
    prediction: Prediction

    @property
    def error(self) -> float | None:
        """Predicted by measured, less one; None where the run did not fit."""
        return self.prediction.total_bytes / self.row.measured - 1 if self.row.measured else None

    @property
    def inside(self) -> bool:
        """Whether what was measured lies in the band."""
        low, high = self.prediction.band
        return self.row.measured is not None and low <= self.row.measured <= high


@dataclass(frozen=True)
class Summary:
    """What the errors of some rows come to; shares of 1."""

    rows: int
    median: float
    within: float
    """Share within 20 %."""
    low: float
    """Share predicted more than 10 % too low."""
    inside: float
    """Share inside the band."""
    false_fits: int
    """Pairs of a row and a card said to fit at the band's upper edge, and measured above."""
    decisions: int


def compare(rows: Sequence[Row]) -> list[Compared]:
    """Predict every row that says enough."""
    return [Compared(row, _as_measured(row)) for row in rows if row.job is not None]


def _as_measured(row: Row) -> Prediction:
    """What the publisher would have read: where that is the allocator's figure, without what it never sees."""
    assert row.shape is not None
    assert row.job is not None
    found = predict(row.shape, row.job, "a100-80g")
    if row.process:
        return found
    low, high = found.band
    outside = found.outside_bytes
    return replace(found, total_bytes=found.total_bytes - outside, band=(low - outside, high - outside))


def summarise(compared: Sequence[Compared]) -> Summary:
    """Sum up the rows that have a figure; runs that did not fit count among the decisions about their card."""
    errors = [pair.error for pair in compared if pair.error is not None]
    wrong = [(pair, card) for pair in compared for card in CARDS if _false_fit(pair, card)]
    return Summary(
        rows=len(errors),
        median=statistics.median(abs(error) for error in errors),
        within=sum(abs(error) <= 0.2 for error in errors) / len(errors),
        low=sum(error < -0.1 for error in errors) / len(errors),
        inside=sum(pair.inside for pair in compared) / len(errors),
        false_fits=len(wrong),
        decisions=len(errors) * len(CARDS) + sum(pair.error is None for pair in compared),
    )


def _false_fit(pair: Compared, card: str) -> bool:
    if not pair.prediction.fits(CARDS[card]):
        return False
    if pair.row.measured is None:
        return card == "40 GB"  # the card that they did not fit
    return pair.row.measured > CARDS[card]


def main() -> None:
    """Print the tables as Markdown."""
    compared = compare(read_rows(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES))
    judged = [pair for pair in compared if pair.row.judged]
    print(_INTRODUCTION)
    print("| rows | number | median error | within 20 % | over 10 % too low | inside the band | false fits |")
    print("|---|---|---|---|---|---|---|")
    for name, group in {"judged": judged, **_by_publisher(judged)}.items():
        print(_summary_line(name, group))
    others = [pair for pair in compared if not pair.row.judged and pair.error is not None]
    for name, group in _by_publisher(others).items():
        print(_summary_line(f"not judged: {name}", group))
    held_out = compare(read_held_out())
    print(_summary_line("held out: ms-swift", held_out))
    print("\n## Judged\n")
    _print_rows(judged)
    print("\n## Held out\n")
    _print_rows(held_out)
    print("\n## Not judged\n")
    _print_rows([pair for pair in compared if not pair.row.judged])


def _by_publisher(compared: Sequence[Compared]) -> dict[str, list[Compared]]:
    groups: dict[str, list[Compared]] = {}
    for pair in compared:
        groups.setdefault(" ".join(filter(None, (pair.row.publisher, pair.row.why))), []).append(pair)
    return groups


def _summary_line(name: str, group: Sequence[Compared]) -> str:
    found = summarise(group)
    shares = " | ".join(f"{share:.1%}" for share in (found.median, found.within, found.low, found.inside))
    return f"| {name} | {found.rows} | {shares} | {found.false_fits} of {found.decisions} |"


def _print_rows(compared: Sequence[Compared]) -> None:
    print("| row | publisher | model | job | measured GiB | predicted GiB | error | band GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for pair in compared:
        row, (low, high) = pair.row, pair.prediction.band
        measured = f"{row.measured / GIB:.2f}" if row.measured else "did not fit"
        error = f"{pair.error:+.1%}" if pair.error is not None else ""
        print(
            f"| {row.number} | {row.publisher} | {row.model} | {row.what} | {measured} "
            f"| {pair.prediction.total_bytes / GIB:.2f} | {error} | {low / GIB:.1f} to {high / GIB:.1f} |"
        )


if __name__ == "__main__":
    main()
