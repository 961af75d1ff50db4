"""Opening `finetui --plain`, and how it ends."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys

from finetui.app.taste import read_taste
from finetui.cli.ascii import in_ascii, locale_is_utf8
from finetui.cli.plain.home import Home
from finetui.cli.plain.talk import Left
from finetui.core.messages import language, set_language

_RESEMBLING = "finetui.resembling"


def open_plain(lang: str | None = None) -> int:
    """Ask and answer until it is left, and give the exit code; `lang` is the language that was asked for."""
    _write_as_the_locale_does()
    if lang is None and (chosen := read_taste().language):
        set_language(chosen)
    if language() == "zh" and not _can_write("中"):
        set_language("en")
    try:
        return Home().live()
    except Left as left:
        return left.code


def _write_as_the_locale_does() -> None:
    """What the locale's encoding lacks is written as what resembles it; the C locale has ASCII alone."""
    codecs.register_error(_RESEMBLING, _resembling)
    is_utf8 = locale_is_utf8(os.environ, utf8_mode=bool(sys.flags.utf8_mode))
    with contextlib.suppress(AttributeError):  # streams that a test or an embedder put in place
        for stream in (sys.stdout, sys.stderr):
            python_chose = stream.encoding.lower().replace("-", "") == "utf8" and not is_utf8
            encoding = "ascii" if python_chose else stream.encoding
            stream.reconfigure(encoding=encoding, errors=_RESEMBLING)  # type: ignore[union-attr]


def _resembling(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return in_ascii(error.object[error.start : error.end]), error.end


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
