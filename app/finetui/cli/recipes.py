"""`finetui recipes`: the catalogue, one recipe, and the glossary of knobs."""

from __future__ import annotations

import click

from finetui.cli.common import Output, command
from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.knobs import Knob, knobs, nearest
from finetui.core.messages import t
from finetui.core.text import safe_text
from finetui.recipes.recipe import catalogue, load_recipe


@command("recipes")
@click.argument("action", required=False, metavar="[show|explain]")
@click.argument("name", required=False)
def recipes_command(output: Output, action: str | None, name: str | None) -> None:
    """List the recipes, print one, or explain knobs."""
    match action:
        case None:
            _list(output)
        case "show":
            recipe = load_recipe(name or "")
            output.data(safe_text(recipe.text.rstrip("\n")))
            output.result({"name": recipe.name, "stage": recipe.stage, "method": recipe.method, "knobs": recipe.values})
        case "explain":
            _explain(output, name)
        case _:
            raise FinetuiError(Problem("recipes.bad-action", {"action": action}), USAGE)


def _list(output: Output) -> None:
    recipes = [load_recipe(name) for name in catalogue()]
    if not output.json:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for recipe in recipes:
            table.add_row(Text(recipe.name), Text(recipe.about()))
        output.console().print(table)
    output.result({"recipes": [{"name": recipe.name, "about": recipe.about()} for recipe in recipes]})


def _explain(output: Output, name: str | None) -> None:
    if name is not None and name not in knobs():
        near = nearest(name, knobs())
        raise FinetuiError(
            Problem("knobs.unknown-near" if near else "knobs.unknown", {"knob": name, "near": near}), USAGE
        )
    chosen = [knob for knob in knobs().values() if name in (None, knob.name)]
    output.data("\n\n".join(_in_words(knob) for knob in chosen))
    output.result({"knobs": {knob.name: _as_json(knob) for knob in chosen}})


def _in_words(knob: Knob) -> str:
    default = t("recipes.derived") if knob.default is None else str(knob.default)
    takes = t("recipes.takes", expected=knob.expected(), default=default)
    return "\n  ".join(
        [f"{knob.name}  [{knob.table}]", *knob.explain().split("\n"), takes, t(f"recipes.changes-{knob.changes}")]
    )


def _as_json(knob: Knob) -> dict[str, object]:
    return {
        "table": knob.table,
        "takes": knob.expected(),
        "default": knob.default,
        "changes": knob.changes,
        "help": dict(knob.help),
        "trade": dict(knob.trade),
    }
