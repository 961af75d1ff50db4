"""A run that several machines share: which of them this one is, and what it needs to be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem

_MASTER = re.compile(r"[\w.:\[\]-]+:(\d{1,5})")


ANYWHERE = "localhost:1"
"""Number 0 where it is known only once the machines are."""


@dataclass(frozen=True)
class Nodes:
    """One of several machines."""

    count: int = 1
    """How many there are."""
    rank: int = 0
    """The number of this one, from 0; number 0 keeps events, checkpoints and result."""
    master: str = ""
    """HOST:PORT of number 0, as all of them reach it."""


def check_nodes(
    count: int | None, rank: int | None, master: str | None, lock: Mapping[str, Any], *, follows: bool
) -> Nodes:
    """The machines of `--nodes`, `--node-rank` and `--master`; `follows`: something is to follow the run's end.

    Raises FinetuiError (exit 2) with all that is missing or does not go with the processes of the lock.
    """
    if count is None or count == 1:
        given = [name for name, value in (("--node-rank", rank), ("--master", master)) if value is not None]
        if given and count is None:
            raise FinetuiError(Problem("nodes.no-count", {"options": ", ".join(given)}), USAGE)
        return Nodes()
    problems = []
    if rank is None or not 0 <= rank < count:
        problems.append(Problem("nodes.rank", {"count": count, "last": count - 1}))
    port = _MASTER.fullmatch(master or "")
    if port is None or not 0 < int(port[1]) < 65536:
        problems.append(Problem("nodes.master", {"master": master or "–"}))
    if lock["world_size"] % count:
        problems.append(Problem("nodes.uneven", {"count": count, "world_size": lock["world_size"]}))
    if follows and rank:
        problems.append(Problem("nodes.then"))
    if problems:
        raise FinetuiError(problems, USAGE)
    return Nodes(count, rank or 0, master or "")


def environment(count: int, rank: int, master: str) -> dict[str, str]:
    """What launch.sh is told; nothing where one machine trains alone."""
    return {} if count == 1 else {"NNODES": str(count), "NODE_RANK": str(rank), "MASTER": master}
