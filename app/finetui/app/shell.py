"""The app itself: looks, language, keys, help, palette, and how it ends; its screens are in `registry.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor
from textual.keys import format_key
from textual.screen import Screen

from finetui.app.background import WorkDone, begin
from finetui.app.filters import Ascii, Harmless
from finetui.app.merges import Merge
from finetui.app.registry import SCREENS, bindings, make, names
from finetui.app.screens.room import Room
from finetui.app.taste import Taste, keep_taste, read_keys, read_taste
from finetui.app.themes import PLAIN, THEMES, first_theme
from finetui.core.errors import JOB_FAILED, FinetuiError, Problem, render
from finetui.core.messages import LANGUAGES, language, set_language, t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from finetui.models.merged import Merged

Found = TypeVar("Found")
_ON_KEYBOARDS = {
    **{name: name.capitalize() for name in ("enter", "tab", "space", "home", "end", "insert", "backspace")},
    **{"escape": "Esc", "delete": "Del", "pageup": "PgUp", "pagedown": "PgDn"},
}

_FORCE_S = 30.0
"""So long may the end take after a signal: more than a merge needs to be broken off."""


class FinetuiApp(App[int]):
    """finetui on a whole terminal."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = bindings("app")
    CSS = """
    Screen { background: $background; color: $foreground; }
    Toast { max-width: 90%; }
    #title { height: 1; background: $panel; }
    Step VerticalScroll:focus, Monitor VerticalScroll:focus { outline-left: outer $primary; }
    """

    def __init__(self, *, lang: str | None = None, ascii_only: bool = False, first: Room | None = None) -> None:
        """`lang` was asked for, and goes before what was chosen the last time; `first` stands in place of home."""
        super().__init__()
        self._no_colour = NoColor()
        self._harmless: list[LineFilter] = [Harmless(), *([Ascii()] if ascii_only else [])]
        self.ascii_only = ascii_only
        """Whether nothing beyond ASCII may be drawn."""
        self.crash: Exception | None = None
        """What ended the app though it should not have."""
        self.working = 0
        """Works in the background whose end is still awaited."""
        self.merges: dict[Path, Merge] = {}
        """Those under way, by the folder of their run."""
        self._first = first
        self._taste = read_taste()
        if lang is None and self._taste.language:
            set_language(self._taste.language)
        for each in THEMES.values():
            self.register_theme(each)
        colours = 256 if self.console.color_system in ("256", "truecolor") else 16
        self.theme = first_theme(self._taste.theme, os.environ, colours)

    def get_default_screen(self) -> Screen[Any]:
        """Home, or the screen that it was opened with."""
        return self._first or make("home")

    async def on_load(self) -> None:
        """Before anything is drawn: the keys, and what to do when the line is cut."""
        self._listen()
        keys, self._key_problems = read_keys(names())
        self.set_keymap(keys)

    def on_mount(self) -> None:
        """Say what is wrong with the keys that were chosen."""
        if self._key_problems:
            self.warn(*self._key_problems)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Everything that each line goes through on its way to the terminal."""
        colourless = [self._no_colour] if self.theme == PLAIN else []
        return [*super().get_line_filters(), *colourless, *self._harmless]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key that leads to a screen that is not there is none."""
        return action != "open" or parameters[0] in SCREENS

    def get_key_display(self, binding: Binding) -> str:
        """A key as it is written on keyboards."""
        *held, last = binding.key.split("+")
        shown = _ON_KEYBOARDS.get(last) or (last.upper() if held or last[1:].isdigit() else format_key(last))
        return "+".join([*(each.capitalize() for each in held), shown])

    # ---- language, looks

    def speak(self, lang: str) -> None:
        """Say everything in another language from now on."""
        set_language(lang)
        self._keep(replace(self._taste, language=lang))
        for screen in self.screen_stack:
            if isinstance(screen, Room):
                screen.speak_all()

    def look(self, theme: str) -> None:
        """Look otherwise from now on."""
        self.theme = theme
        self._keep(replace(self._taste, theme=theme))

    def _keep(self, taste: Taste) -> None:
        self._taste = taste
        with contextlib.suppress(OSError):  # a home that cannot be written costs no more than the choice
            keep_taste(taste)

    def action_next_language(self) -> None:
        """The other language."""
        self.speak(LANGUAGES[(LANGUAGES.index(language()) + 1) % len(LANGUAGES)])

    def action_next_theme(self) -> None:
        """The next of the themes."""
        order = list(THEMES)
        self.look(order[(order.index(self.theme) + 1) % len(order)])

    # ---- ways

    def open(self, name: str, *arguments: Any, **options: Any) -> None:
        """Open a screen of the registry in front of this one."""
        self.push_screen(make(name, *arguments, **options))

    def action_open(self, name: str) -> None:
        """The same by a key."""
        self.open(name)

    def action_help(self) -> None:
        """Explain what has the focus, and every key; or have done with it."""
        from finetui.app.screens.help import Help

        if isinstance(self.screen, Help):
            self.screen.dismiss()
        else:
            self.push_screen(Help(self.screen))

    def action_palette(self) -> None:
        """Every action by its name."""
        from finetui.app.screens.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(self.screen), self._command)

    def _command(self, command: str | None) -> None:
        """Do what was chosen in the palette."""
        what, _, name = (command or "").partition(":")
        if what == "key":
            self.simulate_key(name)
        elif what == "theme":
            self.look(name)
        elif what == "language":
            self.speak(name)

    def action_help_quit(self) -> None:
        """Ctrl+C with nothing to copy: it is not how one leaves."""
        self.notify(t("app.hint-quit"), markup=False)

    async def action_quit(self) -> None:
        """Leave; runs go on. A screen on which something would be lost asks first."""
        if not any(isinstance(screen, Room) and screen.holds_back() for screen in reversed(self.screen_stack)):
            self.exit(0)

    def work(
        self, what: Callable[[], Found], then: Callable[[Found], None], fell: Callable[[Exception], None] | None = None
    ) -> None:
        """Do something that takes its time in the background, then call `then` with what it gave.

        What it raises is shown, unless `fell` takes it.
        """
        self.working += 1
        begin(self, what, then, fell or self.fell)

    @on(WorkDone)
    def _work_done(self, done: WorkDone) -> None:
        self.working -= 1
        done.follow()

    # ---- what goes wrong

    def fell(self, error: Exception) -> None:
        """Show what went wrong with something that was tried; what nobody has foreseen ends the app."""
        if isinstance(error, FinetuiError):
            self.refuse(error)
        elif isinstance(error, OSError):
            where = one_line(str(error.filename)) if error.filename else "–"
            self.refuse(FinetuiError(Problem("app.system", {"error": error.strerror or str(error)}, where)))
        else:
            raise error

    def tell_merged(self, merged: Merged, run: Path) -> None:
        """Say what came of a merge, in the words of the command line."""
        from finetui.cli.merge import fault, figures

        if not merged.is_good:
            self.refuse(FinetuiError(fault(merged, str(run)), JOB_FAILED))
            return
        mb, seconds = round(merged.bytes / 1e6), round(merged.seconds)
        said = [t("merge.done", base=merged.base, out=merged.out, mb=mb, seconds=seconds)]
        if merged.kl is None:
            said.append(t("merge.not-compared", base=merged.base))
        else:
            said.append(t("app.merge-equals", **figures(merged)))
            if merged.near_trained is False and (trained := merged.quantized_base) is not None:
                said.append(t("merge.far-from-trained", own=f"{merged.adapter_kl:.2g}", kl=f"{trained.kl:.2g}"))
        self.notify("\n".join(said), markup=False, timeout=30)

    def warn(self, *problems: Problem) -> None:
        """Say in a corner what is wrong."""
        self.notify(render(problems), severity="warning", markup=False, timeout=30)

    def refuse(self, error: FinetuiError) -> None:
        """Show why something cannot be done, in the words of the command line."""
        from finetui.app.screens.told import Told

        self.push_screen(Told(t("app.title-refused"), render(error.problems)))

    def _listen(self) -> None:
        """A closed line or SIGTERM ends the app as tidily as a key does; runs are in sessions of their own."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: a test's own loop
                    loop.add_signal_handler(number, self._end, 128 + number)

    def _end(self, code: int) -> None:
        """End, and by force where that has not come about: the writer to a terminal that is gone may wait for ever."""
        force = threading.Timer(_FORCE_S, os._exit, (code,))
        force.daemon = True
        force.start()
        self.exit(return_code=code)

    def _handle_exception(self, error: Exception) -> None:
        """What is taken down while it is still being put up may well fall: nobody is there any more to be told."""
        if self._exit:
            self._close_messages_no_wait()
        else:
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """Textual would print the traceback with every local value: data and tokens. The caller says it in a line."""
        self.crash = self._exception
        self._close_messages_no_wait()
