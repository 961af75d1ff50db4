"""One side of a row as coloured text: what is trained between marks, what stops an answer, where the row is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from finetui.core.messages import t
from finetui.core.text import safe_text

if TYPE_CHECKING:
    from rich.text import Text
    from tokenizers import Tokenizer

    from finetui.core.encode import Template, View

_OPEN, _CLOSE = "⟦", "⟧"
_STOP, _RIGHT, _WRONG = "■", "✓", "✗"
_STYLES = {"": "bold green", _STOP: "bold magenta", _RIGHT: "bold green", _WRONG: "bold red"}
_BEYOND = "dim"
_CUT = "bold yellow"


@dataclass(frozen=True)
class Lens:
    """What rows are seen through."""

    tokenizer: Tokenizer
    template: Template
    max_length: int | None = None
    """Tokens after which a row is cut."""


class _Look(NamedTuple):
    beyond: bool
    """Whether it stands behind the cut."""
    trained: bool
    """Whether it stands between marks."""
    sign: str
    """What is put before it."""


def marked(view: View, lens: Lens) -> Text:
    """The whole side, harmless for a terminal."""
    from rich.text import Text

    from finetui.core.encode import pieces

    shown = Text()
    before = _Look(False, False, "")
    looks = list(_looks(view, lens))
    for look, run in groupby(zip(looks, pieces(view.row, lens.tokenizer), strict=True), key=lambda pair: pair[0]):
        if before.trained and not look.trained:
            shown.append(_CLOSE, _STYLES[""])
        if look.beyond and not before.beyond:
            shown.append(_cut_line(view, lens, at_line_start=shown.plain.endswith("\n")), _CUT)
        if look.trained and not before.trained:
            shown.append(_OPEN, _STYLES[""])
        style = _STYLES[look.sign] if look.trained or look.sign else ""
        text = look.sign + safe_text("".join(piece for _, piece in run))
        shown.append(text, f"{_BEYOND} {style}".rstrip() if look.beyond else style)
        before = look
    if before.trained:
        shown.append(_CLOSE, _STYLES[""])
    return shown


def lost(view: View, lens: Lens) -> tuple[int, int]:
    """Tokens behind the cut, and how many of them would be trained."""
    from finetui.core.encode import NOT_TRAINED

    limit = len(view.row.labels) if lens.max_length is None else lens.max_length
    behind = view.row.labels[limit:]
    return len(behind), len(behind) - behind.count(NOT_TRAINED)


def _cut_line(view: View, lens: Lens, *, at_line_start: bool) -> str:
    tokens, trained = lost(view, lens)
    line = t("profile.cut-here", max_length=lens.max_length, tokens=tokens, trained=trained)
    return f"{'' if at_line_start else chr(10)}{line}\n"


def _looks(view: View, lens: Lens) -> Iterator[_Look]:
    """How each token is shown; the first of a row is predicted from nothing, so it is never trained."""
    from finetui.core.encode import NOT_TRAINED

    limit = len(view.row.labels) if lens.max_length is None else lens.max_length
    for place, (token, label) in enumerate(zip(view.row.input_ids, view.row.labels, strict=True)):
        beyond, trained = place >= limit, label != NOT_TRAINED and place > 0
        if trained and view.side == "steps":
            yield _Look(beyond, False, _RIGHT if label else _WRONG)
        else:
            yield _Look(beyond, trained, _STOP if trained and token in lens.template.stop_ids else "")
