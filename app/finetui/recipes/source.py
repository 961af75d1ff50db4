"""The text of a recipe: its TOML, the line that each key stands on, and all of its syntax errors at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.errors import FinetuiError, Problem

Keys = tuple[str, ...]
_LIMIT = 1 << 20
_DEEPEST = 8
_TOKEN = re.compile(
    r'"{3}(?:\\.|[^\\])*?"{3}(?!")|' + r"'{3}.*?'{3}(?!')|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|#[^\n]*|[\[\]{}\n]",
    re.DOTALL,
)
_BEGINNING = re.compile(r"\s*(\[|[\w\"'.-]+\s*=)")
_BARE_WORD = re.compile(r"\s*([\w\"'.-]+\s*=\s*)([^\W\d_][\w./:-]*)\s*(?:#[^\n]*)?\n?")
_PYTHON = {"True": "true", "False": "false"}
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True)
class Source:
    """A recipe as it was read."""

    file: str
    """As the user named it."""
    text: str
    """Comments and all."""
    document: Mapping[str, Any]
    """What the TOML says; of a file with errors, what its other statements say."""
    lines: Mapping[Keys, int]
    """The first line of every key, from 1."""
    problems: tuple[Problem, ...] = ()
    """The statements that are not TOML, and keys said twice."""

    def line(self, *keys: str) -> int | None:
        """The line of a key, or of the table that would hold it; None where the file has neither."""
        return next((self.lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self.lines), None)


def read_source(path: Path) -> Source:
    """Read a recipe, errors included.

    Raises FinetuiError (exit 3) for what is no text, too much of it, or no TOML at all.
    """
    file = str(path)
    with path.open("rb") as stream:
        content = stream.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise FinetuiError(Problem("recipes.not-toml", {"error": f"over {_LIMIT} bytes"}, file))
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise FinetuiError(Problem("recipes.not-toml", {"error": "not UTF-8"}, file)) from None
    source = _read_statements(text, file)
    try:
        return Source(file, text, tomllib.loads(text), source.lines)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        problems = source.problems or (_problem(error, file, 1),)
        if not source.document:
            raise FinetuiError(problems[0]) from error
        return Source(file, text, source.document, source.lines, problems)


def _read_statements(text: str, file: str) -> Source:
    """The file statement by statement: one that is wrong does not hide the others."""
    document: dict[str, Any] = {}
    lines: dict[Keys, int] = {}
    problems: list[Problem] = []
    inside: Keys = ()
    for line, statement in _statements(text):
        try:
            said = tomllib.loads(statement)
            keys = list(_keys(said))
        except (ValueError, RecursionError) as error:
            meant = _quoted(statement)
            if meant is None:
                problems.append(_problem(error, file, line))
                continue
            problems.append(Problem("recipes.unquoted", {"meant": meant}, file, line))
            said = tomllib.loads(meant)
            keys = list(_keys(said))
        header = statement.lstrip().startswith("[")
        inside = keys[-1] if header else inside
        keys = [inside] if header else [(*inside, *key) for key in keys]
        if keys[-1] in lines:
            facts = {"key": ".".join(keys[-1]), "first": lines[keys[-1]]}
            problems.append(Problem("recipes.twice", facts, file, line))
        for key in keys:
            lines.setdefault(key, line)
        if not header:
            for name in reversed(inside):
                said = {name: said}
            _merge(document, said)
    return Source(file, text, document, lines, tuple(problems))


def _quoted(statement: str) -> str | None:
    """What was probably meant where a word stands without quotes, as Python or YAML have it."""
    found = _BARE_WORD.fullmatch(statement)
    if found is None or found[2].lower() in ("null", "none"):
        return None
    meant = found[1] + _PYTHON.get(found[2], f'"{found[2]}"')
    try:
        tomllib.loads(meant)
    except ValueError:
        return None
    return meant


def _keys(document: Any, deepest: int = _DEEPEST) -> Iterator[Keys]:
    """Every key of nested tables, outer ones first."""
    for name, value in document.items() if isinstance(document, dict) and deepest else ():
        yield (name,)
        for keys in _keys(value, deepest - 1):
            yield (name, *keys)


def _merge(document: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            _merge(document[name], value)
        else:
            document.setdefault(name, value)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each table header and each assignment with its first line; what follows an unclosed bracket, line by line."""
    text += "\n"
    start, line, depth = 0, 1, 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in ("[", "{"):
            depth += 1
        elif sign in ("]", "}"):
            depth -= 1
        elif sign == "\n" and depth <= 0:
            statement = text[start : token.end()]
            if _says_something(statement):
                yield line, statement
            start, depth = token.end(), 0
            line += statement.count("\n")
    first, *others = text[start:].split("\n")
    if _says_something(first):
        yield line, first
    yield from ((number, other) for number, other in enumerate(others, line + 1) if _BEGINNING.match(other))


def _says_something(statement: str) -> bool:
    stripped = statement.strip()
    return bool(stripped) and not stripped.startswith("#")


def _problem(error: Exception, file: str, line: int) -> Problem:
    words = str(error) or type(error).__name__
    place = _PLACE.search(words)
    line += int(place[1]) - 1 if place and place[1] else 0
    return Problem("recipes.not-toml", {"error": _PLACE.sub("", words)}, file, line)
