"""One who answers in a chat: the pane, what was said there, and what is going on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textual.content import Content

from finetui.app.widgets.transcript import Transcript
from finetui.chat.dialogue import Side
from finetui.chat.who import Speaker, Who
from finetui.core.errors import Problem
from finetui.core.messages import t
from finetui.core.text import one_line

_PASSWORD = re.compile(r"//[^/]*@")


@dataclass(eq=False)
class Seat:
    """One pane: who sits there, what was said with them, and what is going on."""

    asked_for: Who | str
    """Whom the person chose; text until it is known who that is."""
    pane: Transcript
    side: Side = field(default_factory=Side)
    who: Who | None = None
    speaker: Speaker | None = None
    """None while the model is being loaded, and after it was lost."""
    problem: Problem | None = None
    """Why it does not answer."""
    loading: Mapping[str, Any] | None = None
    """How far the model has been loaded."""
    answering: bool = False
    stream: list[str] = field(default_factory=list)
    """What has come of the answer; the thread that hears it appends, this one reads."""
    streamed: int = 0
    """Parts of it that are shown."""


def name_of(seat: Seat) -> str:
    """Who sits there, in words."""
    if seat.who is None:
        return _PASSWORD.sub("//", one_line(str(seat.asked_for)))
    return t(f"chat.who-{seat.who.kind}", **seat.who.facts)


def state_of(seat: Seat, stopped: bool, *, then: bool = False) -> Content:
    """What is going on with one of them, in a line; `then` tells that a message waits for it."""
    if seat.problem is not None:
        return Content.styled(t("chat.failed", text=one_line(seat.problem.message(), 400)), "$error")
    if seat.loading is not None:
        return Content(" · ".join([_progress(seat.loading), *([t("chat.sent-then")] if then else [])]))
    if seat.answering:
        return Content(t("chat.stopping" if stopped else "chat.answering", tokens=seat.streamed))
    return Content("")


def _progress(facts: Mapping[str, Any]) -> str:
    stage = facts.get("stage")
    if stage == "weights" and facts.get("total"):
        return t("chat.loading-weights", percent=100 * facts["done"] // facts["total"])
    if stage == "digest" and facts.get("total"):
        return t("chat.comparing", done=facts["done"], total=facts["total"])
    return t("chat.loading-libraries" if stage == "libraries" else "chat.looking-for")
