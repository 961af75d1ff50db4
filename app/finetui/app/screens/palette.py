"""The palette: every action, screen, theme and language by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.fuzzy import Matcher
from textual.screen import Screen
from textual.widgets import Input, OptionList

from finetui.app.screens.pane import Pane
from finetui.app.themes import MUTED, THEMES
from finetui.app.widgets.choices import Choices
from finetui.app.widgets.footer import OURS
from finetui.app.widgets.line import Line
from finetui.core.messages import LANGUAGES, t


@dataclass(frozen=True)
class Command:
    """One line of the palette."""

    does: str
    """What is called: `key:KEY`, `theme:NAME` or `language:CODE`."""
    words: str
    key: str = ""
    """The key that does the same."""


class Palette(Pane[str]):
    """Type a few letters, Enter does it."""

    DEFAULT_CSS = "Palette Choices { height: auto; max-height: 14; background: $surface; }"

    def __init__(self, behind: Screen[Any]) -> None:
        super().__init__()
        self._behind = behind
        self._commands = list(_commands(behind))

    def heading(self) -> str:
        """What the frame is called."""
        return t("app.title-palette")

    def inside(self) -> ComposeResult:
        """A line to type in, and what fits it."""
        yield Line(placeholder=t("app.palette-type"), id="typed")
        yield Choices(self._entries(""), id="commands")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one(Choices).offer(self._entries(event.value))

    @on(Input.Submitted)
    def _entered(self) -> None:
        self._do(self.query_one(Choices).chosen)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._do(event.option_id)

    def key_down(self) -> None:
        """Go into the list from the line."""
        self.query_one(Choices).focus()

    def _do(self, does: str | None) -> None:
        if does is not None:
            self.dismiss(does)

    def _entries(self, typed: str) -> list[tuple[str, Content]]:
        matcher = Matcher(typed)
        scored = [(matcher.match(each.words) if typed else 1.0, each) for each in self._commands]
        found = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: -pair[0])
        return [
            (each.does, Content.assemble(each.words, (f"  {each.key}" if each.key else "", MUTED))) for _, each in found
        ]


def _commands(screen: Screen[Any]) -> Iterator[Command]:
    app = screen.app
    seen: set[str] = set()
    for key, active in screen.active_bindings.items():
        binding = active.binding
        if binding.description.startswith(OURS) and binding.tooltip not in seen and binding.id != "palette":
            seen.add(binding.tooltip)
            yield Command(f"key:{key}", t(binding.tooltip), app.get_key_display(binding))
    for name in THEMES:
        yield Command(f"theme:{name}", t("app.use-theme", name=t(f"app.theme-{name}")))
    for lang in LANGUAGES:
        yield Command(f"language:{lang}", t("app.use-language", name=t("app.language", lang)))
