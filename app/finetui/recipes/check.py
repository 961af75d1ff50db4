"""What is wrong with a recipe: its header, its tables and its knobs, each with its line."""

from __future__ import annotations

from typing import Any

from finetui.core.errors import Problem
from finetui.core.glossary import as_toml, find_term
from finetui.core.knobs import Knob, Value, check, knobs, nearest, tables, unknown
from finetui.recipes.source import Source

STAGES = ("sft", "pt", "dpo", "kto", "reward")
METHODS = ("lora", "full")
_CHOICES = {"stage": STAGES, "method": METHODS}
HEADER = ("name", "stage", "method", "extends")


def check_header(source: Source) -> tuple[dict[str, str], list[Problem]]:
    """The keys of [recipe] that are right, and what is wrong with the others."""
    header: dict[str, str] = {}
    problems = list(source.problems)
    written = source.document.get("recipe", {})
    if not isinstance(written, dict):
        return header, problems
    for key, value in written.items():
        line = source.line("recipe", key)
        choices = _CHOICES.get(key)
        if key not in HEADER:
            problems.append(_unknown_key(key, value, source.file, line))
        elif not isinstance(value, str) or not value or (choices and value not in choices):
            problems.append(_bad_key(key, value, source.file, line))
        else:
            header[key] = value
    if not source.problems and "extends" not in written:
        problems += [
            Problem("recipes.no-key", {"key": key, "choices": " | ".join(choices)}, source.file, source.line("recipe"))
            for key, choices in _CHOICES.items()
            if key not in written and key not in source.document
        ]
    return header, problems


def check_knobs(source: Source, stage: str | None, method: str | None) -> tuple[dict[str, Value], list[Problem]]:
    """The knobs that the file itself sets and everything that is wrong with them.

    What a knob's stage or method ought to be is left out where the file's own, None here, is not known.
    """
    values: dict[str, Value] = {}
    problems: list[Problem] = []
    allowed = ["recipe", *tables()]
    for table, rows in source.document.items():
        if not isinstance(rows, dict):
            problems += _outside(table, rows, source)
            continue
        if table not in allowed:
            problems.append(_unknown_table(table, allowed, source))
        for name, value in rows.items() if table != "recipe" else ():
            line = source.line(table, name)
            knob = knobs().get(name)
            checked = check(name, value, file=source.file, line=line)
            if isinstance(checked, Problem):
                problems.append(checked)
            else:
                values[name] = checked
            if knob is not None:
                if table != knob.table and table in allowed:
                    facts = {"knob": name, "table": table, "right": knob.table}
                    problems.append(Problem("recipes.wrong-table", facts, source.file, line))
                problems += misplaced(knob, stage, method, source.file, line)
    return values, problems


def misplaced(knob: Knob, stage: str | None, method: str | None, file: str, line: int | None) -> list[Problem]:
    """What is wrong with setting a knob for a training of this stage and method; either is None where not known."""
    problems = []
    if stage and knob.stages and stage not in knob.stages:
        facts = {"knob": knob.name, "stage": stage, "stages": " | ".join(knob.stages)}
        problems.append(Problem("recipes.not-of-stage", facts, file, line))
    if method and knob.methods and method not in knob.methods:
        facts = {"knob": knob.name, "method": method, "methods": " | ".join(knob.methods)}
        problems.append(Problem("recipes.not-of-method", facts, file, line))
    return problems


def _bad_key(key: str, value: Any, file: str, line: int | None) -> Problem:
    facts: dict[str, object] = {"key": key, "value": value if isinstance(value, str) else as_toml(value)}
    if key not in _CHOICES:
        return Problem("recipes.no-text", facts, file, line)
    term = find_term(str(value))
    if term is not None:
        return Problem("recipes.other-word", {**facts, "here": term.here}, file, line)
    return Problem("recipes.bad-header", {**facts, "choices": " | ".join(_CHOICES[key])}, file, line)


def _unknown_key(key: str, value: Any, file: str, line: int | None) -> Problem:
    if key in knobs():
        return Problem("recipes.wrong-table", {"knob": key, "table": "recipe", "right": knobs()[key].table}, file, line)
    if find_term(key) is not None:
        return unknown(key, value, file=file, line=line)
    facts = {"key": key, "near": nearest(key, HEADER), "choices": ", ".join(HEADER)}
    return Problem("recipes.unknown-header", facts, file, line)


def _unknown_table(table: str, allowed: list[str], source: Source) -> Problem:
    near = nearest(table, allowed, 0.6)
    facts = {"table": table, "near": near, "tables": ", ".join(f"[{name}]" for name in allowed)}
    return Problem(
        "recipes.unknown-table-near" if near else "recipes.unknown-table", facts, source.file, source.line(table)
    )


def _outside(name: str, value: Any, source: Source) -> list[Problem]:
    """What is wrong with a key above all tables, or with a table that is no table."""
    line = source.line(name)
    if name in ("recipe", *tables()):
        return [Problem("recipes.no-table", {"table": name}, source.file, line)]
    right = knobs()[name].table if name in knobs() else "recipe"
    if name not in knobs() and name not in HEADER:
        return [unknown(name, value, file=source.file, line=line)]
    checked = check(name, value, file=source.file, line=line) if name in knobs() else value
    outside = Problem("recipes.outside", {"knob": name, "right": right}, source.file, line)
    return [outside, checked] if isinstance(checked, Problem) else [outside]
