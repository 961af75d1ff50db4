"""A guess at the language of a text, by its script and by the small words that a language is full of.

Enough to say what a dataset is made of. The table is `languages.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

OTHER = "other"
"""Letters of no known language, or of one that its words do not give away."""
NONE = "none"
"""Hardly a letter: figures, signs, white space."""
LOOKED_AT = 800
"""Characters that are looked at."""
_WORD = re.compile(r"[^\W\d_]+")
_FEWEST_WORDS = 0.05
"""Of a language's words, so many in all words are the least that give it away."""


class _Script(NamedTuple):
    name: str
    ranges: tuple[range, ...]
    weight: float
    languages: dict[str, frozenset[str]]
    """The small words of each language written in it; none where the script gives the language away."""


def language(text: str) -> str:
    """The ISO 639-1 code of the language that most of a text is in, `other` or `none`."""
    text = text[:LOOKED_AT]
    words: dict[str, float] = {}
    for letter, count in Counter(text).items():
        if script := _script_of(letter):
            words[script.name] = words.get(script.name, 0.0) + script.weight * count
    if words.get("kana", 0.0) > 0.1 * words.get("han", 0.0):  # Japanese writes both, Chinese only the one
        words["kana"] += words.pop("han", 0.0)
    if not words:
        return OTHER if _WORD.search(text) else NONE
    name = max(words, key=lambda name: words[name])
    languages = next(script.languages for script in _scripts() if script.name == name)
    return next(iter(languages)) if len(languages) == 1 else _by_words(text, languages)


def _by_words(text: str, languages: dict[str, frozenset[str]]) -> str:
    words = Counter(_WORD.findall(text.lower()))
    met = {code: sum(words[word] for word in known & words.keys()) for code, known in languages.items()}
    best = max(met, key=lambda code: met[code])
    return best if met[best] >= max(1, _FEWEST_WORDS * words.total()) else OTHER


@lru_cache(maxsize=1 << 16)
def _script_of(letter: str) -> _Script | None:
    code = ord(letter)
    return next((script for script in _scripts() if any(code in letters for letters in script.ranges)), None)


@cache
def _scripts() -> tuple[_Script, ...]:
    with Path(__file__).with_suffix(".toml").open("rb") as stream:
        table: list[dict[str, Any]] = tomllib.load(stream)["script"]
    return tuple(
        _Script(
            script["name"],
            tuple(range(ord(pair[0]), ord(pair[2]) + 1) for pair in script["letters"].split()),
            script["weight"],
            {code: frozenset(words.split()) for code, words in script["languages"].items()},
        )
        for script in table
    )
