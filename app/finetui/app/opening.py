"""Opening the app: the terminal is looked at before anything of Textual is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetui.cli.ascii import locale_is_utf8
from finetui.core.errors import MACHINE, FinetuiError, Problem

if TYPE_CHECKING:
    from finetui.app.shell import FinetuiApp

_SLOW_LINE = {"TEXTUAL_FPS": "15", "TEXTUAL_ANIMATIONS": "none", "TEXTUAL_SMOOTH_SCROLL": "0"}
"""Over ssh every byte is paid for, and nothing that moves by itself is worth it."""
_SIZE = ("COLUMNS", "LINES")
"""Where they are exported they would stand for the window's size, also after that has changed."""
_LEAST = (40, 12)
"""Columns and rows below which the screens say nothing."""


def open_app(*, mouse: bool = True, lang: str | None = None) -> int:
    """Run the app until it is left, and give its exit code; `lang` is the language that was asked for.

    Raises FinetuiError (exit 5) on a terminal that cannot show it; whatever went wrong inside, the terminal restored.
    """
    check_terminal(os.environ)
    for name, value in _SLOW_LINE.items() if "SSH_TTY" in os.environ else [("TEXTUAL_ANIMATIONS", "none")]:
        os.environ.setdefault(name, value)
    for name in _SIZE:
        os.environ.pop(name, None)
    made = _app()
    is_utf8 = locale_is_utf8(os.environ, utf8_mode=bool(sys.flags.utf8_mode))
    app = made(lang=lang, ascii_only=not is_utf8)
    try:
        app.run(mouse=mouse)
    finally:
        for merge in app.merges.values():
            merge.end()
    if app.crash is not None:
        raise app.crash
    return app.return_code or 0


def check_terminal(environment: Mapping[str, str]) -> None:
    """Raises FinetuiError (exit 5) where stdin or stderr is no terminal, or it is one that knows no codes."""
    name = environment.get("TERM", "")
    if name in ("", "dumb", "unknown"):
        raise FinetuiError(Problem("app.dumb-terminal", {"term": name or "–"}), MACHINE)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise FinetuiError(Problem("app.no-terminal"), MACHINE)
    check_size(*os.get_terminal_size(sys.stderr.fileno()))


def check_size(columns: int, rows: int) -> None:
    """Raises FinetuiError (exit 5) where the app has no room; a size of 0 is one that nobody has told."""
    if 0 < columns < _LEAST[0] or 0 < rows < _LEAST[1]:
        facts = {"columns": columns, "rows": rows, "least_columns": _LEAST[0], "least_rows": _LEAST[1]}
        raise FinetuiError(Problem("app.small-terminal", facts), MACHINE)


def _app() -> type[FinetuiApp]:
    try:
        from finetui.app.shell import FinetuiApp
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise FinetuiError(Problem("app.no-textual", {"name": error.name}), MACHINE) from error
    return FinetuiApp
