"""Starts the training's processes: `python -m train.start …` with the arguments of torch.distributed.run, in whose
place it stands.

SIGTERM and SIGUSR1 are handed on, and every process gets the time that its checkpoint takes. Ends with 75 where all of
them were interrupted, which torch.distributed.run would call a failure like any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser
from torch.distributed.run import main as run

from .events import Events
from .failure import INTERRUPTED_EXIT_CODE, Failure
from .nodes import Node

_SIGNALS = "--signals-to-handle"
_HEARD = ("SIGINT", "SIGHUP", "SIGQUIT")
"""What ends it with all its processes, but for those that whoever has started it has it ignore, as nohup does."""
_UNTIMELY = -signal.SIGTERM
"""How a process ends that is asked before it listens: nothing was trained yet."""


def main() -> int:
    """Run to the end of all processes; gives the exit code."""
    arguments = sys.argv[1:]
    if _SIGNALS in get_args_parser().format_help():  # an older torch sees to SIGTERM itself, within its time limit
        heard = [name for name in _HEARD if signal.getsignal(signal.Signals[name]) is not signal.SIG_IGN]
        arguments = [_SIGNALS, ",".join(heard), *arguments]
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _hand_on)
    node = Node.from_environment()
    try:
        store = node.meet(Path.cwd()) if node is not None else None  # noqa: F841  # kept as long as the training
    except Failure as failure:
        _say_failed(failure, first=node.number == 0)
        return 1
    if node is not None:
        node.choose_interface()
    try:
        run(arguments)
    except ChildFailedError as error:
        if not {failure.exitcode for failure in error.failures.values()} <= {INTERRUPTED_EXIT_CODE, _UNTIMELY}:
            raise
        return INTERRUPTED_EXIT_CODE
    return 0


def _say_failed(failure: Failure, *, first: bool) -> None:
    Events(Path(os.environ["FINETUI_EVENTS"]) if first else None).write(
        "failed", cause=failure.cause, detail=failure.detail
    )
    print(f"{failure.cause}: {failure.detail}", file=sys.stderr, flush=True)


def _hand_on(*_: object) -> None:
    children = Path("/proc/thread-self/children").read_text(encoding="ascii").split()
    if not children:
        sys.exit(INTERRUPTED_EXIT_CODE)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
