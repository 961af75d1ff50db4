"""A list to choose from: one line an entry, none of it read as markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from finetui.app.registry import bindings

Entry = tuple[str, Content | str]
"""An id and what the line shows."""


class Choices(OptionList):
    """An OptionList that keeps its place when its entries are shown anew."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("list")
    DEFAULT_CSS = """
    Choices { border: none; padding: 0 1; background: $background; text-wrap: nowrap; text-overflow: ellipsis; }
    Choices:focus { border: none; background-tint: $foreground 0%; }
    """

    def __init__(self, entries: Sequence[Entry] = (), *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, markup=False)
        self._shown: list[Entry] = []
        self.offer(entries)

    def offer(self, entries: Sequence[Entry]) -> None:
        """Put these in place of those that are there; the one highlighted stays so, by its id."""
        offered = list(entries)
        if [name for name, _ in offered] == [name for name, _ in self._shown]:
            for place, (was, now) in enumerate(zip(self._shown, offered, strict=True)):
                if was != now:
                    self.replace_option_prompt_at_index(place, _visual(now[1]))
        else:
            kept, was_empty = self.highlighted_option.id if self.highlighted_option else None, not self.option_count
            self.clear_options()
            self.add_options([Option(_visual(text), name) for name, text in offered])
            places = [place for place, (name, _) in enumerate(offered) if name == kept]
            self.highlighted = places[0] if places else (0 if offered else None)
            if was_empty != (not offered) and self.has_focus:
                self.refresh_bindings()
        self._shown = offered

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Of nothing nothing can be chosen."""
        return action != "select" or self.option_count > 0

    @property
    def chosen(self) -> str | None:
        """The id of the entry that is highlighted."""
        return self.highlighted_option.id if self.highlighted_option else None


class Options(Choices):
    """Choices of which one is taken rather than opened."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("options")


def _visual(text: Content | str) -> Content:
    return text if isinstance(text, Content) else Content(text)
