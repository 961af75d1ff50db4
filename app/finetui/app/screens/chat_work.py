"""What a chat does in threads: bringing somebody in, and hearing answers; each ends in a message to the screen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from finetui.app.screens.chat_seat import Seat
from finetui.chat.company import Company, Gone
from finetui.chat.dialogue import Turn
from finetui.chat.said import Answer
from finetui.chat.said import Message as Said
from finetui.chat.settings import Sampling
from finetui.chat.who import Speaker, Who
from finetui.core.errors import FinetuiError, Problem


@dataclass
class Known(Message):
    """It is known who is meant."""

    seat: Seat
    who: Who


@dataclass
class Loading(Message):
    """A model is being loaded."""

    seat: Seat
    facts: Mapping[str, Any]


@dataclass
class Seated(Message):
    """Somebody can be asked."""

    seat: Seat
    speaker: Speaker


@dataclass
class Failed(Message):
    """A model could not be loaded, or did not answer."""

    seat: Seat
    error: FinetuiError


@dataclass
class Answered(Message):
    """An answer is whole."""

    seat: Seat
    turn: Turn
    answer: Answer


@dataclass
class Asked:
    """A question to one of them."""

    seat: Seat
    speaker: Speaker
    turn: Turn
    messages: Sequence[Said]
    """The conversation up to it."""


def bring(screen: MessagePump, seat: Seat, company: Company, is_here: Callable[[Seat], bool]) -> None:
    """Find out who is meant and load the model, for as long as the seat is there."""

    def loading(facts: Mapping[str, Any]) -> None:
        if not is_here(seat):
            raise Gone
        screen.post_message(Loading(seat, facts))

    from finetui.chat.offers import who_is

    try:
        who = who_is(seat.asked_for) if isinstance(seat.asked_for, str) else seat.asked_for
        screen.post_message(Known(seat, who))
        screen.post_message(Seated(seat, company.seat(who, loading)))
    except Gone:
        return
    except FinetuiError as error:
        screen.post_message(Failed(seat, error))
    except OSError as error:
        screen.post_message(Failed(seat, FinetuiError(Problem("chat.not-read", {"detail": str(error)}))))


def hear(screen: MessagePump, asked: Sequence[Asked], sampling: Sampling, stopped: threading.Event) -> None:
    """Ask one after another; with a worker that died all are lost that were still to be asked."""
    lost: FinetuiError | None = None
    for each in asked:
        try:
            if lost is not None:
                raise lost
            answer = each.speaker.ask(each.messages, sampling, each.seat.stream.append, stopped.is_set)
        except FinetuiError as error:
            lost = None if each.speaker.lane.alive() else error
            screen.post_message(Failed(each.seat, error))
        else:
            screen.post_message(Answered(each.seat, each.turn, answer))
