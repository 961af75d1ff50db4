"""Whom to talk to: what is near, or what one types: a run, an adapter, a model, an address with its model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList

from finetui.app.screens.pane import Pane
from finetui.app.themes import MUTED
from finetui.app.widgets.choices import Choices
from finetui.app.widgets.line import Line
from finetui.chat.who import BASE, CHECKPOINT, TUNED, Who
from finetui.core.errors import FinetuiError
from finetui.core.messages import t
from finetui.core.text import one_line

_TYPED, _NOBODY = "typed", "nobody"


class Choose(Pane["Who | str"]):
    """The one chosen, what was typed, `""` for nobody; None for Escape."""

    DEFAULT_CSS = "Choose Choices { height: auto; max-height: 14; background: $surface; }"

    def __init__(
        self, heading: str, *, near: str | None = None, nobody: bool = False, seated: Sequence[Who | str] = ()
    ) -> None:
        """`near` is a run whose own come first; `nobody` offers to leave the place empty; `seated` come last."""
        super().__init__()
        self._heading = heading
        self._near = near
        self._nobody = nobody
        self._seated = seated
        self._offered: list[Who] | None = None

    def heading(self) -> str:
        """What the frame is called."""
        return self._heading

    def inside(self) -> ComposeResult:
        """A line to type in, and who is near."""
        yield Line(placeholder=t("chat.who-type"), id="chat-reference")
        yield Choices(self._entries(""), id="chat-who")

    def on_mount(self) -> None:
        """Look around."""
        self.run_worker(self._look, thread=True)

    def _look(self) -> None:
        from finetui.chat.offers import offered

        try:
            found = offered(self._near)
        except (FinetuiError, OSError):  # what cannot be listed can still be typed
            found = []
        self.app.call_later(partial(self._show, found))

    def _show(self, found: list[Who]) -> None:
        self._offered = _to_compare(found, self._seated) if self._seated else found
        if self.is_mounted:
            self.query_one(Choices).offer(self._entries(self.query_one(Input).value))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one(Choices).offer(self._entries(event.value))

    @on(Input.Submitted)
    def _entered(self) -> None:
        self._take(self.query_one(Choices).chosen)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._take(event.option_id)

    def key_down(self) -> None:
        """Go into the list from the line."""
        self.query_one(Choices).focus()

    def _take(self, chosen: str | None) -> None:
        if chosen == _TYPED:
            self.dismiss(self.query_one(Input).value.strip())
        elif chosen == _NOBODY:
            self.dismiss("")
        elif chosen is not None and self._offered:
            self.dismiss(self._offered[int(chosen)])

    def _entries(self, typed: str) -> list[tuple[str, Content]]:
        wanted = typed.strip()
        found = [
            (str(number), Content.assemble(words, ("  " + one_line(who.reference), MUTED)))
            for number, who in enumerate(self._offered or ())
            if wanted.lower() in (words := t(f"chat.who-{who.kind}", **who.facts)).lower()
        ]
        if self._nobody and not wanted:
            found.append((_NOBODY, Content(t("chat.who-nobody"))))
        if wanted:
            itself = (_TYPED, Content(t("chat.who-typed", reference=one_line(wanted))))
            found.insert(0 if "/" in wanted or not found else len(found), itself)
        if self._offered is None and not found:
            found.append(("", Content(t("chat.who-looking"))))
        return found


def _to_compare(found: list[Who], seated: Sequence[Who | str]) -> list[Who]:
    """Those who sit there last; of what a run made, its base or the whole of it before the checkpoints."""
    free = [who for who in found if who not in seated]
    if found and found[0].kind in (TUNED, CHECKPOINT, BASE):
        first = next((who for who in free if who.kind in (TUNED, BASE)), None)
        free.sort(key=lambda who: who != first)
    return [*free, *(who for who in found if who in seated)]
