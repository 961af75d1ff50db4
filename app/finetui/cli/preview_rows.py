"""A row in words: what the model will see of it, and what is amiss; or why it cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetui.cli.marked import Lens, lost, marked
from finetui.core.errors import Problem, render
from finetui.core.messages import t
from finetui.core.text import one_line, safe_text

if TYPE_CHECKING:
    from rich.console import Console

    from finetui.core.encode import View
    from finetui.data import Record, Rejected

_RAW_LIMIT = 4000
"""Characters of a raw row that are shown."""


@dataclass(frozen=True)
class Seen:
    """One row seen through a model; `views` or why there are none."""

    row: Record
    lens: Lens
    kind: str
    views: tuple[View, ...] = ()
    refused: tuple[Problem, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether the model will see it."""
        return not self.refused

    def to_json(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        label = {"label": self.row.record["label"]} if self.kind == "feedback" else {}
        views = [_view_json(view, self.lens) for view in self.views]
        refused = {"refused": [problem.to_json() for problem in self.refused]} if self.refused else {}
        return {**self.row.place.to_json(), "kind": self.kind, **label, "views": views, **refused}

    def show(self, console: Console) -> None:
        """Print the row."""
        _print_place(self.row, t(f"profile.kind-{self.kind}"), console)
        if self.refused:
            console.print(render(self.refused), style="red", soft_wrap=True)
        for view in self.views:
            facts = {"tokens": len(view.row.input_ids), "trained": _trained(view)}
            console.print(t("profile.counts", side=_side(view, self.row.record), **facts), style="cyan", soft_wrap=True)
            console.print(marked(view, self.lens), soft_wrap=True)
            for doubt in _doubts(view, self.lens):
                console.print(doubt, style="yellow", soft_wrap=True)


@dataclass(frozen=True)
class Raw:
    """A record before the template."""

    row: Record

    is_usable = True

    def to_json(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        from finetui.core.encode import kind_of

        return {**self.row.place.to_json(), "kind": kind_of(self.row.record), "record": self.row.record}

    def show(self, console: Console) -> None:
        """Print the row."""
        from finetui.core.encode import kind_of

        _print_place(self.row, t(f"profile.kind-{kind_of(self.row.record)}"), console)
        _print_long(json.dumps(self.row.record, ensure_ascii=False, indent=2), console)


@dataclass(frozen=True)
class SetAside:
    """A row that cannot be used, as it stands in its file."""

    row: Rejected

    is_usable = False

    def to_json(self) -> dict[str, Any]:
        """The row as `--json` prints it."""
        raw = self.row.raw.decode("utf-8", "backslashreplace")
        rejected = {"code": self.row.code, "detail": self.row.detail, "raw": raw}
        return {**self.row.place.to_json(), "rejected": rejected}

    def show(self, console: Console) -> None:
        """Print the row."""
        _print_place(self.row, self.row.code, console)
        facts = {"code": self.row.code, "meaning": t(f"data.row-{self.row.code}"), "detail": one_line(self.row.detail)}
        console.print(t("profile.set-aside", **facts).rstrip(), style="bold red")
        _print_long(self.row.raw.decode("utf-8", "backslashreplace"), console)


def see(row: Record | Rejected, lens: Lens | None) -> Seen | Raw | SetAside:
    """A row through a lens, or without one as it is before the template."""
    from finetui.core.encode import EncodeError, encode_views, kind_of
    from finetui.data import Rejected

    if isinstance(row, Rejected):
        return SetAside(row)
    if lens is None:
        return Raw(row)
    kind = kind_of(row.record)
    try:
        return Seen(row, lens, kind, encode_views(row.record, lens.tokenizer, lens.template))
    except EncodeError as error:
        return Seen(row, lens, kind, refused=error.problems)


def _side(view: View, record: Mapping[str, Any]) -> str:
    if view.side == "completion" and "label" in record:
        return t("profile.label-good" if record["label"] else "profile.label-bad")
    return t(f"profile.side-{view.side}")


def _doubts(view: View, lens: Lens) -> Iterator[str]:
    """What is probably not meant with this side."""
    for message, part in view.row.omitted:
        yield t("profile.omitted", message=message + 1, part=part)
    if view.side == "prompt":
        return
    if not _trained(view):
        yield t("profile.untrained")
    elif view.side != "steps" and not _is_stopped(view, lens):
        token = view.row.labels[view.row.trained()[-1][1] - 1]
        yield t("profile.unstopped", token=one_line(lens.tokenizer.id_to_token(token) or str(token)))


def _view_json(view: View, lens: Lens) -> dict[str, Any]:
    row = view.row
    tokens, trained = lost(view, lens)
    spans = [{"start": span.start, "end": span.end, "message": span.message, "part": span.part} for span in row.spans]
    return {
        "side": view.side,
        "text": row.text,
        "tokens": len(row.input_ids),
        "trained": _trained(view),
        "spans": spans,
        "stopped": None if view.side in ("prompt", "steps") else _is_stopped(view, lens),
        "omitted": [{"message": message, "part": part} for message, part in row.omitted],
        "cut": None if lens.max_length is None else {"tokens": tokens, "trained": trained},
    }


def _trained(view: View) -> int:
    return sum(end - max(1, start) for start, end in view.row.trained())  # the first token of a row never is


def _is_stopped(view: View, lens: Lens) -> bool:
    """Whether the last trained token ends an answer."""
    answers = view.row.trained()
    return bool(answers) and view.row.labels[answers[-1][1] - 1] in lens.template.stop_ids


def _print_place(row: Record | Rejected, kind: str, console: Console) -> None:
    console.print(
        t("profile.where", file=one_line(row.place.file), row=row.place.row, kind=kind),
        style="bold cyan",
        soft_wrap=True,
    )


def _print_long(text: str, console: Console) -> None:
    console.print(safe_text(text[:_RAW_LIMIT]), soft_wrap=True)
    if len(text) > _RAW_LIMIT:
        console.print(t("profile.longer", characters=len(text) - _RAW_LIMIT), style="cyan")
