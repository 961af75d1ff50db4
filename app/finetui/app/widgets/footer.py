"""The bottom line: the keys that do something now, each of them also a button for the mouse."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from textual.content import Content
from textual.screen import Screen
from textual.style import Style

from finetui.app.widgets.lines import Lines
from finetui.app.widgets.spoken import Spoken
from finetui.core.messages import t

OURS = "app.key-"
"""How the description of a binding begins that has words in the table."""


class Footer(Lines, Spoken):
    """The keys of this moment in one line; those that find no room are left to palette and help."""

    DEFAULT_CSS = "Footer { dock: bottom; height: 1; background: $panel; }"

    def on_mount(self) -> None:
        """Follow what can be pressed."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self.speak()

    def on_resize(self) -> None:
        """Another width has room for other keys."""
        self.speak()

    def speak(self) -> None:
        """The keys in the language in force."""
        self.show([Content.assemble(*self._parts())])

    def _changed(self, screen: Screen[object]) -> None:
        if self.is_attached and screen is self.screen:
            self.speak()

    def _parts(self) -> Iterator[tuple[str, str | Style] | Content]:
        left = self.screen.size.width
        seen: set[str] = set()
        for key, active in self.screen.active_bindings.items():
            binding = active.binding
            if not (binding.show and binding.description.startswith(OURS)) or binding.description in seen:
                continue
            seen.add(binding.description)
            shown, words = self.app.get_key_display(binding), t(binding.description)
            left -= cell_len(shown) + cell_len(words) + 3
            if left < 0:
                return
            pressed = Style.from_meta({"@click": f"app.simulate_key('{key}')"})
            yield Content.assemble((f" {shown} ", "bold $accent"), (f"{words} ", "")).stylize(pressed)
