"""Letters where one types, or is asked: they mean what they mean there, and nothing that they mean to the whole app."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.screen import Screen


def is_free_letter(screen: Screen[Any], event: events.Key) -> bool:
    """Whether a key is a letter, a digit or a sign that nothing on this screen is bound to."""
    bound = screen.active_bindings.get(event.key)
    return event.is_printable and (bound is None or bound.node is screen.app)
