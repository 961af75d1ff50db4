"""The parts of a record that a user can map, and the columns that were named for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.nearest import nearest
from finetui.core.text import one_line
from finetui.data.mapping.paths import ABSENT, Absent, ColumnPath, parse_path
from finetui.data.problems import RowProblem, excerpt

TAGS = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
"""Parts that name a speaker instead of a column: who is meant by that name, in the words of LLaMA-Factory."""
MEDIA = ("images", "videos", "audios")
PARTS = (
    *("user", "assistant", "system", "history", "tools", "thinking"),
    *("messages", "role", "content"),
    *("text", "prompt", "completion", "label", "chosen", "rejected"),
    *MEDIA,
    *TAGS,
)
"""Everything that can stand before the `=` of a mapping."""
_NEXT_PAIR = re.compile(r",(?=\s*\w+\s*=)")
_SHOWN = 20


@dataclass(frozen=True)
class Part:
    """One part and the paths whose texts make it, joined by a newline where there are several."""

    name: str
    paths: tuple[ColumnPath, ...]

    @property
    def text(self) -> str:
        """The paths as they were written."""
        return " + ".join(path.text for path in self.paths)

    @property
    def list_at(self) -> int | None:
        """How many steps lead to the list whose items the part is taken from; None where it is no list's."""
        return self.paths[0].list_at

    def find(self, row: Any) -> Any:
        """What the row has for this part; ABSENT where it has none.

        Raises RowProblem `wrong-type` where the path cannot be followed, or where texts to be joined are none.
        """
        values = []
        for path in self.paths:
            try:
                values.append(path.find(row))
            except Absent:
                values.append(ABSENT)
        if len(values) == 1:
            return values[0]
        said = [value for value in values if value is not ABSENT and value not in (None, "")]
        if wrong := [value for value in said if type(value) is not str]:
            raise RowProblem("wrong-type", f"{self.text}: {excerpt(wrong[0])}")
        return "\n".join(said) if said else next((value for value in values if value is not ABSENT), ABSENT)

    def need(self, row: Any) -> Any:
        """What the row has for this part.

        Raises RowProblem `missing-key` where it has none.
        """
        value = self.find(row)
        if value is ABSENT:
            columns = excerpt(", ".join(row)) if type(row) is dict else "–"
            raise RowProblem("missing-key", f"{self.text} (columns: {columns})")
        return value

    def look(self, row: Any) -> Any:
        """What the row has for this part, None where it has none or nothing in it."""
        value = self.find(row)
        return None if value is ABSENT or value in ("", [], {}) else value


def parse_mapping(text: str) -> dict[str, str]:
    """`user=question,assistant=answer` as a dict. A comma belongs to a column's name unless another part follows it.

    Raises FinetuiError (exit 2) with every pair that is none, and every part that is unknown or named twice.
    """
    mapping: dict[str, str] = {}
    problems: list[Problem] = []
    for pair in _NEXT_PAIR.split(text):
        part, sign, column = (word.strip() for word in pair.partition("="))
        if not (part and sign and column):
            problems.append(Problem("sources.no-pair", {"pair": pair}))
        elif part in mapping:
            problems.append(Problem("sources.part-twice", {"part": part}))
        else:
            mapping[part] = column
    problems += unknown_parts(mapping)
    if problems:
        raise FinetuiError(problems, USAGE)
    return mapping


def unknown_parts(mapping: Mapping[str, str]) -> list[Problem]:
    """A problem for every part that is none."""
    facts = [(part, nearest(part, PARTS) or "user") for part in mapping if part not in PARTS]
    return [Problem("sources.unknown-part", {"part": p, "near": near, "known": ", ".join(PARTS)}) for p, near in facts]


def columns_of(rows: Sequence[Any]) -> list[str]:
    """The columns of sampled rows, the most frequent first."""
    return [column for column, _ in Counter(key for row in rows if type(row) is dict for key in row).most_common()]


def parts_of(mapping: Mapping[str, str], rows: Sequence[Any]) -> dict[str, Part]:
    """The mapped parts, tags left out, with their paths found in the sampled rows.

    Raises FinetuiError (exit 2) with every path that is not well formed, or leads nowhere in all of them.
    """
    columns = columns_of(rows)
    parts: dict[str, Part] = {}
    problems = unknown_parts(mapping)
    for name, text in mapping.items():
        if name in TAGS or name not in PARTS:
            continue
        words = [text] if text in columns else [word.strip() for word in text.split("+")]
        paths = [path for word in words if (path := parse_path(word, columns))]
        if len(paths) < len(words):
            problems.append(Problem("sources.bad-path", {"part": name, "path": text}))
            continue
        parts[name] = Part(name, tuple(paths))
        inside_items = name in ("role", "content") and parts[name].list_at is None
        if not inside_items:
            problems += [problem for path in paths if (problem := _leads_nowhere(name, path, rows, columns))]
    if problems:
        raise FinetuiError(problems, USAGE)
    return parts


def _leads_nowhere(part: str, path: ColumnPath, rows: Sequence[Any], columns: Sequence[str]) -> Problem | None:
    """The problem of a path that no sampled row has; None where one has it, or where nothing can be said."""
    failed: Absent | None = None
    for row in rows:
        try:
            found = path.find(row)
        except Absent as absent:
            if failed is None or len(absent.reached) > len(failed.reached):
                failed = absent
        except RowProblem:
            continue
        else:
            if path.list_at is None or any(value is not ABSENT for value in found):
                return None
            failed = failed or _inside(path, row)
    if failed is None:
        return None
    there = failed.there if failed.reached else columns
    facts = {
        "part": part,
        "column": one_line(path.text),
        "near": nearest(str(failed.step), there) or "–",
        "columns": ", ".join(one_line(column, 40) for column in there[:_SHOWN]) or "–",
        "inside": one_line(failed.reached) or "–",
    }
    return Problem("sources.unknown-inside" if failed.reached else "sources.unknown-column", facts)


def _inside(path: ColumnPath, row: Any) -> Absent | None:
    """Where below the items of its innermost list a path ends, by the keys of the first of them that has any."""
    at = path.list_at
    assert at is not None
    items = ColumnPath(path.text, path.steps[: at + 1]).find(row)
    rest = ColumnPath(path.text, path.steps[at + 1 :])
    for item in items:
        try:
            rest.find(item)
        except Absent as absent:
            reached = path.text[: path.text.rfind("[]") + 2]
            return Absent(f"{reached}.{absent.reached}" if absent.reached else reached, absent.step, absent.there)
        except RowProblem:
            continue
    return None
