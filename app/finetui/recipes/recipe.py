"""A recipe: what a person asks for, as commented TOML, checked whole against the table of knobs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.errors import FinetuiError, Problem
from finetui.core.knobs import Value, check, knobs, nearest, tables

STAGES = ("sft", "pt")
METHODS = ("lora",)
HEADER = ("name", "stage", "method", "extends")
_SHIPPED = (Path(__file__).with_name("shipped"), Path(__file__).parents[3] / "recipes")
_ERROR_LINE = re.compile(r"\(at line (\d+)")


@dataclass(frozen=True)
class Recipe:
    """What was asked, before it meets data, model and hardware."""

    name: str
    """Its name, for bundles and the catalogue."""
    stage: str
    """sft or pt."""
    method: str
    """lora."""
    values: Mapping[str, Value]
    """The knobs that it sets, its parents' included."""
    text: str
    """The TOML as it was written, comments and all."""

    def about(self) -> str:
        """The first comment line of the file, which says what the recipe is for."""
        first = self.text.lstrip().split("\n", 1)[0]
        return first.lstrip("# ").strip() if first.startswith("#") else ""


def catalogue() -> dict[str, Path]:
    """The recipes that ship with finetui, by name."""
    folder = next((folder for folder in _SHIPPED if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def load_recipe(reference: str) -> Recipe:
    """The recipe of that name, or in that file.

    Raises FinetuiError (exit 3) with every error of the file, each with its line.
    """
    return _load(reference, ())


def _load(reference: str, children: tuple[Path, ...]) -> Recipe:
    shipped = catalogue()
    path = shipped.get(reference) or Path(reference)
    if not path.is_file():
        facts = {"recipe": reference, "near": nearest(reference, shipped), "names": ", ".join(shipped)}
        raise FinetuiError(Problem("recipes.not-found", facts))
    if path.resolve() in children:
        raise FinetuiError(Problem("recipes.circle", {"recipe": reference}, str(children[-1])))
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError:
        raise FinetuiError(Problem("recipes.not-toml", {"error": "not UTF-8"}, str(path))) from None
    except (ValueError, RecursionError) as error:  # tomllib lets a number of too many digits through as ValueError
        found = _ERROR_LINE.search(str(error))
        line = int(found[1]) if found else None
        raise FinetuiError(Problem("recipes.not-toml", {"error": str(error)}, str(path), line)) from error
    values, problems = _check(document, text, str(path))
    header: Mapping[str, Any] = document.get("recipe") if isinstance(document.get("recipe"), dict) else {}  # type: ignore[assignment]
    parent = header.get("extends")
    if isinstance(parent, str) and not problems:
        beside = path.parent / parent
        above = _load(str(beside) if parent.endswith(".toml") else parent, (*children, path.resolve()))
        values = {**above.values, **values}
        header = {"stage": above.stage, "method": above.method, **header}
    problems += _check_header(header, text, str(path))
    if problems:
        raise FinetuiError(sorted(problems, key=lambda problem: problem.line or 0))
    return Recipe(str(header.get("name") or path.stem), header["stage"], header["method"], values, text)


def _check(document: Mapping[str, Any], text: str, file: str) -> tuple[dict[str, Value], list[Problem]]:
    """The knobs of a recipe and everything that is wrong with them."""
    values: dict[str, Value] = {}
    problems: list[Problem] = []
    allowed = ["recipe", *tables()]
    for table, rows in document.items():
        if table not in allowed or not isinstance(rows, dict):
            facts = {"table": table, "tables": ", ".join(f"[{name}]" for name in allowed)}
            problems.append(Problem("recipes.unknown-table", facts, file, _line(text, table, None)))
            continue
        for name, value in rows.items() if table != "recipe" else ():
            line = _line(text, table, name)
            checked = check(name, value, file=file, line=line)
            if isinstance(checked, Problem):
                problems.append(checked)
            elif knobs()[name].table != table:
                facts = {"knob": name, "table": table, "right": knobs()[name].table}
                problems.append(Problem("recipes.wrong-table", facts, file, line))
            else:
                values[name] = checked
    return values, problems


def _check_header(header: Mapping[str, Any], text: str, file: str) -> list[Problem]:
    problems = []
    for name, choices in (("stage", STAGES), ("method", METHODS)):
        if header.get(name) not in choices:
            facts = {"key": name, "value": str(header.get(name, "-")), "choices": " | ".join(choices)}
            problems.append(Problem("recipes.bad-header", facts, file, _line(text, "recipe", name)))
    for name in header:
        if name not in HEADER:
            facts = {"key": name, "value": "-", "choices": ", ".join(HEADER)}
            problems.append(Problem("recipes.unknown-header", facts, file, _line(text, "recipe", name)))
    return problems


def _line(text: str, table: str, key: str | None) -> int | None:
    """The line of `key` in `[table]`, or of the table's own header; None for inline spellings."""
    inside = None
    wanted, within = (table, None) if key is None else (key, table)
    assignment = re.compile(rf"[\"']?{re.escape(wanted)}[\"']?\s*=")
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            inside = stripped.split("]")[0].strip("[] \t\"'")
            if key is None and inside == table:
                return number
        elif inside == within and assignment.match(stripped):
            return number
    return None
