"""How a supervisor sleeps: until a process ends, a signal comes or time is up, at no cost in between."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable

STOP, NOW = signal.SIGTERM, signal.SIGUSR2
"""What a supervisor is sent: save and end; end without saving. SIGUSR1, by which schedulers warn, is a stop too."""


class Waiter:
    """Turns the signals of this process into words that are read when it is ready for them."""

    def __init__(self) -> None:
        self._wake, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer)
        for heard in (STOP, NOW, signal.SIGUSR1):
            signal.signal(heard, lambda *_: None)  # arrives as a byte on the pipe
        for ignored in (signal.SIGHUP, signal.SIGINT):  # the trainer inherits this: no terminal ends it
            signal.signal(ignored, signal.SIG_IGN)

    def wait(self, pids: Iterable[int], seconds: float) -> list[int]:
        """Sleep until one of these processes ends, or so many seconds; gives the signals that came, oldest first."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        with contextlib.ExitStack() as handles:
            for pid in pids:
                try:
                    handle = os.pidfd_open(pid)
                except ProcessLookupError:
                    return self._signals()
                handles.callback(os.close, handle)
                poller.register(handle, select.POLLIN)
            poller.poll(max(0.0, seconds) * 1000)
        return self._signals()

    def _signals(self) -> list[int]:
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self._wake, 64))
        return []
