"""A row of the data as a model will see it: what takes a tokenizer to be known."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.core.errors import FinetuiError, Problem, render
from finetui.core.messages import t
from finetui.core.text import one_line
from finetui.draft import Draft

if TYPE_CHECKING:
    from rich.console import Console

    from finetui.cli.preview_rows import Raw, Seen, SetAside


@dataclass(frozen=True)
class Look:
    """What takes a tokenizer to be known of a model."""

    template: str
    """Its name and where it comes from, or why there is none."""
    row: Seen | Raw | SetAside | None = None
    """The first row of the data through it; None without data."""
    wrong: tuple[Problem, ...] = ()

    def show(self, console: Console) -> None:
        """Print the row, and what is wrong."""
        if self.wrong:
            console.print(render(self.wrong), style="red")
        if self.row is not None:
            console.print(t("profile.legend"), style="cyan")
            self.row.show(console)

    def lines(self) -> Iterator[str]:
        """The same as lines, however long, without colour."""
        from rich.console import Console

        paper = io.StringIO()
        self.show(Console(file=paper, width=1 << 16, markup=False, emoji=False, highlight=False, no_color=True))
        yield from paper.getvalue().splitlines()


def look(draft: Draft, folder: Path) -> Look:
    """The template of the model in this folder, and the first row of the data through it."""
    from finetui.cli.marked import Lens
    from finetui.cli.preview_rows import see
    from finetui.core.encode import load_template, load_tokenizer
    from finetui.data.lookup import find_rows

    try:
        tokenizer = load_tokenizer(folder)
        template = load_template(folder, tokenizer, draft.template)
    except FinetuiError as error:
        return Look(one_line(error.problems[0].message()), wrong=error.problems)
    told = t(f"wizard.template-{template.source}", name=one_line(template.name))
    if not draft.data:
        return Look(told)
    try:
        return Look(told, see(find_rows(draft.data, 1, 1, draft.reading)[0], Lens(tokenizer, template)))
    except FinetuiError as error:
        return Look(told, wrong=error.problems)
