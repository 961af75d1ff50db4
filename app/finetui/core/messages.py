"""Every visible string by its code, in English and 简体中文: `t("data.empty-file", file=name)`.

The table is `messages/AREA.toml`, an area a file, read when first needed. An entry has `en` and `zh`, and where it is
an error also `expected` and `next` (each a string that serves both languages, or a table of the two).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from finetui.core.text import safe_text

LANGUAGES = ("en", "zh")
_TABLES = Path(__file__).parent / "messages"
_chosen: str | None = None


def set_language(lang: str | None) -> None:
    """Choose the language of everything shown from now on; None goes back to the environment's."""
    global _chosen
    _chosen = lang


def language() -> str:
    """The language in force: the chosen one, else that of LC_ALL, LC_MESSAGES or LANG, else English."""
    if _chosen:
        return _chosen
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


@cache
def table(area: str) -> dict[str, dict[str, Any]]:
    """All entries of one area, by the part of their code after the dot."""
    with (_TABLES / f"{area}.toml").open("rb") as stream:
        return tomllib.load(stream)


def entry(code: str) -> Mapping[str, Any]:
    """The entry of one code.

    Raises KeyError where the table has none.
    """
    area, _, name = code.partition(".")
    return table(area)[name]


def t(code: str, lang: str | None = None, /, **facts: object) -> str:
    """The text of `code` in the language in force, its `{placeholders}` filled; `code#expected` is another part of it.

    What is no number among the facts is foreign until proven otherwise and goes through `safe_text`.

    Raises KeyError where the table has no such code, or where a fact is missing.
    """
    code, _, part = code.partition("#")
    found: Any = entry(code)
    if part:
        found = found[part]
    text: str = found if isinstance(found, str) else found[lang or language()]
    return text.format_map({key: v if isinstance(v, (int, float)) else safe_text(str(v)) for key, v in facts.items()})
