"""The flags of every command that reads data: how it is to be read, where that is not left to the detection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from finetui.cli.common import option

if TYPE_CHECKING:
    from finetui.data import Reading


class Mapping(click.ParamType[dict[str, str]]):
    """`user=question,assistant=answer`: parts of the record and the columns they come from."""

    name = "mapping"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The pairs as a dict."""
        if isinstance(value, dict):
            return value
        pairs = [pair.partition("=") for pair in str(value).split(",") if pair.strip()]
        return {part.strip(): column.strip() for part, _, column in pairs}


_FLAGS = (
    option("--format", "format", metavar="NAME", help_code="data.opt-format"),
    option("--stage", metavar="STAGE", help_code="data.opt-stage"),
    option("--map", "mapping", type=Mapping(), metavar="PART=COLUMN,…", help_code="data.opt-map"),
    option("--text-by", type=click.Choice(["line", "paragraph"]), default="line", help_code="data.opt-text-by"),
    option("--no-meta", "drop_meta", is_flag=True, help_code="data.opt-no-meta"),
)


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags; the function gets them as one `reading`."""

    def call(
        *arguments: Any,
        format: str | None,
        stage: str | None,
        mapping: dict[str, str] | None,
        text_by: str,
        drop_meta: bool,
        **others: Any,
    ) -> Any:
        reading = read_as(format, stage, mapping, text_by, drop_meta)
        return function(*arguments, reading=reading, **others)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for flag in reversed(_FLAGS):
        call = flag(call)
    return call


def read_as(
    format: str | None, stage: str | None, mapping: dict[str, str] | None, text_by: str, drop_meta: bool
) -> Reading:
    """The flags as the data room takes them."""
    from finetui.data import Reading

    return Reading(format, stage, mapping or {}, text_by, not drop_meta)
