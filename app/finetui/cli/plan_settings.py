"""The settings of a plan as lines: name, value, why; by group, and defaults in one paragraph."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from finetui.cli.hanging import padded, print_hanging
from finetui.core.glossary import as_toml
from finetui.core.knobs import GROUPS, Value, knobs
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.recipes.resolve import Choice, Settings

_WIDEST = 11
"""Cells of a value beside which its reason still stands; below longer ones."""
_DEFAULT = "reasons.default"
_RECIPE = "reasons.recipe"


def print_settings(console: Console, settings: Settings) -> None:
    """Print them all."""
    choices, table = settings.choices, knobs()
    told = {name: choice for name, choice in choices.items() if choice.code != _DEFAULT}
    width = max(map(len, told))
    for group in GROUPS:
        members = {name: choice for name, choice in told.items() if table[name].group == group}
        if members:
            console.print(Text(f"  {t(f'knobs.group-{group}')}", style="cyan"))
        for name, choice in members.items():
            _print(console, f"    {padded(name, width)}  ", choice)
    defaults = [f"{name}={shown(choice.value)}" for name, choice in choices.items() if choice.code == _DEFAULT]
    if defaults:
        console.print(Text(f"  {t('plan.defaults')}", style="cyan"))
        print_hanging(console, Text("    "), Text(" ".join(defaults), style="dim"))


def _print(console: Console, name: str, choice: Choice) -> None:
    value = shown(choice.value)
    why = reason(choice)
    if cell_len(value) <= _WIDEST:
        print_hanging(console, Text(name) + Text(f"{padded(value, _WIDEST)}  ", style="bold"), Text(why))
        return
    print_hanging(console, Text(name), Text(value, style="bold"))
    print_hanging(console, Text(" " * (cell_len(name) + _WIDEST + 2)), why)


def reason(choice: Choice) -> str:
    """Why a value was chosen; that it is the recipe's own in a word."""
    return t("plan.reason-recipe") if choice.code == _RECIPE else choice.why()


def shown(value: Value) -> str:
    """As `--set` takes it."""
    if isinstance(value, list):
        return one_line(",".join(value))
    return one_line(value, 400) or '""' if isinstance(value, str) else as_toml(value)
