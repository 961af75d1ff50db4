"""Drawing validation and test rows: whole groups, so that what belongs together never stands on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

from finetui.core.errors import FinetuiError, Problem
from finetui.data.choose.choosing import Choosing
from finetui.data.choose.facts import Facts, Hasher, naming_the_disk, roots
from finetui.data.choose.rules import POOL
from finetui.data.sources.found import PARTS, TEST, TRAIN, VALIDATION


def split(facts: Facts, choosing: Choosing, hasher: Hasher) -> None:
    """Draw the parts that were asked for: test first, so that it stays the same when only validation changes.

    Raises FinetuiError where a part stays empty, or where nothing is left to train.
    """
    asked = {TEST: choosing.test_size, VALIDATION: choosing.val_size}
    if not any(asked.values()):
        return
    (rows,) = facts.run(f"select count(*) from rows where {POOL}").fetchone()
    wanted = {part: _count(size, rows) for part, size in asked.items() if size}
    if sum(wanted.values()) >= rows:
        raise FinetuiError(Problem("choose.split-too-large", {"asked": sum(wanted.values()), "rows": rows}))
    _join_groups(facts)
    facts.database.create_function("mixed", 1, hasher.onto, deterministic=True)
    facts.run("create temp table drawn (grp integer primary key, part integer not null)")
    had = dict.fromkeys(wanted, 0)
    with naming_the_disk():
        facts.database.executemany("insert into drawn values (?, ?)", _draw(facts, wanted, had))
    had[TRAIN] = rows - sum(had.values())
    if empty := [part for part in had if not had[part]]:
        raise FinetuiError(Problem("choose.groups-too-large", {"part": ", ".join(empty), "rows": rows}))
    facts.run(
        f"update rows set copies = 1, part = (select part from drawn where drawn.grp = rows.grp)"
        f" where {POOL} and grp in (select grp from drawn)"
    )


def _count(size: float, rows: int) -> int:
    return max(1, round(size * rows)) if size < 1 else int(size)


def _join_groups(facts: Facts) -> None:
    """Make one of groups that hold the same conversation."""
    shared = facts.run(
        f"select distinct kin, grp from rows where {POOL} and kin in (select kin from rows where {POOL}"
        " group by kin having min(grp) != max(grp)) order by kin"
    )
    links = (pair for _, found in groupby(shared, lambda row: row[0]) for pair in pairwise(group for _, group in found))
    facts.rename("grp", roots(links))


def _draw(facts: Facts, wanted: dict[str, int], had: dict[str, int]) -> Iterator[tuple[int, int]]:
    """Groups and the part that each goes to, in the order of their hashes until every part has what it wants.

    A group is passed over where it would carry a part farther from its size than it is.
    """
    waiting = list(wanted)
    for group, size in facts.run(f"select grp, count(*) from rows where {POOL} group by grp order by mixed(grp)"):
        part = waiting[0]
        missing = wanted[part] - had[part]
        if size > 2 * missing or (size == 2 * missing and had[part]):
            continue
        had[part] += size
        yield group, PARTS.index(part)
        if had[part] >= wanted[part]:
            waiting.remove(part)
            if not waiting:
                return
