"""The rules by which rows are taken or dropped, each over all rows at once; they are applied in this order."""

from __future__ import annotations

from collections.abc import Sequence

from finetui.data.choose.facts import Facts

LEAK, DUPLICATE, NEAR_DUPLICATE = "leaks-split", "duplicate", "near-duplicate"
TOO_SHORT, TOO_LONG, NOT_DRAWN, WEIGHT = "too-short", "too-long", "not-drawn", "weight"
REASONS = (LEAK, TOO_SHORT, TOO_LONG, DUPLICATE, NEAR_DUPLICATE, NOT_DRAWN, WEIGHT)
"""Why rows are dropped, in the order of the rules."""
POOL = "why is null and part = 0"
"""Rows that are still there to be drawn from: not those that were given as evaluation or test."""


def drop_leaks(facts: Facts) -> None:
    """Drop what also stands in a part that is held out: of train what is in validation or test, of validation what is
    in test."""
    for part in (0, 1):
        facts.run(
            f"update rows set why = '{LEAK}' where why is null and part = ?"
            " and kin in (select kin from rows where part > ?)",
            part,
            part,
        )


def drop_duplicates(facts: Facts, *, near: bool) -> None:
    """Of rows that are the same (with `near`, nearly the same), keep one: by its hash, not by who was read first."""
    for column, why in (("body", DUPLICATE), ("kin", NEAR_DUPLICATE))[: 2 if near else 1]:
        facts.run(
            f"update rows set why = '{why}' where id in (select id from (select id, row_number() over"
            f" (partition by {column} order by mark) as place from rows where {POOL}) where place > 1)"
        )


def draw_samples(facts: Facts, count: int, draw: str) -> None:
    """Keep `count` rows of each dataset, those with the least hash; `draw` is the column that holds it."""
    facts.run(
        f"update rows set why = '{NOT_DRAWN}' where id in (select id from (select id, row_number() over"
        f" (partition by dataset order by {draw}, mark) as place from rows where {POOL}) where place > ?)",
        count,
    )


def weigh(facts: Facts, weights: Sequence[float], draw: str) -> None:
    """Take every row of a dataset as often as its weight says, a drawn share of them once more for what is beyond the
    point."""
    for dataset, weight in enumerate(weights):
        if weight == 1:
            continue
        (count,) = facts.run(f"select count(*) from rows where {POOL} and dataset = ?", dataset).fetchone()
        whole = int(weight)
        facts.run(f"update rows set copies = ? where {POOL} and dataset = ?", whole, dataset)
        facts.run(
            f"update rows set copies = copies + 1 where id in"
            f" (select id from rows where {POOL} and dataset = ? order by {draw}, mark limit ?)",
            dataset,
            round((weight - whole) * count),
        )
    facts.run(f"update rows set why = '{WEIGHT}' where {POOL} and copies = 0")
