"""What a conversion has written, and which rows were chosen for it, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetui.cli.describe import add_fact
from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from finetui.data import Conversion


def add_parts(table: Table, conversion: Conversion) -> None:
    """The files of a conversion with their rows, what was left out, and why."""
    if conversion.sha256 is None:
        return
    if conversion.chosen is None:
        add_fact(table, t("data.label-written"), one_line(str(conversion.out / "data.jsonl")))
        add_fact(table, t("data.label-sha256"), conversion.sha256)
        return
    for number, (part, written) in enumerate(conversion.splits.items()):
        facts = {"part": t(f"choose.part-{part}"), "rows": written["rows"]}
        text = t("choose.label-part", **facts, file=one_line(str(conversion.out / written["file"])))
        add_fact(table, "" if number else t("choose.label-rows"), text)
    if repeated := conversion.chosen["repeated"]:
        add_fact(table, "", t("choose.label-repeated", count=repeated))
    for number, (why, rows) in enumerate(conversion.chosen["dropped"].items()):
        add_fact(table, "" if number else t("choose.label-dropped"), f"{rows} × {t(f'choose.why-{why}')}")
    add_fact(table, t("data.label-sha256"), conversion.sha256)
