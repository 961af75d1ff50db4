"""Work beside the picture: in threads that end with the app, however long what they wait for takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from textual.app import App
from textual.message import Message

Found = TypeVar("Found")


@dataclass
class WorkDone(Message):
    """Something that was worked on is done; what is to follow is called where the picture is drawn."""

    follow: Callable[[], None]


def begin(
    app: App[Any], work: Callable[[], Found], then: Callable[[Found], None], fell: Callable[[Exception], None]
) -> None:
    """Call `work` in a thread, then `then` with what it gave, or `fell` with what it raised, in the app's own thread.

    The thread is a daemon: Textual's own workers would keep a closed app from ending until they have.
    """

    def call() -> None:
        try:
            found = work()
        except Exception as error:
            fallen = error
            app.post_message(WorkDone(lambda: fell(fallen)))
        else:
            app.post_message(WorkDone(lambda: then(found)))

    threading.Thread(target=call, daemon=True).start()
