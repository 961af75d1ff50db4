"""Work shared out among processes: answers in order, errors as they were raised, nobody left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from finetui.core.errors import FinetuiError, Problem
from finetui.core.parallel import in_order

pytestmark = pytest.mark.unit


def _tell(number: int) -> tuple[int, int]:
    if number == 101:
        raise FinetuiError(Problem("data.no-rows", {}, "file"), 5)
    if number == 102:
        os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid()


def make() -> Callable[[int], tuple[int, int]]:
    """What the processes are told to do."""
    return _tell


def test_answers_come_in_the_order_of_the_pieces_from_several_processes() -> None:
    answers = list(in_order(make, range(40), 2))
    assert [number for number, _ in answers] == list(range(40))
    pids = {pid for _, pid in answers}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize(("pieces", "processes"), [(3, 8), (20, 1), (0, 4)])
def test_little_work_stays_in_this_process(pieces: int, processes: int) -> None:
    assert list(in_order(make, range(pieces), processes)) == [(number, os.getpid()) for number in range(pieces)]


def test_errors_arrive_as_they_were_raised() -> None:
    with pytest.raises(FinetuiError) as raised:
        list(in_order(make, range(90, 102), 2))
    assert raised.value.problems == (Problem("data.no-rows", {}, "file"),)
    assert raised.value.exit_code == 5


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(FinetuiError) as raised:
        list(in_order(make, range(102, 120), 2))
    assert raised.value.problems[0].code == "jobs.helper-died"
    assert "-9" in raised.value.problems[0].message()


def test_pieces_are_not_read_far_ahead_and_processes_end_with_their_reader() -> None:
    read = []

    def pieces() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    answers = in_order(make, pieces(), 2)
    _, pid = next(answers)
    assert len(read) < 30
    answers.close()  # type: ignore[attr-defined]
    assert not psutil.pid_exists(pid)
