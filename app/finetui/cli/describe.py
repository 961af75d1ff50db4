"""An inspection in words: a label and a fact a line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetui.core.messages import t
from finetui.core.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from finetui.data import Inspection

_EXAMPLES = 2
_OTHERS = 3
_FILES = 12


Fact = tuple[str, str, str]
"""A label, empty where it is that of the fact before; a fact; and a style of rich."""


def describe(inspection: Inspection) -> Table:
    """What the data is, how sure that is, why, what else it could be, and what is wrong with it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for fact in (*recognised(inspection), *asked(inspection), *held(inspection)):
        add_fact(table, *fact)
    return table


def recognised(inspection: Inspection) -> Iterator[Fact]:
    """What the data is, how sure that is, why, and what else it could be."""
    contract = inspection.to_json()
    none = t("data.label-none")
    yield t("data.label-format"), contract["format"] or none, "bold"
    yield t("data.label-stage"), contract["stage"] or none, ""
    yield t("data.label-confidence"), f"{contract['confidence']:.0%}", ""
    yield t("data.label-rows"), t("data.label-counts", **contract["rows"]), ""
    yield from _list(t("data.label-why"), [sentence.text() for sentence in inspection.evidence()])
    others = [
        (f"{other.format} ({other.confidence:.0%}): {other.why.text()}", other.flags)
        for other in inspection.alternatives()[:_OTHERS]
    ]
    yield from _list(t("data.label-also"), [_with_flags(*other) for other in others])


def asked(inspection: Inspection) -> Iterator[Fact]:
    """What the data alone does not tell, and the answers there are; nothing where it does."""
    question = inspection.question
    if question is None:
        return
    yield t("detect.label-question"), question.text.text(), "bold yellow"
    for number, option in enumerate(question.options):
        label = option.label.text()
        yield "", _with_flags(t("detect.by-default", label=label) if not number else label, option.flags), ""


def held(inspection: Inspection) -> Iterator[Fact]:
    """Its files, the next command, and what is wrong with its rows."""
    contract = inspection.to_json()
    files = [_file(file) for file in contract["files"][:_FILES]]
    if (beyond := len(contract["files"]) - _FILES) > 0:
        files.append(t("data.label-more-files", count=beyond))
    yield from _list(t("data.label-file"), files)
    if command := inspection.next():
        yield t("sources.label-next"), command, "bold"
    for problem in contract["problems"]:
        yield from problem_facts(problem)


def add_fact(table: Table, label: str, text: str, style: str = "") -> None:
    """One line: what it is about, and the fact."""
    from rich.text import Text

    table.add_row(Text(label), Text(text, style=style))


def _list(label: str, texts: list[str]) -> Iterator[Fact]:
    for number, text in enumerate(texts):
        yield "" if number else label, text, ""


def _with_flags(text: str, flags: tuple[str, ...]) -> str:
    return t("detect.with-flags", text=text, flags=one_line(shlex.join(flags))) if flags else text


def _file(file: dict[str, Any]) -> str:
    kind = ", ".join(filter(None, [file["container"], file["compression"], file["encoding"]]))
    return t("data.label-file-facts", kind=kind, rows=file["rows"], path=file["path"])


def add_problem(table: Table, problem: dict[str, Any]) -> None:
    """One row problem, in a table."""
    for fact in problem_facts(problem):
        add_fact(table, *fact)


def problem_facts(problem: dict[str, Any]) -> Iterator[Fact]:
    """One row problem: how often, what it means, and where."""
    from finetui.data.problems import SET_ASIDE

    code, aside = problem["code"], problem["code"] in SET_ASIDE
    fate = t("data.label-set-aside" if aside else "data.label-kept")
    yield fate, f"{problem['count']} × {code}: {t(f'data.row-{code}')}", "red" if aside else "yellow"
    for example in problem["examples"][:_EXAMPLES]:
        yield "", one_line(f"  {_where(example)}  {example['detail']}".rstrip(), 160), ""


def _where(example: dict[str, Any]) -> str:
    """The file and line of an example, and its row where that is another number."""
    name, line, row = Path(example["file"]).name, example["line"], example["row"]
    place = name if line is None else f"{name}:{line}"
    return place if line == row else t("data.place-row", place=place, row=row)
