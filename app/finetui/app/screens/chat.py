"""The chat: one or two who answer, side by side, each with a history of its own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message

from finetui.app.registry import bindings
from finetui.app.screens.chat_save import Save
from finetui.app.screens.chat_settings import Settings
from finetui.app.screens.chat_who import Choose
from finetui.app.screens.room import Room
from finetui.app.widgets.transcript import Transcript
from finetui.app.widgets.typed import Typed
from finetui.chat import Answer, Sampling
from finetui.chat.dialogue import Side, Turn, save
from finetui.chat.speakers import Company
from finetui.chat.who import Lane, Speaker, Who
from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.core.messages import t
from finetui.core.text import one_line

_FLOW_S = 0.12
"""How often what has come of an answer is drawn."""
_MOST_SIDES = 2


@dataclass
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


class Chat(Room):
    """Talk to what a run made, to one of its checkpoints, its base, any model, or an endpoint."""

    NAME = "chat"
    BINDINGS: ClassVar[list[BindingType]] = bindings("talk")
    DEFAULT_CSS = """
    Chat #panes { height: 1fr; }
    """

    @dataclass
    class Loading(Message):
        """A model is being loaded."""

        seat: Seat
        facts: Mapping[str, Any]

    @dataclass
    class Known(Message):
        """It is known who is meant."""

        seat: Seat
        who: Who

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

    def __init__(self, *references: str | Path) -> None:
        """Begin with these, at most two; without any, one chooses."""
        super().__init__()
        self._seats = [Seat(str(reference), Transcript()) for reference in references[:_MOST_SIDES]]
        self._company = Company()
        self._sampling = Sampling()
        self._system = ""
        self._stopped = threading.Event()
        self._raw = False

    def body(self) -> ComposeResult:
        """The panes, and the line that one types in."""
        with Horizontal(id="panes"):
            for seat in self._seats:
                yield seat.pane
        yield Typed(id="message", hint="chat.type-here")

    def on_mount(self) -> None:
        """Bring in who was named."""
        super().on_mount()
        self.query_one(Typed).focus()
        self._flow = self.set_interval(_FLOW_S, self._show_streams, pause=True)
        for seat in self._seats:
            self._bring(seat)
        if not self._seats:
            self.call_after_refresh(self.action_who, 0)

    def on_unmount(self) -> None:
        """The models go with the screen."""
        self._company.kill()
        threading.Thread(target=self._company.close, daemon=True).start()

    # ---- what is said

    def title_facts(self) -> str:
        """The settings in force."""
        facts = t("chat.facts", temperature=self._sampling.temperature, seed=self._sampling.seed)
        return f"{facts} · {t('chat.with-system')}" if self._system else facts

    def speak(self) -> None:
        """The panes in the language in force."""
        for seat in self._seats:
            self._show(seat)

    def _show(self, seat: Seat) -> None:
        if not seat.pane.is_mounted:
            return
        seat.pane.name_it(_name(seat))
        self._show_state(seat)
        if seat.answering:
            return
        if self._raw and seat.speaker is not None and seat.side.turns:
            last = seat.side.turns[-1]
            try:
                seat.pane.show_raw(seat.speaker.raw(seat.side.asked(self._system), last.answer))
            except FinetuiError as error:
                seat.pane.state(one_line(error.problems[0].message()))
        else:
            seat.pane.show(seat.side.turns)

    def _show_state(self, seat: Seat) -> None:
        seat.pane.state(_state(seat, self._stopped.is_set()))

    def _show_streams(self) -> None:
        with self.app.batch_update():
            for seat in self._seats:
                if len(seat.stream) > seat.streamed:
                    seat.streamed = len(seat.stream)
                    seat.pane.stream("".join(seat.stream))

    # ---- who answers

    def _bring(self, seat: Seat) -> None:
        """Load who was chosen, in a thread."""
        seat.problem, seat.loading = None, {}
        self._show(seat)
        self.run_worker(partial(self._seat, seat), thread=True)

    def _seat(self, seat: Seat) -> None:
        from finetui.chat.offers import who_is

        try:
            who = who_is(seat.asked_for) if isinstance(seat.asked_for, str) else seat.asked_for
            self.post_message(self.Known(seat, who))
            speaker = self._company.seat(who, partial(self._hear_loading, seat))
        except FinetuiError as error:
            self.post_message(self.Failed(seat, error))
        else:
            self.post_message(self.Seated(seat, speaker))

    def _hear_loading(self, seat: Seat, facts: Mapping[str, Any]) -> None:
        self.post_message(self.Loading(seat, facts))

    @on(Known)
    def _known(self, message: Known) -> None:
        message.seat.who = message.who
        self._show(message.seat)

    @on(Loading)
    def _loading(self, message: Loading) -> None:
        if message.seat.loading is not None:
            message.seat.loading = message.facts
            self._show_state(message.seat)

    @on(Seated)
    def _seated(self, message: Seated) -> None:
        seat = message.seat
        seat.speaker, seat.loading = message.speaker, None
        self._show(seat)

    # ---- asking

    @on(Typed.Sent)
    def _send(self, message: Typed.Sent) -> None:
        text = message.text.strip()
        if text and self._ready():
            message.typed.text = ""
            for seat in self._seats:
                seat.side.turns.append(Turn(text))
            message.typed.recall([turn.question for turn in self._seats[0].side.turns])
            self._ask(self._seats)

    def _ready(self) -> bool:
        return bool(self._seats) and all(seat.speaker and not seat.answering for seat in self._seats)

    def _ask(self, seats: Sequence[Seat]) -> None:
        """Have the last question of each answered; those who share a model come one after another."""
        self._stopped = threading.Event()
        lanes: dict[int, list[Seat]] = {}
        for seat in seats:
            assert seat.speaker is not None
            seat.answering, seat.stream, seat.streamed, seat.problem = True, [], 0, None
            seat.pane.begin(seat.side.turns[-1].question)
            self._show_state(seat)
            lanes.setdefault(id(seat.speaker.lane), []).append(seat)
        self._flow.resume()
        for group in lanes.values():
            asked = [(seat, seat.speaker, seat.side.turns[-1], seat.side.messages(self._system)) for seat in group]
            self.run_worker(partial(self._hear, asked, self._sampling, self._stopped), thread=True)

    def _hear(self, asked: Sequence[Any], sampling: Sampling, stopped: threading.Event) -> None:
        for seat, speaker, turn, messages in asked:
            try:
                answer = speaker.ask(messages, sampling, seat.stream.append, stopped.is_set)
            except FinetuiError as error:
                self.post_message(self.Failed(seat, error))
            else:
                self.post_message(self.Answered(seat, turn, answer))

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        message.turn.answer = message.answer
        self._rest(message.seat)

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        """One line; a question that was refused goes back to where it was typed, an engine that died is let go."""
        seat, error = message.seat, message.error
        seat.problem, seat.loading = error.problems[0], None
        if seat.answering and error.exit_code == BAD_INPUT:
            question = seat.side.turns.pop().question
            typed = self.query_one(Typed)
            typed.text = typed.text or question
        elif seat.answering and seat.speaker is not None:
            lane = seat.speaker.lane
            for each in self._seats:
                if each.speaker is not None and each.speaker.lane is lane:
                    each.speaker = None
            self._let_go(lane)
        self._rest(seat)

    def _rest(self, seat: Seat) -> None:
        seat.answering = False
        if not any(each.answering for each in self._seats):
            self._flow.pause()
        self._show(seat)

    def _let_go(self, lane: Lane) -> None:
        self.run_worker(partial(self._company.dismiss, lane), thread=True)

    # ---- what the keys do

    def action_who(self, place: int) -> None:
        """Choose who answers, here or beside."""
        if any(seat.answering for seat in self._seats):
            return
        taken = place < len(self._seats)
        near = self._seats[0].asked_for if self._seats else None
        pane = Choose(
            t("chat.title-beside" if place else "chat.title-who"),
            near=near.reference if isinstance(near, Who) else near,
            nobody=taken and place > 0,
        )
        self.app.push_screen(pane, partial(self._chosen, place))

    def _chosen(self, place: int, chosen: Who | str | None) -> None:
        if chosen is None:
            if not self._seats:
                self.action_back()
            return
        if place < len(self._seats):
            self._dismiss(self._seats[place])
        if chosen:
            self._invite(place, chosen)

    def _dismiss(self, seat: Seat) -> None:
        self._seats.remove(seat)
        seat.pane.remove()
        lane = seat.speaker.lane if seat.speaker else None
        if lane is not None and not any(each.speaker and each.speaker.lane is lane for each in self._seats):
            self._let_go(lane)

    def _invite(self, place: int, chosen: Who | str) -> None:
        """Seat somebody; who comes beside another hears what was said so far."""
        side = self._seats[0].side.copy() if self._seats else Side()
        seat = Seat(chosen, Transcript(), side)
        self._seats.insert(place, seat)
        panes = self.query_one("#panes")
        panes.mount(seat.pane, before=0 if place == 0 and len(self._seats) > 1 else None)
        self.call_after_refresh(self._bring, seat)

    def action_sampling(self) -> None:
        """The settings."""
        self.app.push_screen(Settings(self._system, self._sampling), self._set)

    def _set(self, chosen: tuple[str, Sampling] | None) -> None:
        if chosen is not None:
            self._system, self._sampling = chosen
            self.show_title()

    def action_raw(self) -> None:
        """Tokens as they are, or the words again."""
        self._raw = not self._raw
        self.speak()

    def action_fresh(self) -> None:
        """A new conversation with the same."""
        if any(seat.answering for seat in self._seats):
            return
        for seat in self._seats:
            seat.side = Side()
        self.speak()

    def action_again(self) -> None:
        """Load what was lost; where all are there, ask the last question again."""
        lost = [seat for seat in self._seats if seat.speaker is None and seat.loading is None]
        for seat in lost:
            self._bring(seat)
        if not lost and self._ready() and all(seat.side.turns for seat in self._seats):
            for seat in self._seats:
                seat.side.turns[-1].answer = None
                self._show(seat)
            self._ask(self._seats)

    def action_save(self) -> None:
        """Keep the conversation in a file."""
        if not any(turn.answer for seat in self._seats for turn in seat.side.turns):
            self.app.notify(t("chat.nothing-to-save"), markup=False)
            return
        name = re.sub(r"[^\w.-]+", "-", _name(self._seats[0])).strip("-.")[:60]
        suggested = home.home() / "chats" / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
        self.app.push_screen(Save(suggested), self._save)

    def _save(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            written = save(path, [(_name(seat), seat.side) for seat in self._seats], self._system, self._sampling)
        except OSError as error:
            words = t("errors.error", text=f"{path}: {error.strerror}")
            self.app.notify(words, severity="error", markup=False, timeout=12)
        else:
            self.app.notify(t("chat.saved", file=", ".join(map(str, written))), markup=False, timeout=12)

    def action_back(self) -> None:
        """Stop the answer under way; else leave."""
        if not any(seat.answering for seat in self._seats):
            super().action_back()
            return
        self._stopped.set()
        for seat in self._seats:
            if seat.answering and seat.speaker is not None:
                seat.speaker.stop()
            self._show_state(seat)


def _name(seat: Seat) -> str:
    if seat.who is None:
        return one_line(str(seat.asked_for))
    return t(f"chat.who-{seat.who.kind}", **seat.who.facts)


def _state(seat: Seat, stopped: bool) -> Content | str:
    """What is going on with one of them, in a line."""
    if seat.problem is not None:
        return Content.styled(one_line(seat.problem.message()), "$error")
    if seat.loading is not None:
        return _progress(seat.loading)
    if seat.answering:
        return t("chat.stopping" if stopped else "chat.answering")
    return ""


def _progress(facts: Mapping[str, Any]) -> str:
    stage = facts.get("stage")
    if stage == "weights" and facts.get("total"):
        return t("chat.loading-weights", percent=100 * facts["done"] // facts["total"])
    return t("chat.loading-libraries" if stage == "libraries" else "chat.looking-for")
