"""Records become the ids and labels that are trained, in parquet, one pass and flat memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.bundles.rows import UNTRAINED, Lengths, PartWriter, Row
from finetui.core.encode import EncodeError, Template, encode
from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import canonical_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Record = Mapping[str, Any]
Progress = Callable[[Mapping[str, Any]], None]
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
    seed: int
    """Chooses the evaluation rows."""
    eval_share: float = 0.0
    """Share of the rows that is kept for evaluation."""
    accept_rejected: bool = False
    """Go on where the template refuses more than one row in a hundred."""


@dataclass(frozen=True)
class Prepared:
    """What was written: a part of the lock each, `eval` None where no row is kept for it."""

    train: dict[str, Any]
    eval: dict[str, Any] | None
    set_aside: dict[str, int]
    warnings: tuple[Problem, ...]


def measure(records: Iterable[Record], tokenizer: Tokenizer, template: Template) -> Lengths:
    """The lengths of all rows uncut, for settings that depend on them; refused rows are left to `prepare`."""
    lengths = Lengths()
    for row in encode_rows(records, tokenizer, template):
        if isinstance(row, Row):
            lengths.add(row)
    return lengths


def encode_rows(records: Iterable[Record], tokenizer: Tokenizer, template: Template) -> Iterator[Row | EncodeError]:
    """Each record as a row, or why the template refuses it, in order."""
    for record in records:
        kept = {key: value for key, value in record.items() if not key.startswith("_")}
        try:
            encoded = encode(kept, tokenizer, template)
        except EncodeError as error:
            yield error
        else:
            yield Row(canonical_json(kept), list(encoded.input_ids), list(encoded.labels))


def prepare(
    records: Iterable[Record],
    tokenizer: Tokenizer,
    template: Template,
    rules: Rules,
    folder: Path,
    on_progress: Progress | None = None,
) -> Prepared:
    """Write `train.parquet`, and `eval.parquet` where rows are kept for it, into `folder`.

    Raises FinetuiError where no row is left, where an id has no embedding, or where too many rows are refused.
    """
    sieve = _Sieve(rules)
    with PartWriter(folder / "train.parquet") as train, PartWriter(folder / "eval.parquet") as held:
        for number, found in enumerate(encode_rows(records, tokenizer, template), 1):
            row = sieve.pass_through(number, found)
            if row is not None:
                (held if _is_held(row.record, rules) else train).add(row)
            if on_progress is not None and number % _REPORT_EVERY == 0:
                on_progress({"stage": "prepare", "done": number})
    sieve.judge(train.lengths.rows)
    return Prepared(
        train=train.facts(),
        eval=held.facts() if held.lengths.rows else None,
        set_aside={kind: sieve.counts[kind] for kind in ("refused", "untrained", "overlong")},
        warnings=sieve.warnings(),
    )


def _is_held(record: str, rules: Rules) -> bool:
    """Whether a row is kept for evaluation: by its content, so that copies of a row never stand on both sides."""
    if not rules.eval_share:
        return False
    drawn = hashlib.sha256(f"{rules.seed}:{record}".encode()).digest()
    return int.from_bytes(drawn[:8]) < rules.eval_share * 2**64


class _Sieve:
    """Applies the rules to one row after another, and remembers what for whom."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.refusals: list[Problem] = []
        self.total = 0

    def pass_through(self, number: int, found: Row | EncodeError) -> Row | None:
        """The row as it is trained, or None where it is set aside."""
        self.total += 1
        if isinstance(found, EncodeError):
            self._note("refused", number)
            if len(self.refusals) < _EXAMPLES:
                self.refusals.extend(_numbered(found, number))
            return None
        if found.ids and max(found.ids) >= self.rules.vocab_size:
            facts = {"row": number, "id": max(found.ids), "size": self.rules.vocab_size}
            raise FinetuiError(Problem("bundles.beyond-vocabulary", facts))
        if not found.trained():
            self._note("untrained", number)
            return None
        if self.rules.stop_ids and _last_trained(found) not in self.rules.stop_ids:
            self._note("unstopped", number)
        return self._shorten(number, found)

    def _shorten(self, number: int, row: Row) -> Row | None:
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
        """A problem for each thing that happened to rows, with how many and the first of them."""
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
