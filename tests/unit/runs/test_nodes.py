"""Which of several machines this one is: what has to be said, and what the trainer is told."""

from __future__ import annotations

import pytest

from finetui.core.errors import USAGE, FinetuiError
from finetui.runs.nodes import Nodes, check_nodes, environment
from finetui.runs.state import RunState

pytestmark = pytest.mark.unit

LOCK = {"world_size": 4}


def test_one_machine_is_told_nothing() -> None:
    assert check_nodes(None, None, None, LOCK, follows=True) == Nodes()
    assert environment(1, 0, "") == {}


def test_two_machines_share_the_processes() -> None:
    place = check_nodes(2, 1, "node-0.lab:29500", LOCK, follows=False)
    assert environment(place.count, place.rank, place.master) == {
        "NNODES": "2",
        "NODE_RANK": "1",
        "MASTER": "node-0.lab:29500",
    }
    state = RunState("r", "b", "i", "n", "m", "p", world_size=4, steps_total=1, started=0.0, nodes=2)
    assert state.processes_here == 2


@pytest.mark.parametrize(
    ("count", "rank", "master", "codes"),
    [
        (None, 1, None, ["nodes.no-count"]),
        (2, None, None, ["nodes.rank", "nodes.master"]),
        (2, 2, "h:1", ["nodes.rank", "nodes.then"]),
        (2, 0, "h", ["nodes.master"]),
        (2, 0, "h:70000", ["nodes.master"]),
        (2, 0, "h;rm:1", ["nodes.master"]),
        (3, 0, "h:1", ["nodes.uneven"]),
        (2, 1, "h:1", ["nodes.then"]),
    ],
)
def test_all_that_is_wrong_is_told(count: int | None, rank: int | None, master: str | None, codes: list[str]) -> None:
    with pytest.raises(FinetuiError) as raised:
        check_nodes(count, rank, master, LOCK, follows=True)
    assert raised.value.exit_code == USAGE
    assert [problem.code for problem in raised.value.problems] == codes
