"""Settings by lines: NAME=VALUE, held against the table of knobs at once; NAME alone says what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from finetui.cli.plain.talk import say, say_error
from finetui.cli.recipes import explained
from finetui.core.errors import FinetuiError
from finetui.core.knobs import knobs, parse_assignments
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.draft import Draft


def tell(values: Mapping[str, str], reason: Callable[[str], str] | None = None) -> None:
    """Each of these settings with its value, and why that is so."""
    for name, value in values.items():
        why = reason(name) if reason else ""
        facts = {"name": name, "value": one_line(value, 400) or "–", "why": why}
        say(t("plain.setting-why" if why else "plain.setting", **facts))


def assigned(draft: Draft, typed: str, values: Mapping[str, str]) -> Draft | None:
    """The draft with a setting as it was typed; None where nothing has changed, and why has been said.

    `NAME=` leaves it to recipe and machine again, `NAME` says what it is and has now.
    """
    name, sign, value = (part.strip() for part in typed.removeprefix("--set ").partition("="))
    if name not in values:
        say(t("plain.no-such-setting", name=one_line(name)))
        return None
    if not sign:
        say(explained(knobs()[name]))
        tell({name: values[name]})
        return None
    try:
        if value:
            parse_assignments([f"{name}={value}"])
    except FinetuiError as error:
        say_error(error)
        return None
    return draft.setting(name, value or None)
