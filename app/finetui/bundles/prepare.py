"""Records become the ids and labels that are trained, in parquet, one pass and flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.bundles.encoding import PartRecord, encoded_parts
from finetui.bundles.rows import UNTRAINED, PartWriter, Row
from finetui.core.encode import EncodeError, Template
from finetui.core.errors import FinetuiError, Problem
from finetui.data.sources.found import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Progress = Callable[[Mapping[str, Any]], None]
_FILES = {TRAIN: "train", VALIDATION: "eval", TEST: "test"}
_REFUSED_SHARE = 0.01
_EXAMPLES = 5
_REPORT_EVERY = 256


@dataclass(frozen=True)
class Rules:
    """What becomes of rows that are not trained as they are."""

    max_length: int
    """Tokens beyond this are not trained."""
    overlong: str
    """`drop` or `cut`, for rows that would lose trained tokens."""
    vocab_size: int
    """Ids from here on have no embedding."""
    stop_ids: tuple[int, ...]
    """One of these should be the last trained token of a row."""
    accept_rejected: bool = False
    """Go on where the template refuses more than one row in a hundred."""


@dataclass(frozen=True)
class Prepared:
    """What was written: a part of the lock each, None where no row is kept for it."""

    train: dict[str, Any]
    eval: dict[str, Any] | None
    test: dict[str, Any] | None
    set_aside: dict[str, int]
    warnings: tuple[Problem, ...]


def prepare(
    records: Iterable[PartRecord],
    tokenizer: Tokenizer,
    template: Template,
    rules: Rules,
    folder: Path,
    on_progress: Progress | None = None,
    processes: int = 1,
) -> Prepared:
    """Write `train.parquet` into `folder`, and `eval.parquet` and `test.parquet` where rows are kept for them.

    Raises FinetuiError where no row is left, where an id has no embedding, or where too many rows are refused.
    """
    sieve = _Sieve(rules)
    asked: set[str] = set()
    with ExitStack() as stack:
        parts = {part: stack.enter_context(PartWriter(folder / f"{name}.parquet")) for part, name in _FILES.items()}
        for number, (part, found) in enumerate(encoded_parts(records, tokenizer, template, processes), 1):
            asked.add(part)
            for row in sieve.pass_through(number, found):
                parts[part].add(row)
            if on_progress is not None and number % _REPORT_EVERY == 0:
                on_progress({"stage": "prepare", "done": number})
    written = {part: writer.facts() for part, writer in parts.items() if writer.rows}
    sieve.judge(parts[TRAIN].rows)
    empty = (Problem("choose.part-empty", {"part": part}) for part in _FILES if part in asked and part not in written)
    return Prepared(
        train=written[TRAIN],
        eval=written.get(VALIDATION),
        test=written.get(TEST),
        set_aside={kind: sieve.counts[kind] for kind in ("refused", "untrained", "overlong")},
        warnings=(*sieve.warnings(), *empty),
    )


class _Sieve:
    """Applies the rules to one row after another, and remembers what for whom."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.refusals: list[Problem] = []
        self.total = 0

    def pass_through(self, number: int, found: list[Row] | EncodeError) -> Iterator[Row]:
        """What is trained of record `number`."""
        self.total += 1
        if isinstance(found, EncodeError):
            self._note("refused", number)
            if len(self.refusals) < _EXAMPLES:
                self.refusals.extend(_numbered(found, number))
            return
        for row in found:
            yield from self._judged(number, row)

    def _judged(self, number: int, row: Row) -> Iterator[Row]:
        if row.ids and max(row.ids) >= self.rules.vocab_size:
            facts = {"row": number, "id": max(row.ids), "size": self.rules.vocab_size}
            raise FinetuiError(Problem("bundles.beyond-vocabulary", facts))
        if not row.trained():
            self._note("untrained", number)
            return
        if self.rules.stop_ids and _last_trained(row) not in self.rules.stop_ids:
            self._note("unstopped", number)
        short = self._shortened(number, row)
        if short is not None:
            yield short

    def _shortened(self, number: int, row: Row) -> Row | None:
        limit = self.rules.max_length
        if len(row.ids) <= limit:
            return row
        short = row.cut(limit)
        if short.trained() == row.trained():
            return short
        if self.rules.overlong == "cut" and short.trained():
            self._note("cut", number)
            return short
        self._note("overlong", number)
        return None

    def _note(self, kind: str, number: int) -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, number)

    def judge(self, train_rows: int) -> None:
        """Raise FinetuiError where nothing is left to train, or where more rows are refused than may be."""
        refused = self.counts["refused"]
        facts = {"count": refused, "total": self.total}
        if not train_rows:
            left = {kind: self.counts[kind] for kind in ("refused", "untrained", "overlong")}
            raise FinetuiError([Problem("bundles.no-rows", {"total": self.total, **left}), *self.refusals])
        if refused > _REFUSED_SHARE * self.total and not self.rules.accept_rejected:
            raise FinetuiError([Problem("bundles.too-many-refused", facts), *self.refusals])

    def warnings(self) -> tuple[Problem, ...]:
        """A problem for each thing that happened to rows: how often, and in which record first."""
        common = {"total": self.total, "max_length": self.rules.max_length}
        return tuple(
            Problem(f"bundles.rows-{kind}", {"count": self.counts[kind], "row": self.first[kind], **common})
            for kind in ("refused", "untrained", "overlong", "cut", "unstopped")
            if self.counts[kind]
        )


def _last_trained(row: Row) -> int:
    return next(label for label in reversed(row.labels) if label != UNTRAINED)


def _numbered(error: EncodeError, number: int) -> Iterator[Problem]:
    for problem in error.problems:
        yield Problem("bundles.refused-row", {"row": number, "detail": problem.message()})
