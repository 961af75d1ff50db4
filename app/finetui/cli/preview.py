"""`finetui preview`: one row as the model will see it, with what is trained marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from finetui.cli.common import Output, command, option
from finetui.cli.data_options import data_argument
from finetui.core.errors import FinetuiError, Problem
from finetui.core.messages import t
from finetui.core.text import one_line, safe_text

if TYPE_CHECKING:
    from rich.text import Text

    from finetui.core.encode import Encoded
    from finetui.data import Record

_OPEN, _CLOSE = "⟦", "⟧"
_TRAINED = "bold green"


@command("preview")
@data_argument
@option("--model", required=True, metavar="PATH|HUB_ID|demo", help_code="data.opt-model")
@option("--template", metavar="NAME|FILE", help_code="data.opt-template")
@option("--row", type=click.IntRange(min=1), default=1, metavar="N", help_code="data.opt-row")
def preview_command(output: Output, paths: tuple[str, ...], model: str, template: str | None, row: int) -> None:
    """Show one row rendered, trained parts between marks and in colour."""
    from finetui.core.encode import encode_rows, load_template, load_tokenizer
    from finetui.models.find import find_model

    found = _find_row(paths, row)
    folder = find_model(model)
    tokenizer = load_tokenizer(folder)
    encoded = encode_rows(found.record, tokenizer, load_template(folder, tokenizer, template))
    output.result({**found.place.to_json(), "rows": [_as_json(each) for each in encoded]})
    if output.json:
        return
    console = output.console()
    console.print(t("data.preview-where", file=one_line(found.place.file), row=found.place.row), style="cyan")
    for each in encoded:
        trained = sum(label >= 0 for label in each.labels)
        console.print(t("data.preview-counts", tokens=len(each.input_ids), trained=trained), style="cyan")
        console.print(marked(each), soft_wrap=True)


def marked(encoded: Encoded) -> Text:
    """The rendering made harmless, what is trained between marks and in colour."""
    from rich.text import Text

    shown, at = Text(), 0
    for start, end in _joined(encoded):
        shown.append(safe_text(encoded.text[at:start]))
        shown.append(f"{_OPEN}{safe_text(encoded.text[start:end])}{_CLOSE}", style=_TRAINED)
        at = end
    shown.append(safe_text(encoded.text[at:]))
    return shown


def _joined(encoded: Encoded) -> list[tuple[int, int]]:
    """The trained stretches, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for span in encoded.spans:
        if joined and joined[-1][1] == span.start:
            joined[-1] = (joined[-1][0], span.end)
        else:
            joined.append((span.start, span.end))
    return joined


def _find_row(paths: Sequence[str], row: int) -> Record:
    """The record of row `row` of the first file that has so many.

    Raises FinetuiError where there is none, or where that row was set aside.
    """
    from finetui.data import Rejected, iter_records

    aside: dict[int, Rejected] = {}

    def keep(problem: Rejected) -> None:
        aside.setdefault(problem.place.row, problem)

    records = iter_records(paths, accept_rejected=True, on_problem=keep)
    for record in records:
        if record.place.row == row:
            return record
        if row in aside:
            break
    if row in aside:
        place = aside[row].place
        raise FinetuiError(Problem("data.row-set-aside", {"row": row, "code": aside[row].code}, place.file, place.line))
    total = max(source.rows["total"] for source in records.sources)
    raise FinetuiError(Problem("data.no-such-row", {"row": row, "total": total}, paths[0]))


def _as_json(encoded: Encoded) -> dict[str, Any]:
    return {
        "text": encoded.text,
        "tokens": len(encoded.input_ids),
        "trained": sum(label >= 0 for label in encoded.labels),
        "spans": [
            {"start": span.start, "end": span.end, "message": span.message, "part": span.part} for span in encoded.spans
        ],
    }
