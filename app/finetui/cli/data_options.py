"""The flags of every command that reads data: how it is to be read, where that is not left to the detection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from finetui.cli.common import option
from finetui.core.messages import t

if TYPE_CHECKING:
    from finetui.data import Reading


class MappingWord(click.ParamType[dict[str, str]]):
    """`user=question,assistant=answer`: parts of the record and the columns they come from."""

    name = "mapping"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """The pairs as a dict.

        Raises FinetuiError (exit 2) where they are none, or name an unknown part.
        """
        from finetui.data.mapping import parse_mapping

        return parse_mapping(value) if isinstance(value, str) else dict(value)


class DataWord(click.types.StringParamType):
    """What names data: a path, `DIR:NAME,…`, a hub id, each also with `@WEIGHT`. An empty word is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word as it is."""
        if value == "":
            self.fail(t("cli.empty-path"), param, ctx)
        return super().convert(value, param, ctx)


data_argument = click.argument("paths", nargs=-1, required=True, type=DataWord(), metavar="PATH…")
"""The data that a command reads, as `paths`."""
_FLAGS = (
    option("--format", "format", metavar="NAME", help_code="data.opt-format"),
    option("--stage", metavar="STAGE", help_code="data.opt-stage"),
    option("--map", "mapping", type=MappingWord(), metavar="PART=COLUMN,…", help_code="sources.opt-map"),
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
