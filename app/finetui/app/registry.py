"""What the app consists of: its screens, and every action with its key.

A screen is added by a line in SCREENS and, where it has keys of its own, an entry in ACTIONS. An action is declared
once: footer, palette, help and `keys.toml` all take it from here; its words are `app.key-NAME` (a word or two, for the
footer) and `app.tip-NAME` (a sentence).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from textual.binding import Binding

if TYPE_CHECKING:
    from finetui.app.screens.room import Room

SCREENS: Mapping[str, str] = {
    "home": "finetui.app.screens.home:Home",
    "chat": "finetui.app.screens.chat:Chat",
    "monitor": "finetui.app.screens.monitor:Monitor",
    "wizard": "finetui.app.screens.wizard.frame:Wizard",
}
"""Each screen by its name: the module and the class, a Room."""


@dataclass(frozen=True)
class Action:
    """One thing that a key does."""

    name: str
    """Unique: names its words and its line in `keys.toml`."""
    keys: str
    """The keys unless `keys.toml` says otherwise, joined by commas, the one shown first."""
    does: str
    """The method `action_…` of the screen or widget that it is bound in, with arguments as Textual writes them."""
    shown: bool = True
    """Whether the footer has it; the palette and the help always do."""
    always: bool = False
    """Whether it also works while a field takes the keys. Only for keys that no field wants."""


ACTIONS: Mapping[str, tuple[Action, ...]] = {
    "app": (
        Action("help", "f1", "help", always=True),
        Action("palette", "f2,ctrl+p", "palette", always=True),
        Action("language", "f3", "next_language", shown=False, always=True),
        Action("theme", "f4", "next_theme", shown=False, always=True),
        Action("quit", "f10,q", "quit"),
    ),
    "room": (Action("back", "escape", "back"),),
    "told": (Action("close", "enter", "back"),),
    "list": (Action("choose", "enter", "select"),),
    "home": (
        Action("new", "n,f5", "app.open('wizard')"),
        Action("chat", "c", "chat"),
        Action("refresh", "r", "refresh", shown=False),
    ),
    "monitor": (
        Action("stop", "s", "stop"),
        Action("resume", "u", "resume"),
        Action("talk", "c", "talk"),
        Action("merge", "m", "merge"),
        Action("overlay", "o", "overlay"),
        Action("scale", "g", "scale", shown=False),
        Action("facts", "1", "panel('facts')", shown=False),
        Action("checkpoints", "2", "panel('checkpoints')", shown=False),
        Action("log", "3,l", "panel('log')", shown=False),
    ),
    "typed": (
        Action("send", "enter", "send", always=True),
        Action("newline", "alt+enter", "newline", shown=False, always=True),
    ),
    "talk": (
        Action("halt", "escape", "halt"),
        Action("who", "f5", "who(0)", always=True),
        Action("beside", "f6", "who(1)", always=True),
        Action("sampling", "f7", "sampling", always=True),
        Action("raw", "f8", "raw", always=True),
        Action("save", "f9", "save", always=True),
        Action("fresh", "ctrl+n", "fresh", shown=False, always=True),
        Action("again", "ctrl+r", "again", shown=False, always=True),
    ),
    "wizard": (Action("next", "f5,enter", "next"),),
    "options": (Action("pick", "enter", "select"),),
    "data": (Action("rows", "f6", "rows"), Action("remove", "delete,backspace", "remove")),
    "model": (Action("template", "f6", "template"),),
    "recipe": (Action("settings", "f6", "settings"),),
    "line": (Action("take", "enter", "submit"),),
    "path": (
        Action("complete", "tab", "complete"),
        Action("take-back", "delete", "take_back"),
    ),
    "launch": (Action("start", "enter", "submit"),),
    "form": (
        Action("edit", "enter", "select"),
        Action("default", "delete,backspace", "default"),
        Action("cycle", "space", "cycle", shown=False),
    ),
    "review": (Action("copy-commands", "c", "copy"), Action("save-commands", "w", "save")),
}
"""The actions of each place."""


def bindings(place: str) -> list[Any]:
    """The BINDINGS of a screen or widget."""
    return [
        Binding(
            action.keys,
            action.does,
            f"app.key-{action.name}",
            tooltip=f"app.tip-{action.name}",
            show=action.shown,
            priority=action.always,
            id=action.name,
        )
        for action in ACTIONS[place]
    ]


def names() -> frozenset[str]:
    """The names of all actions."""
    return frozenset(action.name for place in ACTIONS.values() for action in place)


def make(name: str, *arguments: Any, **options: Any) -> Room:
    """A new screen of this name.

    Raises KeyError where there is none.
    """
    module, _, kind = SCREENS[name].partition(":")
    return cast("Room", getattr(importlib.import_module(module), kind)(*arguments, **options))
