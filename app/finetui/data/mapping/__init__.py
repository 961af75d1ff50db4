"""Columns that the user names: `user=question,assistant=answer` makes records of a table of no known layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.text import one_line
from finetui.data.formats import CONVERTED
from finetui.data.formats.layout import Adapter, Convert
from finetui.data.mapping import records
from finetui.data.mapping.parts import MEDIA, PARTS, TAGS, Part, columns_of, parse_mapping, parts_of
from finetui.data.problems import Note, RowProblem, Saying

__all__ = ["Mapped", "fit_mapping", "parse_mapping"]

_LED = frozenset({"system", "history", "tools", "user", "prompt", "messages", "role", "content", *TAGS, *MEDIA})
_TAKES = {
    "text": frozenset({"text", *MEDIA}),
    "preference": _LED | {"chosen", "rejected"},
    "feedback": _LED | {"assistant", "completion", "label", "thinking"},
    "messages": _LED - {"user", "prompt"},
    "chat": _LED - {"messages", "role", "content"} | {"assistant", "completion", "thinking"},
    "prompts": _LED - {"messages", "role", "content"},
}
"""What makes each kind of record; parts outside of it cannot stand beside it."""
_PLAIN = {"preference": records.compared, "feedback": records.rated, "prompts": records.asked}
"""Kinds whose rows are brought into the plainest shape of their layout, which does the rest."""
_SHOWN = 8


@dataclass(frozen=True)
class Mapped:
    """A mapping fitted to sampled rows."""

    format: str
    """The layout that the mapped rows have then."""
    adapter: Adapter
    stage: str | None
    """The stage that the records serve."""


def fit_mapping(mapping: Mapping[str, str], rows: Sequence[Any], stage: str | None = None) -> Mapped:
    """Fit what the user named to the sampled rows of one file, for a stage where that is a choice.

    Raises FinetuiError (exit 2) with every part or column that is not there, or where parts are wanting.
    """
    parts = parts_of(mapping, rows)
    kind = _kind(parts)
    if problems := _wanting(kind, parts) or _clashing(kind, mapping):
        raise FinetuiError(problems, USAGE)
    tags = {mapping[tag]: speaker for tag, speaker in TAGS.items() if tag in mapping}
    convert = _converter(kind, parts, tags, rows, stage)
    used = {str(path.steps[0]) for part in parts.values() for path in part.paths}
    beside = [one_line(column, 40) for column in columns_of(rows) if column not in used]
    facts = {
        "mapping": ", ".join(f"{part}={one_line(column, 60)}" for part, column in mapping.items()),
        "beside": ", ".join(beside[:_SHOWN]),
    }
    cue = Saying("sources.cue-mapped-beside" if beside else "sources.cue-mapped", facts)
    layout = CONVERTED[_format(kind, parts)]
    serves = stage if stage in layout.also and kind in _PLAIN else layout.stage
    return Mapped(layout.id, Adapter(dict(mapping), cue, convert), serves)


def _kind(parts: Mapping[str, Part]) -> str:
    if "text" in parts:
        return "text"
    if "chosen" in parts or "rejected" in parts:
        return "preference"
    if "label" in parts:
        return "feedback"
    if not parts.keys().isdisjoint(("messages", "role", "content")):
        return "messages"
    return "chat" if "assistant" in parts or "completion" in parts else "prompts"


def _format(kind: str, parts: Mapping[str, Part]) -> str:
    if kind != "chat":
        return kind
    return "prompt-completion" if "prompt" in parts and "completion" in parts else "query-response"


def _wanting(kind: str, parts: Mapping[str, Part]) -> list[Problem]:
    """A problem where a kind's parts are not all there."""
    asked, listed = ("user", "prompt"), ("messages", "role")
    needs: dict[str, tuple[tuple[str, ...], ...]] = {
        "text": (("text",),),
        "preference": (("chosen",), ("rejected",)),
        "feedback": (("label",), ("assistant", "completion", *listed), (*asked, *listed)),
        "messages": (listed,),
        "chat": (asked, ("assistant", "completion")),
        "prompts": (asked,),
    }
    absent = [options for options in needs[kind] if parts.keys().isdisjoint(options)]
    problems = [
        Problem("sources.part-wanting", {"parts": ", ".join(parts) or "–", "wanted": options[0]}) for options in absent
    ]
    if kind == "preference" and parts.keys() & {"system", "history"} and parts.keys().isdisjoint((*asked, *listed)):
        problems.append(Problem("sources.part-wanting", {"parts": ", ".join(parts), "wanted": "prompt"}))
    if "content" in parts and "role" not in parts:
        problems.append(Problem("sources.part-wanting", {"parts": "content", "wanted": "role"}))
    if "messages" not in parts:
        loose = [name for name in ("role", "content") if name in parts and parts[name].list_at is None]
        problems += [Problem("sources.no-list", {"part": name, "path": parts[name].text}) for name in loose]
    user, assistant = parts.get("user") or parts.get("prompt"), parts.get("assistant") or parts.get("completion")
    if user and assistant and (user.list_at is None) != (assistant.list_at is None):
        problems.append(Problem("sources.half-a-list", {"user": user.text, "assistant": assistant.text}))
    return problems


def _clashing(kind: str, mapping: Mapping[str, str]) -> list[Problem]:
    """A problem where parts that do not go together are mapped."""
    odd = [part for part in mapping if part not in _TAKES[kind]]
    for one, other in (("user", "prompt"), ("assistant", "completion"), ("user", "messages"), ("prompt", "messages")):
        if one in mapping and other in mapping:
            odd.append(other)
    if not odd:
        return []
    rest = ", ".join(part for part in mapping if part not in odd)
    return [Problem("sources.parts-clash", {"odd": ", ".join(dict.fromkeys(odd)), "parts": rest or ", ".join(PARTS)})]


def _converter(
    kind: str, parts: Mapping[str, Part], tags: Mapping[str, str], rows: Sequence[Any], stage: str | None
) -> Convert:
    if kind == "text":
        return records.text(parts)
    if kind in ("messages", "chat"):
        return records.chat(parts, tags)
    plain = _PLAIN[kind](parts, tags)
    fit = CONVERTED[kind].also.get(stage or "", CONVERTED[kind].fit)
    assert fit is not None
    finish = fit([row for row in (_tried(plain, row) for row in rows) if row is not None]).convert

    def convert(row: Any, notes: list[Note]) -> dict[str, Any]:
        return finish(plain(row, notes), notes)

    return convert


def _tried(plain: Convert, row: Any) -> dict[str, Any] | None:
    try:
        return plain(row, [])
    except RowProblem:
        return None
