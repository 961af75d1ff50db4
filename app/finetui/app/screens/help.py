"""F1: what has the focus, and every key that does something now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from textual.dom import DOMNode
from textual.screen import Screen

from finetui.app.screens.room import Room
from finetui.app.screens.told import Told
from finetui.app.widgets.footer import OURS
from finetui.core.messages import entry, t


class Help(Told):
    """The help of a screen, which begins with what has the focus in it."""

    def __init__(self, screen: Screen[Any]) -> None:
        words = [text for node in _from_focus(screen) if (text := help_of(node))]
        super().__init__(t("app.title-help"), "\n\n".join([*words, "\n".join(_keys(screen))]))


def help_of(node: DOMNode) -> str | None:
    """What is said of a widget or screen: `explain()` of an Explained one, else the message `app.help-ID`."""
    from finetui.app.widgets.explained import Explained

    if isinstance(node, Explained):
        return node.explain()
    code = f"app.help-{node.NAME if isinstance(node, Room) else node.id}"
    return t(code) if _is_known(code) else None


def _from_focus(screen: Screen[Any]) -> Iterator[DOMNode]:
    """What has the focus, and all that it is in, outwards."""
    yield from (screen.focused or screen).ancestors_with_self


def _keys(screen: Screen[Any]) -> Iterator[str]:
    """Each key with its sentence; those of one action together."""
    found: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        if active.binding.description.startswith(OURS):
            found.setdefault(active.binding.tooltip, []).append(screen.app.get_key_display(active.binding))
    shown = {tip: ", ".join(keys) for tip, keys in found.items()}
    width = max(map(cell_len, shown.values()), default=0)
    for tip, keys in shown.items():
        yield f"{keys}{' ' * (width - cell_len(keys))}  {t(tip)}"


def _is_known(code: str) -> bool:
    try:
        entry(code)
    except KeyError:
        return False
    return True
