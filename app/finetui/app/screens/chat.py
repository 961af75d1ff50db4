"""The chat: one or two who answer, side by side, each with a history of its own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content

from finetui.app.registry import bindings
from finetui.app.screens.ask import Ask
from finetui.app.screens.chat_save import Save
from finetui.app.screens.chat_seat import Seat, name_of, state_of
from finetui.app.screens.chat_settings import Settings
from finetui.app.screens.chat_who import Choose
from finetui.app.screens.chat_work import Answered, Asked, Failed, Known, Loading, Seated, bring, hear
from finetui.app.screens.room import Room
from finetui.app.widgets.transcript import Transcript
from finetui.app.widgets.typed import Typed
from finetui.chat.company import Company
from finetui.chat.dialogue import Side, Turn, save
from finetui.chat.settings import Sampling
from finetui.chat.who import Lane, Speaker, Who
from finetui.core import home
from finetui.core.errors import BAD_INPUT, FinetuiError
from finetui.core.messages import t
from finetui.core.text import one_line

_FLOW_S = 0.12
"""How often what has come of an answer is drawn."""
_MOST_SIDES = 2


class Leaving(Ask):
    """What becomes of a conversation that is not saved."""


class Chat(Room):
    """Talk to what a run made, to one of its checkpoints, its base, any model, or an endpoint."""

    NAME = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("room"), *bindings("talk")]
    DEFAULT_CSS = """
    Chat #panes { height: 1fr; }
    """

    def __init__(self, *references: str | Path) -> None:
        """Begin with these, at most two; without any, one chooses."""
        super().__init__()
        self._seats = [Seat(str(reference), Transcript()) for reference in references[:_MOST_SIDES]]
        self._company = Company()
        self._sampling = Sampling()
        self._system = ""
        self._stopped = threading.Event()
        self._raw = False
        self._unsaved = False
        self._again = False
        """Whether what has no answer is asked again once all are there."""
        self._sent_early = False
        """Whether what stands in the line is sent once all are there."""

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
        self._stopped.set()
        for seat in self._seats:
            if seat.speaker is not None:
                seat.speaker.lane.kill()
        self._seats.clear()
        self._company.kill()
        threading.Thread(target=self._company.close, daemon=True).start()

    # ---- what is said

    def title_facts(self) -> str:
        """The settings in force."""
        facts = t("chat.facts", temperature=self._sampling.temperature, seed=self._sampling.seed)
        more = [name for name, is_on in (("with-system", self._system), ("as-raw", self._raw)) if is_on]
        return " · ".join([facts, *(t(f"chat.{name}") for name in more)])

    def speak(self) -> None:
        """The panes in the language in force."""
        for seat in self._seats:
            self._show(seat)

    def _show(self, seat: Seat) -> None:
        if not seat.pane.is_mounted:
            return
        seat.pane.name_it(name_of(seat))
        self._show_state(seat)
        if seat.answering:
            return
        if self._raw and seat.speaker is not None and seat.side.turns:
            last = seat.side.turns[-1]
            try:
                seat.pane.show_raw(seat.speaker.raw(seat.side.asked(self._system), last.answer))
            except FinetuiError as error:
                seat.pane.state(Content(one_line(error.problems[0].message())))
        else:
            seat.pane.show(seat.side.turns)

    def _show_state(self, seat: Seat) -> None:
        if seat.pane.is_mounted:
            seat.pane.state(state_of(seat, self._stopped.is_set(), then=self._sent_early))

    def _show_streams(self) -> None:
        with self.app.batch_update():
            for seat in self._seats:
                if seat.answering and len(seat.stream) > seat.streamed:
                    seat.streamed = len(seat.stream)
                    seat.pane.stream("".join(seat.stream))
                    self._show_state(seat)

    # ---- who answers

    def _bring(self, seat: Seat) -> None:
        """Load who was chosen, in a thread."""
        seat.problem, seat.loading = None, {}
        self._show(seat)
        self.run_worker(partial(bring, self, seat, self._company, self._is_here), thread=True)

    def _is_here(self, seat: Seat) -> bool:
        return seat in self._seats

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
        if seat not in self._seats:
            self._leave(message.speaker)
            return
        seat.speaker, seat.loading = message.speaker, None
        self._show(seat)
        if not self._ready():
            return
        if self._sent_early:
            self._send_typed()
        elif self._again:
            self._ask([each for each in self._seats if each.side.waits()], anew=True)
        self._again = False

    # ---- asking

    @on(Typed.Sent)
    def _send(self, message: Typed.Sent) -> None:
        """Ask, or do so as soon as the models are loaded that are being loaded."""
        self._sent_early = any(seat.loading is not None for seat in self._seats)
        if self._ready():
            self._send_typed()
        elif self._sent_early:
            for seat in self._seats:
                self._show_state(seat)

    def _send_typed(self) -> None:
        self._sent_early = False
        typed = self.query_one(Typed)
        if text := typed.text.strip():
            typed.text = ""
            for seat in self._seats:
                seat.side.turns.append(Turn(text))
            typed.recall([turn.question for turn in self._seats[0].side.turns])
            self._ask(self._seats)

    def _ready(self) -> bool:
        return bool(self._seats) and all(seat.speaker and not seat.answering for seat in self._seats)

    def _ask(self, seats: Sequence[Seat], *, anew: bool = False) -> None:
        """Have the last question of each answered, `anew` where it stands there already.

        Those who share a model answer one after another.
        """
        if not seats:
            return
        self._stopped = threading.Event()
        lanes: dict[int, list[Asked]] = {}
        for seat in seats:
            assert seat.speaker is not None
            seat.answering, seat.stream, seat.streamed, seat.problem = True, [], 0, None
            if anew or self._raw:
                seat.pane.show(seat.side.turns[:-1])
            seat.pane.begin(seat.side.turns[-1].question)
            self._show_state(seat)
            asked = Asked(seat, seat.speaker, seat.side.turns[-1], seat.side.messages(self._system))
            lanes.setdefault(id(seat.speaker.lane), []).append(asked)
        self._flow.resume()
        self.refresh_bindings()
        for group in lanes.values():
            self.run_worker(partial(hear, self, group, self._sampling, self._stopped), thread=True)

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        message.turn.answer = message.answer
        self._unsaved = True
        message.seat.pane.finish(message.turn)
        self._rest(message.seat)

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        """One line; a question that was refused goes back to where it was typed, an engine that died is let go."""
        seat, error = message.seat, message.error
        if seat not in self._seats:
            return
        seat.problem, seat.loading, self._sent_early = error.problems[0], None, False
        if seat.answering and error.exit_code == BAD_INPUT:
            question = seat.side.turns.pop().question
            typed = self.query_one(Typed)
            typed.text = typed.text or question
        elif seat.speaker is not None and not seat.speaker.lane.alive():
            lane = seat.speaker.lane
            for each in self._seats:
                if each.speaker is not None and each.speaker.lane is lane:
                    each.speaker = None
            self._let_go(lane)
        self._rest(seat)

    def _rest(self, seat: Seat) -> None:
        was_answered, seat.answering = seat.problem is None, False
        if not self._answers():
            self._flow.pause()
            self.refresh_bindings()
        if was_answered and not self._raw:
            self._show_state(seat)
        else:
            self._show(seat)

    def _let_go(self, lane: Lane) -> None:
        self.run_worker(partial(self._company.dismiss, lane), thread=True)

    # ---- what the keys do

    def action_who(self, place: int) -> None:
        """Choose who answers, here or beside."""
        if self._answers():
            return
        taken = place < len(self._seats)
        near = self._seats[0].asked_for if self._seats else None
        pane = Choose(
            t("chat.title-beside" if place else "chat.title-who"),
            near=near.reference if isinstance(near, Who) else near,
            nobody=taken and place > 0,
            seated=[who for seat in self._seats if place and (who := seat.who or seat.asked_for)],
        )
        self.app.push_screen(pane, partial(self._chosen, place))

    def _chosen(self, place: int, chosen: Who | str | None) -> None:
        if chosen is None:
            if not self._seats:
                self.action_back()
            return
        # who comes goes on with what was said so far
        before = self._seats[min(place, len(self._seats) - 1)].side.copy() if self._seats else Side()
        if place < len(self._seats):
            self._dismiss(self._seats[place])
        if chosen:
            seat = Seat(chosen, Transcript(), before, loading={})
            self._seats.insert(place, seat)
            self.call_later(self._place, seat, place)

    def _dismiss(self, seat: Seat) -> None:
        self._seats.remove(seat)
        seat.pane.remove()
        if seat.speaker is not None:
            self._leave(seat.speaker)

    def _leave(self, speaker: Speaker) -> None:
        """Let a model go that nobody here answers with any more."""
        if not any(each.speaker and each.speaker.lane is speaker.lane for each in self._seats):
            self._let_go(speaker.lane)

    async def _place(self, seat: Seat, place: int) -> None:
        """Put a pane where it belongs, and load who sits there."""
        await self.query_one("#panes").mount(seat.pane, before=0 if place == 0 and len(self._seats) > 1 else None)
        self._bring(seat)

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
        self.show_title()
        self.speak()

    def action_fresh(self) -> None:
        """A new conversation with the same."""
        if self._answers():
            return
        for seat in self._seats:
            seat.side = Side()
        self.speak()

    def action_again(self) -> None:
        """Load what was lost; where all are there, ask the last question again."""
        lost = [seat for seat in self._seats if seat.speaker is None and seat.loading is None]
        for seat in lost:
            self._again = True
            self._bring(seat)
        if lost or not self._ready():
            return
        seats = [seat for seat in self._seats if seat.side.waits()]
        if not seats:
            seats = [seat for seat in self._seats if seat.side.turns]
            for seat in seats:
                seat.side.turns[-1].answer = None
        self._ask(seats, anew=True)

    def action_save(self) -> None:
        """Keep the conversation in a file."""
        if not any(turn.answer for seat in self._seats for turn in seat.side.turns):
            self.app.notify(t("chat.nothing-to-save"), markup=False)
            return
        name = re.sub(r"[^\w.-]+", "-", name_of(self._seats[0])).strip("-.")[:60]
        suggested = home.home() / "chats" / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
        self.app.push_screen(Save(suggested), self._save)

    def _save(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            written = save(path, [(name_of(seat), seat.side) for seat in self._seats], self._system, self._sampling)
        except OSError as error:
            words = t("errors.error", text=f"{path}: {error.strerror}")
            self.app.notify(words, severity="error", markup=False, timeout=12)
        else:
            self._unsaved = False
            self.app.notify(t("chat.saved", file=", ".join(map(str, written))), markup=False, timeout=12)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape stops while there is something to stop, and leads back else."""
        if action == "halt":
            return self._answers()
        if action == "back" and self._answers():
            return False
        return super().check_action(action, parameters)

    def _answers(self) -> bool:
        return any(seat.answering for seat in self._seats)

    def action_back(self) -> None:
        """Leave; what was said and not saved is asked about first."""
        if self._unsaved:
            self._ask_before(super().action_back)
        else:
            super().action_back()

    def holds_back(self) -> bool:
        """What was said and not saved is asked about, once."""
        if self._unsaved and not isinstance(self.app.screen, Leaving):
            self._ask_before(lambda: self.app.exit(0))
        return self._unsaved

    def _ask_before(self, leave: Callable[[], object]) -> None:
        def answered(chosen: str | None) -> None:
            if chosen == "save":
                self.action_save()
            elif chosen == "leave":
                leave()

        answers = [(name, t(f"chat.leave-{name}")) for name in ("save", "leave")]
        self.app.push_screen(Leaving(t("chat.title-leave"), t("chat.not-saved"), answers), answered)

    def action_halt(self) -> None:
        """Stop the answer under way."""
        self._stopped.set()
        for seat in self._seats:
            if seat.answering and seat.speaker is not None:
                seat.speaker.stop()
            self._show_state(seat)
