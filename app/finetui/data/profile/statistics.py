"""Everything that can be said of a dataset under one model: what `preview --stats` answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from finetui.core.errors import FinetuiError
from finetui.data.choose.choosing import EVERYTHING
from finetui.data.choose.chosen import open_datasets
from finetui.data.choose.selection import Outcome, Selection
from finetui.data.problems import EXAMPLES, Tally
from finetui.data.profile import lengths as figures
from finetui.data.profile.lengths import Cut, Lengths
from finetui.data.profile.profiles import Profile, Progress, profile
from finetui.data.reader import Input, open_input
from finetui.data.reading import AS_DETECTED, Reading
from finetui.data.results import over_limit
from finetui.data.sources.find import Spec
from finetui.data.sources.found import TRAIN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finetui.core.encode import Template

ODD = ("refused", "no-trained-token", "unstopped")
"""What is counted of rows under the model, the worst first."""
_CUTOFFS = tuple(256 << step for step in range(10))
_SHOWN_CUTOFFS = 4


@dataclass(frozen=True)
class Statistics:
    """The figures of one dataset."""

    profile: Profile
    """Of the rows that are trained."""
    tally: Tally
    """Row problems of all rows, set aside ones among them."""
    counts: dict[str, int]
    """Rows: `total`, `usable`, `rejected`, `repaired`."""
    outcome: Outcome
    """What is held out for evaluation, and what leaks."""
    lengths: Lengths
    """The lengths of all sides of all measured rows."""
    max_length: int | None = None
    """The cutoff that was asked about."""

    @property
    def population(self) -> int:
        """How many encoded rows all of the data would make; the measured ones, where all were measured."""
        measured = self.profile.measures.rows
        return round(self.lengths.rows * self.profile.rows / measured) if measured else 0

    def total(self, counts: Counter[int]) -> tuple[int, tuple[int, int]]:
        """The sum over all rows, by what the measured ones come to, and where it lies with 95 % certainty."""
        low, high = figures.total_interval(counts, self.population)
        return (low + high) // 2, (low, high)

    def cuts(self) -> list[Cut]:
        """What the cutoff takes away that was asked about; else what the usual ones would that cut anything."""
        if self.max_length is not None:
            return [self.lengths.cut(self.max_length)]
        return [self.lengths.cut(limit) for limit in _CUTOFFS if limit < self.lengths.longest][-_SHOWN_CUTOFFS:]

    def odd(self, code: str) -> dict[str, Any]:
        """How often something odd was met in the measured rows, in what share of all, and where."""
        measures, places = self.profile.measures, self.profile.places
        share = figures.share_interval(measures.counts[code], measures.rows, self.profile.rows)
        found = [{**places[number].to_json(), **fact} for number, fact in measures.examples.get(code, ())]
        return {"count": measures.counts[code], "share": _rounded(share), "examples": found}

    def problems(self) -> list[dict[str, Any]]:
        """Row problems of the whole data, then those under the cutoff, which are counted in the measured rows alone."""
        if self.max_length is None:
            return self.tally.to_json()
        cut, measures = self.lengths.cut(self.max_length), self.profile.measures
        found = (("answer-truncated", cut.losing, measures.latest), ("too-long", cut.rows, measures.longest))
        told = [
            {"code": code, "count": count, "measured": measures.rows, "examples": self._beyond(self.max_length, far)}
            for code, count, far in found
            if count
        ]
        return [*self.tally.to_json(), *told]

    def to_json(self) -> dict[str, Any]:
        """The contract of `finetui preview --stats --json`."""
        measures, lengths = self.profile.measures, self.lengths
        held = {part: rows for part, rows in self.outcome.kept.items() if part != TRAIN}
        tokens, interval = self.total(lengths.tokens)
        p50, p95 = (figures.percentile_interval(lengths.tokens, share, self.population) for share in (0.5, 0.95))
        return {
            "rows": {**self.counts, "measured": measures.rows, "held_out": held},
            "exact": self.profile.exact,
            "kinds": dict(measures.kinds),
            "turns": figures.spread(measures.turns),
            "roles": dict(measures.roles.most_common()),
            "languages": dict(measures.languages.most_common()),
            "tokens": {
                **figures.spread(lengths.tokens),
                "p50_interval": p50,
                "p95_interval": p95,
                "total": tokens,
                "total_interval": interval,
                "trained": self.total(lengths.trained)[0],
            },
            "trained": figures.spread(lengths.trained),
            "histogram": [{"from": low, "to": high, "rows": rows} for low, high, rows in figures.bins(lengths.tokens)],
            "sides": {side: figures.spread(found.tokens) for side, found in measures.sides.items()},
            "cutoffs": [self._cut_json(cut) for cut in self.cuts()],
            **{code.replace("-", "_"): self.odd(code) for code in ODD},
            "problems": self.problems(),
        }

    def _cut_json(self, cut: Cut) -> dict[str, Any]:
        rows, trained = self.lengths.rows, figures.total(self.lengths.trained)
        share = figures.share_interval(cut.rows, rows, self.population)
        of = {"rows": rows, "tokens": trained, "answers": self.lengths.starts.total()}
        return {**asdict(cut), "of": of, "share": _rounded(share)}

    def _beyond(self, limit: int, far: Iterable[tuple[int, int]]) -> list[dict[str, Any]]:
        places = self.profile.places
        return [{**places[number].to_json(), "detail": f"{size} > {limit}"} for size, number in far if size > limit]


def statistics(
    specs: Sequence[Spec],
    tokenizer: Tokenizer,
    template: Template,
    reading: Reading = AS_DETECTED,
    *,
    evaluation: Sequence[Spec] = (),
    max_length: int | None = None,
    sample: int | None = None,
    processes: int = 1,
    on_progress: Progress | None = None,
) -> Statistics:
    """Read the data once (twice where some of it is held out), and measure its rows or `sample` of them.

    Raises FinetuiError where the data cannot be read or converted, or where nothing of it is usable.
    """
    read = open_input(specs, reading, evaluation)
    selection = Selection([read] if read.converts else open_datasets(specs, reading, evaluation), EVERYTHING)
    trained = (chosen.record for chosen in selection.rows() if chosen.part == TRAIN)
    found = profile(trained, tokenizer, template, sample=sample, processes=processes, on_progress=on_progress)
    inputs = selection.inputs
    if refused := [problem for read in inputs for problem in over_limit(read, accepted=True)]:
        raise FinetuiError(refused)
    counts = {name: sum(getattr(read, name) for read in inputs) for name in ("total", "usable", "repaired")}
    counts["rejected"] = counts["total"] - counts["usable"]
    return Statistics(found, _together(inputs), counts, selection.outcome, found.measures.lengths(), max_length)


def _together(inputs: Iterable[Input]) -> Tally:
    """The tallies of all inputs as one."""
    merged = Tally()
    for tally in (read.tally for read in inputs):
        for code, count in tally.counts.items():
            merged.counts[code] = merged.counts.get(code, 0) + count
            merged.examples[code] = [*merged.examples.get(code, []), *tally.examples[code]][:EXAMPLES]
    return merged


def _rounded(share: tuple[float, float]) -> list[float]:
    return [round(bound, 6) for bound in share]
