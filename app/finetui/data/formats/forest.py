"""Messages joined to trees by the ids of their parents, on disk, so that a file of any size takes little memory."""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

LONGEST = 1000
"""Messages of a thread; a longer one is a fault of the data, and would take time that grows with its square."""
_CACHE_KIB = 32_768
_COLUMNS = "m.seq, m.id, m.parent, m.answers, m.repaired, m.body, m.line, m.byte"
_WITHOUT_PARENT = "m LEFT JOIN message p ON p.id = m.parent WHERE p.seq IS NULL"
Item = TypeVar("Item")


class Node(NamedTuple):
    """One message of the forest."""

    seq: int
    """Its place in the order of the file."""
    id: str
    parent: str | None
    answers: bool
    """Whether an assistant says it."""
    repaired: bool
    body: bytes
    """The message as JSON."""
    line: int | None
    byte: int | None


class Forest:
    """The messages of one input in a temporary database that vanishes with its connection.

    Used as a context, in which a database that cannot be written raises OSError.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(
            "CREATE TABLE message (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, parent TEXT, answers INT, repaired INT,"
            " body BLOB, line INT, byte INT)"
        )
        self._database.execute("BEGIN")
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            code = errno.ENOSPC if "full" in str(error) else errno.EIO
            raise OSError(code, str(error), tempfile.gettempdir()) from error

    def add(self, node: Node) -> bool:
        """Add a message, whose `seq` is given here; False where its id is taken already."""
        added = self._database.execute(
            "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (self._count, *node[1:])
        ).rowcount
        self._count += added
        return added == 1

    def roots(self) -> Iterator[Node]:
        """The messages without a parent in the forest, in the order of the file; no message can be added afterwards."""
        self._database.execute("CREATE INDEX by_parent ON message (parent, seq)")
        return self._found(f"SELECT {_COLUMNS} FROM message {_WITHOUT_PARENT} ORDER BY m.seq")

    def children(self, node: Node) -> Iterator[Node]:
        """The replies to a message, in the order of the file, one looked up at a time."""
        query = f"SELECT {_COLUMNS} FROM message m WHERE m.parent = ? AND m.seq > ? ORDER BY m.seq LIMIT 1"
        before = -1
        while found := next(self._found(query, node.id, before), None):
            yield found
            before = found.seq

    def rootless(self) -> Iterator[Node]:
        """The messages that no root leads to: those of a circle, and what hangs on it."""
        return self._found(
            f"WITH RECURSIVE reached(seq, id) AS (SELECT m.seq, m.id FROM message {_WITHOUT_PARENT} UNION ALL"
            " SELECT m.seq, m.id FROM reached JOIN message m ON m.parent = reached.id)"
            f" SELECT {_COLUMNS} FROM message m WHERE m.seq NOT IN (SELECT seq FROM reached) ORDER BY m.seq"
        )

    def _found(self, query: str, *values: str | int) -> Iterator[Node]:
        for row in self._database.execute(query, values):
            yield Node(*row)


def threads(
    root: Item, children: Callable[[Item], Iterator[Item]], answers: Callable[[Item], bool]
) -> Iterator[list[Item]]:
    """Every path from the root to a message that answers and has no answer below it, depth first.

    A path of more than `LONGEST` messages ends with the first one too many, whatever it is.
    """
    path, waiting, below = [root], [children(root)], [False]
    while path:
        for child in waiting[-1]:
            if len(path) == LONGEST:
                below[-1] = True
                yield [*path, child]
                continue
            path.append(child)
            waiting.append(children(child))
            below.append(False)
            break
        else:
            waiting.pop()
            answered = below.pop()
            if not answered and answers(path[-1]):
                yield list(path)
                answered = True
            path.pop()
            if below:
                below[-1] |= answered
