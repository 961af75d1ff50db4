"""The same work on one piece after another, in several processes where there are pieces enough, answers in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from finetui.core.errors import JOB_FAILED, FinetuiError, Problem

Piece = TypeVar("Piece")
Answer = TypeVar("Answer")
_FEW = 3
"""So many pieces are done sooner here than another process has started."""


_AHEAD = 8
"""Answers that wait for an earlier one, for each process."""


def in_order(
    make: Callable[[], Callable[[Piece], Answer]], pieces: Iterable[Piece], processes: int
) -> Iterator[Answer]:
    """What the function that `make` gives answers for each piece, in the order of the pieces.

    `make`, pieces and answers travel between processes, so all must be picklable. No more pieces are read than there
    are processes to work on them, so memory stays flat. A piece should be worth a quarter of a second of work or more.
    Raises what the function raises, and FinetuiError (exit 1) where a process dies.
    """
    stream = iter(pieces)
    first = list(islice(stream, _FEW + 1))
    if processes < 2 or len(first) <= _FEW:
        yield from map(make(), chain(first, stream))
        return
    with ExitStack() as stack:
        hands = [stack.enter_context(_Hand(make)) for _ in range(processes)]
        yield from _shared_out(hands, chain(first, stream))


class _Hand:
    """One process and the line to it. It works on one piece at a time, so neither side waits to be read."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        # spawned, since a forked copy of a process with threads (tokenizers has some) may hang
        context = multiprocessing.get_context("spawn")
        self.line, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make), daemon=True)
        # Ctrl+C is for the process that the person started; the mask is inherited. The tracker lifts it as it starts
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()

    def __enter__(self) -> _Hand:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()
        self._process.terminate()
        self._process.join()

    def give(self, piece: Any) -> None:
        """Hand over a piece; that the process is gone is said where its answer is asked for."""
        with suppress(BrokenPipeError):
            self.line.send(piece)

    def answer(self) -> Any:
        """What came of the piece.

        Raises what the work raised; FinetuiError (exit 1) where the process is gone.
        """
        try:
            answer, error = self.line.recv()
        except (EOFError, ConnectionResetError) as gone:
            self._process.join()
            raise FinetuiError(
                Problem("jobs.helper-died", {"status": self._process.exitcode or 0}), JOB_FAILED
            ) from gone
        if error is not None:
            raise error
        return answer


def _shared_out(hands: list[_Hand], pieces: Iterable[Any]) -> Iterator[Any]:
    by_line = {hand.line: hand for hand in hands}
    idle, working = deque(hands), dict[Connection, int]()
    done: dict[int, Any] = {}
    numbered = enumerate(pieces)
    following = 0
    while True:
        room = _AHEAD * len(hands) - len(done)  # a slow piece holds back those that were quicker
        for number, piece in islice(numbered, max(0, min(room, len(idle)))):
            hand = idle.popleft()
            hand.give(piece)
            working[hand.line] = number
        if not working:
            return
        for line in wait(list(working)):
            assert isinstance(line, Connection)
            done[working.pop(line)] = by_line[line].answer()
            idle.append(by_line[line])
        while following in done:
            yield done.pop(following)
            following += 1


def _serve(line: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    """Answer pieces until the other side is gone."""
    work: Callable[[Any], Any] | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            piece = line.recv()
            try:
                work = work or make()
                line.send((work(piece), None))
            except Exception as error:
                line.send((None, error))
