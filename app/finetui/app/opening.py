"""Opening the app: the terminal is looked at before anything of Textual is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from finetui.core.errors import MACHINE, FinetuiError, Problem

_SLOW_LINE = {"TEXTUAL_FPS": "15", "TEXTUAL_ANIMATIONS": "none", "TEXTUAL_SMOOTH_SCROLL": "0"}
"""Over ssh every byte is paid for, and nothing that moves by itself is worth it."""


def open_app(*, mouse: bool = True, lang: str | None = None) -> int:
    """Run the app until it is left, and give its exit code; `lang` is the language that was asked for.

    Raises FinetuiError (exit 5) on a terminal that cannot show it; whatever went wrong inside, the terminal restored.
    """
    check_terminal(os.environ)
    for name, value in _SLOW_LINE.items() if "SSH_TTY" in os.environ else [("TEXTUAL_ANIMATIONS", "none")]:
        os.environ.setdefault(name, value)
    from finetui.app.shell import FinetuiApp

    is_utf8 = locale_is_utf8(os.environ, utf8_mode=bool(sys.flags.utf8_mode))
    app = FinetuiApp(lang=lang, ascii_only=not is_utf8)
    app.run(mouse=mouse)
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


def locale_is_utf8(environment: Mapping[str, str], *, utf8_mode: bool) -> bool:
    """Whether the locale that this process was started in writes UTF-8.

    Python itself sets LC_CTYPE where it finds the C locale, and is in its UTF-8 mode then: that says nothing.
    """
    lc_all, lc_ctype = environment.get("LC_ALL"), environment.get("LC_CTYPE")
    if utf8_mode and "PYTHONUTF8" not in environment and lc_ctype == "C.UTF-8":
        lc_ctype = None
    name = lc_all or lc_ctype or environment.get("LANG") or ""
    return "utf8" in name.lower().replace("-", "")
