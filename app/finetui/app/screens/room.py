"""What every full screen shares: title, body, keys at the bottom, words in any language."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen

from finetui.app.registry import bindings
from finetui.app.themes import MUTED
from finetui.app.widgets.footer import Footer
from finetui.app.widgets.lines import Lines
from finetui.app.widgets.spoken import Spoken
from finetui.core.messages import t

if TYPE_CHECKING:
    from finetui.app.shell import FinetuiApp

Found = TypeVar("Found")


class Room(Screen[None]):
    """A screen of the app. A subclass gives NAME, `body`, and `speak` where it has words outside of Spoken widgets."""

    NAME: ClassVar[str]
    """Its key in the registry: `app.title-NAME` is its title, `app.help-NAME` what F1 says of it."""
    BINDINGS: ClassVar[list[BindingType]] = bindings("room")

    def compose(self) -> ComposeResult:
        """Title, body, keys."""
        yield Lines(id="title")
        yield from self.body()
        yield Footer(id="keys")

    def body(self) -> ComposeResult:
        """What is between title and keys."""
        raise NotImplementedError

    def title_facts(self) -> str:
        """What stands beside the title, such as the name of what is shown; safe to be drawn."""
        return ""

    def show_title(self) -> None:
        """Write the title line."""
        name = Content.assemble((" finetui ", "bold $accent"), (t(f"app.title-{self.NAME}"), "bold"))
        self.query_one("#title", Lines).show([Content.assemble(name, "  ", (self.title_facts(), MUTED))])

    def on_mount(self) -> None:
        """Say everything once."""
        self.speak_all()

    def speak(self) -> None:
        """Say again what is said outside of Spoken widgets."""

    def speak_all(self) -> None:
        """Say everything in the language in force."""
        self.show_title()
        self.speak()
        for widget in self.walk_children(Spoken):  # a query finds a widget by its first base alone
            widget.speak()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """From the first screen no key leads back."""
        return action != "back" or len(self.app.screen_stack) > 1

    def action_back(self) -> None:
        """Go to the screen that this one was opened from."""
        self.dismiss()

    def holds_back(self) -> bool:
        """Ask before the app ends where something would be lost by it; whether that is so."""
        return False

    def work(self, what: Callable[[], Found], then: Callable[[Found], None]) -> None:
        """Do something that takes its time; `then` draws what it gave, unless this screen has been left meanwhile."""
        self.finetui.work(what, lambda found: then(found) if self.is_attached else None)

    @property
    def finetui(self) -> FinetuiApp:
        """The app that it belongs to."""
        from finetui.app.shell import FinetuiApp

        assert isinstance(self.app, FinetuiApp)
        return self.app
