"""Which data: a path that is typed, what is near it with its format, and what was chosen so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList

from finetui.app.registry import bindings
from finetui.app.themes import MUTED
from finetui.app.widgets.choices import Choices, Options
from finetui.app.widgets.line import Line
from finetui.app.widgets.spoken import Words
from finetui.core.errors import FinetuiError
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.data.reader import open_input
from finetui.offers import Place, format_of, is_there, near

if TYPE_CHECKING:
    from finetui.app.screens.wizard.step import Step

_AT_ONCE = 8
"""Files near by that are looked into before what was found of them is shown."""
_FORMAT = 18
_BYTES = 9


class PathField(Line):
    """A path: Tab completes it, Enter takes it; where nothing stands, Delete takes back what was chosen last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("path"),
        *(each for each in Input.BINDINGS if isinstance(each, Binding) and "delete" in each.key.split(",")),
    ]

    @property
    def _paths(self) -> Paths:
        assert isinstance(self.parent, Paths)
        return self.parent

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where nothing was typed, Tab goes on to the next widget, Enter to the next step, and Delete takes back."""
        if action == "complete":
            return bool(self.value)
        if action == "take_back":
            return not self.value and bool(self._paths.chosen)
        if action == "submit":
            return self._paths.is_choosing
        return super().check_action(action, parameters)

    def action_complete(self) -> None:
        """Go on typing with what is highlighted."""
        self._paths.complete()

    def action_take_back(self) -> None:
        """The data that was chosen last is not wanted after all."""
        self.post_message(Paths.Dropped(self._paths.chosen[-1]))


class Paths(Vertical):
    """The path, the list of what was chosen, and the list of what is near."""

    DEFAULT_CSS = """
    Paths { height: auto; }
    Paths.choosing { height: 1fr; }
    Paths #picked { height: auto; max-height: 4; }
    Paths #near { height: 1fr; }
    Paths #nothing-near { padding: 0 1; color: $text-muted; }
    """

    @dataclass
    class Taken(Message):
        """Data was chosen."""

        word: str

    @dataclass
    class Dropped(Message):
        """Data is not wanted after all."""

        word: str

    class Typing(Message):
        """What stands in the path has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: tuple[str, ...] = ()
        """The data so far."""
        self._near: list[Place] = []
        self._formats: dict[str, str | None] = {}
        self._has_looked = False

    def compose(self) -> ComposeResult:
        """A path to type, what was chosen, what is near."""
        yield PathField(id="path", select_on_focus=False)
        yield Options(id="picked")
        yield Options(id="near")
        yield Words("wizard.nothing-near", id="nothing-near")

    @property
    def field(self) -> Input:
        """Where a path is typed."""
        return self.query_one("#path", Input)

    @property
    def is_choosing(self) -> bool:
        """Whether what is near is of interest."""
        return not self.chosen or bool(self.field.value)

    @property
    def _step(self) -> Step:
        from finetui.app.screens.wizard.step import Step

        assert isinstance(self.parent, Step)
        return self.parent

    def look(self) -> None:
        """Look again at what is near what was typed."""
        typed = self.field.value
        self._step.newest("near", lambda: near(typed), self._show_near)

    def show(self, chosen: tuple[str, ...], *, alone: bool) -> None:
        """Say which data was chosen; `alone` leaves the room of what is near to something else."""
        changed, self.chosen = chosen != self.chosen, chosen
        self.field.placeholder = t("wizard.path-more" if chosen else "wizard.path-first")
        self.query_one("#picked", Choices).offer([(word, one_line(word)) for word in chosen])
        self._offer_near()
        choosing = self.is_choosing and not alone
        self.set_class(choosing, "choosing")
        self.query_one("#picked").display = bool(chosen)
        self.query_one("#near").display = choosing and bool(self._near)
        self.query_one("#nothing-near").display = choosing and self._has_looked and not self._near
        if changed:
            self.refresh_bindings()

    def take_back(self) -> None:
        """The highlighted data is not wanted after all."""
        if (word := self.query_one("#picked", Choices).chosen) is not None:
            self.post_message(self.Dropped(word))

    def complete(self) -> None:
        """Go on typing with what is highlighted."""
        if (word := self.query_one("#near", Choices).chosen) is not None:
            self._put(word)

    def close(self) -> bool:
        """Empty the path; False where nothing stands there."""
        if not self.field.value:
            return False
        self.field.value = ""
        self.field.focus()
        return True

    def _put(self, word: str) -> None:
        self.field.value = word
        self.field.cursor_position = len(word)
        self.field.focus()

    # ---- what is chosen

    @on(Input.Changed, "#path")
    def _typed(self) -> None:
        self.look()
        self.post_message(self.Typing())
        self.refresh_bindings()

    @on(Input.Submitted, "#path")
    def _entered(self, event: Input.Submitted) -> None:
        word = event.value.strip()
        chosen = self.query_one("#near", Choices).chosen if self._near else None
        if word and is_there(word):
            self._take(word)
        elif chosen is not None and (word or not self.chosen):
            self._take_near(chosen)
        elif word:
            self._step.newest("typed", lambda: open_input([word]), lambda found: self._found(word, found))

    @on(OptionList.OptionSelected, "#near")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            self._take_near(event.option_id)

    def _take_near(self, word: str) -> None:
        if any(place.is_folder for place in self._near if place.word == word):
            self._put(word)
        else:
            self._take(word)

    def _found(self, word: str, found: object) -> None:
        """Take a hub id that is in a cache; what is nowhere is refused in the words of `inspect`, to be mended."""
        if self.field.value.strip() != word:
            return
        if isinstance(found, FinetuiError):
            self._step.wizard.finetui.warn(*found.problems)
        else:
            self._take(word)

    def _take(self, word: str) -> None:
        self.field.value = ""
        self.field.focus()
        self.post_message(self.Taken(word))

    # ---- what is near

    def _show_near(self, found: object) -> None:
        self._near = found if isinstance(found, list) else []
        self._has_looked = True
        self._offer_near()
        self.post_message(self.Typing())
        self._look_into_next()

    def _look_into_next(self) -> None:
        """The formats of the next few files; what else is chosen or typed meanwhile goes before it."""
        unknown = [place for place in self._near if place.word not in self._formats][:_AT_ONCE]

        def look() -> dict[str, str | None]:
            return {place.word: format_of(place) for place in unknown}

        if unknown and self.is_choosing:
            self._step.newest("formats", look, self._show_formats)

    def _show_formats(self, found: object) -> None:
        if isinstance(found, dict):
            self._formats |= found
            self._offer_near()
            self._look_into_next()

    def _offer_near(self) -> None:
        room = max(16, self._step.size.width - _BYTES - _FORMAT - 8)
        width = min(room, max((cell_len(one_line(place.word)) for place in self._near), default=0))
        lines = _place_lines(self._near, self._formats, width)
        self.query_one("#near", Choices).offer([(place.word, line) for place, line in lines])


def _place_lines(
    places: Sequence[Place], formats: dict[str, str | None], width: int
) -> Iterator[tuple[Place, Content]]:
    """Each with a name of so many cells, how large it is, and its format."""
    from finetui.models.fetch.space import in_words

    for place in places:
        name = one_line(place.word, 200)
        shown = name if cell_len(name) <= width else set_cell_size(name, width - 1).rstrip() + "…"
        beside = "" if place.is_folder else in_words(place.bytes)
        yield (
            place,
            Content.assemble(
                set_cell_size(shown, width),
                "  ",
                (beside.rjust(_BYTES), MUTED),
                "  ",
                (formats.get(place.word) or "", "$success"),
            ),
        )
