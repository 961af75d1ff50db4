"""What choosing needs to know of every usable row, in a database that lives on disk while it is used.

A row is told by seeded 64-bit hashes of its content, so the same seed draws the same rows on every machine, whatever
the order in which files are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple

from finetui.core.errors import MACHINE, FinetuiError, Problem
from finetui.data.sources.found import PARTS

_CACHE_KIB = 32 << 10
_WAITING = 4096
_TABLE = """
create table rows (
    id integer primary key,  -- place in the order of reading, from 1
    file integer not null,   -- which file, from 0
    number integer not null, -- which row of it, from 1
    dataset integer not null,
    part integer not null,   -- index of `PARTS`
    body integer not null,   -- hash of the conversation, without meta
    kin integer not null,    -- the same for rows that are to be taken for one: body, until near duplicates are joined
    mark integer not null,   -- hash of the whole row and its number: distinct also for duplicates
    grp integer not null,    -- the same for rows that a split keeps together
    why text,                -- why the row is dropped; null where it is taken
    copies integer not null default 1
)
"""


class Fact(NamedTuple):
    """One usable row."""

    file: int
    """Index of its file."""
    number: int
    """Row of that file, from 1."""
    dataset: int
    """Index of its dataset."""
    part: int
    """Index of `PARTS`."""
    body: int
    mark: int
    group: int | None
    """What keeps it together with others in a split; None for its conversation alone."""
    why: str | None
    """Why it is dropped at first sight."""


class Fate(NamedTuple):
    """What becomes of one row."""

    id: int
    """Its place in the order of reading, from 1."""
    part: str
    why: str | None
    """Why it is dropped; None where it is taken."""
    copies: int
    """How often it is written."""


class Hasher:
    """64-bit hashes (signed, as SQLite keeps integers) that depend on a seed."""

    def __init__(self, seed: int) -> None:
        self._seeded = blake2b(digest_size=8, key=str(seed).encode())

    def __call__(self, *parts: bytes) -> int:
        """The hash of these bytes, each told apart from the next by its length."""
        digest = self._seeded.copy()
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return int.from_bytes(digest.digest(), "little", signed=True)

    def onto(self, number: int, *parts: bytes) -> int:
        """The hash of a hash, and of more."""
        return self(number.to_bytes(8, "little", signed=True), *parts)


class Facts:
    """The rows of one input; `database` is open to the rules that decide on them."""

    def __init__(self) -> None:
        with naming_the_disk():
            self.database = sqlite3.connect("", isolation_level=None)  # a file of its own, gone when it is closed
            self.database.execute("pragma journal_mode = off")
            self.database.execute("pragma temp_store = file")
            self.database.execute(f"pragma cache_size = -{_CACHE_KIB}")
            self.database.execute(_TABLE)
            self.database.execute("begin")
        self._waiting: list[tuple[object, ...]] = []
        self.rows = 0

    def add(self, fact: Fact) -> int:
        """Take in one row, in the order of reading; its id, from 1."""
        self.rows += 1
        group = fact.body if fact.group is None else fact.group
        self._waiting.append((self.rows, *fact[:4], fact.body, fact.body, fact.mark, group, fact.why))
        if len(self._waiting) >= _WAITING:
            self.flush()
        return self.rows

    def flush(self) -> None:
        """Write what waits; the rules see it only then."""
        with naming_the_disk():
            self.database.executemany(
                "insert into rows (id, file, number, dataset, part, body, kin, mark, grp, why)"
                " values (?,?,?,?,?,?,?,?,?,?)",
                self._waiting,
            )
        self._waiting.clear()

    def rename(self, column: str, names: Mapping[int, int]) -> None:
        """Give the rows that bear a name (a value of `column`) another one."""
        with naming_the_disk():
            self.database.execute("create temp table renamed (old integer primary key, new integer not null)")
            self.database.executemany("insert into renamed values (?, ?)", names.items())
            self.database.execute(
                f"update rows set {column} = (select new from renamed where old = {column})"
                f" where {column} in (select old from renamed)"
            )
            self.database.execute("drop table renamed")

    def join(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Make kin of rows that are nearly the same: pairs of ids, the second of which stands for all of its kin.

        Kin are named by the least hash among them, so that the name does not depend on who was read first.
        """
        with naming_the_disk():
            self.database.execute("create temp table alike (id integer primary key, first integer not null)")
            both = (pair for id, first in pairs for pair in ((id, first), (first, first)))
            self.database.executemany("insert or ignore into alike values (?, ?)", both)
            self.database.execute(
                "create temp table names as select first, min(body) as name"
                " from alike join rows using (id) group by first order by first"
            )
            self.database.execute("create unique index temp.by_first on names (first)")
            self.database.execute(
                "update rows set kin = (select name from alike join names using (first) where alike.id = rows.id)"
                " where id in (select id from alike)"
            )
            self.database.execute("drop table alike")
            self.database.execute("drop table names")

    def run(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Execute one statement of SQL."""
        with naming_the_disk():
            return self.database.execute(statement, values)

    def fates(self) -> Iterator[Fate]:
        """What becomes of each row, in the order of reading."""
        with naming_the_disk():
            for id, part, why, copies in self.database.execute("select id, part, why, copies from rows order by id"):
                yield Fate(id, PARTS[part], why, copies)

    def counts(self) -> Iterator[tuple[str, str | None, int, int]]:
        """Part, reason of dropping or None, rows, and rows written, for each pair that occurs."""
        query = "select part, why, count(*), sum(copies) from rows group by part, why order by part, why"
        with naming_the_disk():
            for part, why, rows, copies in self.database.execute(query).fetchall():
                yield PARTS[part], why, rows, copies

    def twin(self, id: int) -> tuple[int, int] | None:
        """File and row of the first row of another part that a dropped row is the same as."""
        query = (
            "select other.file, other.number from rows as one join rows as other"
            " on other.kin = one.kin and other.part > one.part where one.id = ? order by other.id limit 1"
        )
        with naming_the_disk():
            found: tuple[int, int] | None = self.database.execute(query, (id,)).fetchone()
        return found

    def close(self) -> None:
        """Give the disk back."""
        self.database.close()


def roots(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """For every name in `pairs`, the least of those that it is joined with, directly or through others."""
    above: dict[int, int] = {}

    def root(name: int) -> int:
        top = above.setdefault(name, name)
        while top != above[top]:
            top = above[top]
        while name != top:
            above[name], name = top, above[name]
        return top

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        above[high] = low
    return {name: root(name) for name in list(above)}


@contextmanager
def naming_the_disk() -> Iterator[None]:
    """A full disk under the database as an error that says so.

    Raises FinetuiError (exit 5).
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FinetuiError(Problem("choose.no-disk", {"error": str(error)}), MACHINE) from error
