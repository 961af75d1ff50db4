"""`finetui recipes`: the catalogue, one recipe, and the glossary of knobs and of other tools' words."""

from __future__ import annotations

import click

from finetui.cli.common import Output, command
from finetui.cli.hanging import print_hanging
from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.glossary import Term, as_toml, terms
from finetui.core.knobs import GROUPS, Knob, knobs, named, nearest_name
from finetui.core.messages import language, t
from finetui.core.text import safe_text
from finetui.recipes.recipe import Recipe, catalogue, load_recipe


@command("recipes")
@click.argument("action", required=False, metavar="[show|explain]")
@click.argument("name", required=False)
def recipes_command(output: Output, action: str | None, name: str | None) -> None:
    """List the recipes, print one, or explain knobs and other tools' words."""
    match action:
        case None:
            _list(output)
        case "show":
            if name is None:
                raise FinetuiError(Problem("recipes.no-name", {"names": ", ".join(catalogue())}), USAGE)
            _show(output, load_recipe(name))
        case "explain":
            _explain(output, name)
        case _:
            raise FinetuiError(Problem("recipes.bad-action", {"action": action}), USAGE)


def _list(output: Output) -> None:
    recipes = [load_recipe(name) for name in catalogue()]
    if not output.json:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("name", "method", "stage"):
            table.add_column(t(f"recipes.column-{column}"), no_wrap=True)
        table.add_column(t("recipes.column-about"), overflow="fold")
        for recipe in recipes:
            table.add_row(recipe.name, recipe.method, recipe.stage, recipe.about())
        output.console().print(table)
    facts = [
        {"name": recipe.name, "method": recipe.method, "stage": recipe.stage, "about": recipe.about("en")}
        for recipe in recipes
    ]
    output.result({"recipes": facts})


def _show(output: Output, recipe: Recipe) -> None:
    output.data(safe_text(recipe.text.rstrip("\n")))
    if recipe.inherited and not output.json:
        output.note("\n" + t("recipes.inherited", parent=recipe.extends))
        for name in knobs():
            if name in recipe.inherited:
                output.note(f"  {name} = {safe_text(as_toml(recipe.values[name]))}")
    output.result(
        {
            "name": recipe.name,
            "stage": recipe.stage,
            "method": recipe.method,
            "extends": recipe.extends or None,
            "about": recipe.about("en"),
            "knobs": recipe.values,
            "inherited": sorted(recipe.inherited),
        }
    )


def _explain(output: Output, word: str | None) -> None:
    chosen: list[Knob | Term] = [*knobs().values(), *terms().values()] if word is None else named(word)
    if word is not None and not chosen:
        near = nearest_name(word)
        code = "knobs.unknown-term-near" if near else "knobs.unknown-term"
        raise FinetuiError(Problem(code, {"word": word, "near": near}), USAGE)
    blocks = []
    for group in GROUPS:
        members = [entry for entry in chosen if entry.group == group]
        if members and word is None:
            title = t(f"knobs.group-{group}")
            blocks.append(f"{title}\n{'─' * 2 * len(title)}" if language() == "zh" else f"{title}\n{'─' * len(title)}")
        blocks += [explained(entry) for entry in members]
    if not output.json:
        _print_wrapped(output, "\n\n".join(blocks))
    output.result(
        {
            "knobs": {entry.name: _knob_json(entry) for entry in chosen if isinstance(entry, Knob)},
            "terms": {entry.name: _term_json(entry) for entry in chosen if isinstance(entry, Term)},
        }
    )


def explained(entry: Knob | Term) -> str:
    """What a setting does, or what another tool's word stands for, in lines."""
    return _of_knob(entry) if isinstance(entry, Knob) else _of_term(entry)


def _print_wrapped(output: Output, text: str) -> None:
    """Lines that are broken at words on a terminal, each going on below its own beginning; as they are elsewhere."""
    from rich.text import Text

    console = output.console()
    if not console.is_terminal:
        output.data(text)
        return
    for line in text.split("\n"):
        plain = line.lstrip(" ")
        print_hanging(console, Text(line[: len(line) - len(plain)]), plain) if plain else console.print()


def _of_knob(knob: Knob) -> str:
    default = t("recipes.derived") if knob.default is None else as_toml(knob.default)
    facts = [t(f"recipes.changes-{knob.changes}")]
    if knob.stages:
        facts.append(t("recipes.only-stages", stages=", ".join(knob.stages)))
    if knob.methods:
        facts.append(t("recipes.only-methods", methods=", ".join(knob.methods)))
    if knob.also:
        facts.append(t("recipes.also", names=", ".join(knob.also)))
    takes = t("recipes.takes", expected=knob.expected(), default=default)
    return "\n  ".join([f"{knob.name}  [{knob.table}]", *knob.explain().split("\n"), takes, *facts])


def _of_term(term: Term) -> str:
    lines = [term.name, term.help[language()], f"→ {term.here[language()]}"]
    if term.knobs:
        lines.append(t("recipes.see", names=", ".join(term.knobs)))
    if term.also:
        lines.append(t("recipes.also", names=", ".join(term.also)))
    return "\n  ".join(lines)


def _knob_json(knob: Knob) -> dict[str, object]:
    return {
        "table": knob.table,
        "group": knob.group,
        "takes": knob.expected("en"),
        "type": knob.type,
        "choices": list(knob.choices),
        "min": knob.min,
        "above": knob.above,
        "max": knob.max,
        "unit": dict(knob.unit or {}) or None,
        "default": knob.default,
        "changes": knob.changes,
        "stages": list(knob.stages),
        "methods": list(knob.methods),
        "also": list(knob.also),
        "help": dict(knob.help),
        "trade": dict(knob.trade),
    }


def _term_json(term: Term) -> dict[str, object]:
    return {
        "group": term.group,
        "also": list(term.also),
        "knobs": list(term.knobs),
        "help": dict(term.help),
        "here": dict(term.here),
    }
