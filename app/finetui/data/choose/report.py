"""How rows were chosen, in figures for the report and the lock, and in warnings."""

from __future__ import annotations

from typing import Any

from finetui.core.errors import Problem
from finetui.core.text import one_line
from finetui.data.choose.rules import LEAK
from finetui.data.choose.selection import Selection


def report(selection: Selection) -> dict[str, Any] | None:
    """How rows were chosen, and what came of it; None where all are trained as they are."""
    filling = selection.inputs[0].filling
    if not (selection.decides or filling.texts):
        return None
    told: dict[str, Any] = {"asked": selection.choosing.asked(), **selection.outcome.to_json()}
    if selection.decides:
        told["seed"] = selection.choosing.seed
    if filling.texts:
        told["fill"] = {name: {"text": text, "rows": filling.rows[name]} for name, text in filling.texts.items()}
    return told


def warnings(selection: Selection) -> list[Problem]:
    """Placeholders that no row held, rows that leak, rows that the rules could not judge."""
    outcome = selection.outcome
    found = [Problem("choose.unfilled", {"name": name}) for name in selection.inputs[0].filling.unused()]
    if leaks := outcome.dropped.get(LEAK):
        examples = [shown for read in selection.inputs for shown in read.tally.examples.get(LEAK, ())]
        where = f"{one_line(examples[0][0].file)}:{examples[0][0].row}" if examples else "–"
        found.append(Problem("choose.leaks", {"count": leaks, "where": where}))
    if outcome.ungrouped:
        found.append(Problem("choose.ungrouped", {"count": outcome.ungrouped, "field": selection.choosing.group_by}))
    if outcome.uncounted:
        found.append(Problem("choose.uncounted", {"count": outcome.uncounted}))
    return found
