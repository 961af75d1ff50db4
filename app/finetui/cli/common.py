"""What every command shares: its flags, where its output goes, and how its errors become an exit code."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetui.core.messages import LANGUAGES, set_language, t

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Output:
    """Where a command speaks: data to stdout, people to stderr, or one JSON object to stdout."""

    json: bool = False
    """Exactly one JSON object on stdout, nothing else there."""
    plain: bool = False
    """No colour, no redraw."""
    debug: bool = False
    """Let exceptions through with their traceback."""

    def note(self, text: str) -> None:
        """A line for the person, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def data(self, text: str) -> None:
        """Text that is the answer, on stdout; silent under --json."""
        if not self.json:
            print(text, flush=True)

    def result(self, contract: Mapping[str, Any]) -> None:
        """The JSON contract of the command, on stdout; silent without --json."""
        if self.json:
            print_json(contract)

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal on which lines may be redrawn."""
        return not self.plain and sys.stderr.isatty()

    def console(self, *, err: bool = False) -> Console:
        """A rich console without markup, for tables and colour; on stderr where `err` or under --json."""
        from rich.console import Console

        class Speaker(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # ends the command as it does elsewhere; rich would make it exit 1

        return Speaker(
            stderr=err or self.json,
            markup=False,
            emoji=False,
            highlight=False,
            no_color=True if self.plain else None,
            force_terminal=False if self.plain else None,
        )


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout. Everything beyond ASCII is escaped: a terminal shows no foreign control codes."""
    print(json.dumps(value, ensure_ascii=True, indent=2, allow_nan=False), flush=True)


class PathWord(click.Path):
    """A path on the command line. An empty word is none: it comes of a variable that was never set."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word as a Path."""
        if value == "":
            self.fail(t("cli.empty-path"), param, ctx)
        return super().convert(value, param, ctx)


class GpuList(click.types.StringParamType):
    """GPUs by number or UUID, as CUDA_VISIBLE_DEVICES has them."""

    _FORM = re.compile(r"(\d+|(GPU|MIG)-[\w-]+)(,(\d+|(GPU|MIG)-[\w-]+))*", re.ASCII)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The list without spaces."""
        plain = str(value).replace(" ", "")
        if not self._FORM.fullmatch(plain):
            self.fail(t("cli.bad-gpus", value=value), param, ctx)
        return plain


_MOST = 1e9
"""Beyond every price and every time; a sum of such numbers is still one."""


class Amount(click.types.FloatParamType):
    """A number from 0 on: seconds, days, or money in any currency."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= _MOST:
            self.fail(t("cli.bad-amount", value=value), param, ctx)
        return number


class Option(click.Option):
    """An option whose help is a message code, looked up when it is shown."""

    def __init__(self, *args: Any, help_code: str, **attributes: Any) -> None:
        self.help_code = help_code
        super().__init__(*args, **attributes)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option's line in `--help`."""
        self.help = t(self.help_code)
        if self.required:
            self.help = f"{self.help} {t('cli.required')}"
        return super().get_help_record(ctx)

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Nothing beyond the message: what is required says so in the user's language."""
        return {}


class Command(click.Command):
    """A command whose help is the message `cli.help-NAME`."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, what the command does, its options."""
        formatter.write(t("cli.usage-line", usage=" ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])))
        formatter.write("\n\n")
        formatter.write_text(t(f"cli.help-{self.name}"))
        records = [record for parameter in self.get_params(ctx) if (record := parameter.get_help_record(ctx))]
        with formatter.section(t("cli.options")):
            formatter.write_dl(records)

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """`--help`, with its help from the message table."""
        return help_option()


def help_option() -> Option:
    """The option --help."""

    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            print(ctx.get_help())
            ctx.exit()

    return Option(
        ["-h", "--help"], is_flag=True, expose_value=False, is_eager=True, callback=show, help_code="cli.opt-help"
    )


def option(*declarations: str, help_code: str, **attributes: Any) -> Callable[[Any], Any]:
    """`click.option` with its help from the message table."""
    return click.option(*declarations, cls=Option, help_code=help_code, **attributes)


def command(name: str) -> Callable[[Callable[..., int | None]], Command]:
    """Make `function(output, …)` the command `name`, with --json, --plain, --lang and --debug.

    The function returns an exit code, or None for 0; what it raises is rendered by `main`.
    """

    def decorate(function: Callable[..., int | None]) -> Command:
        @functools.wraps(function)
        def call(as_json: bool, plain: bool, lang: str | None, debug: bool, **arguments: Any) -> int:
            if lang:
                set_language(lang)
            return function(Output(as_json, plain, debug), **arguments) or 0

        made: Command = click.command(name, cls=Command)(call)
        made.params += [
            Option(["--json", "as_json"], is_flag=True, help_code="cli.opt-json"),
            Option(["--plain"], is_flag=True, help_code="cli.opt-plain"),
            Option(["--lang"], type=click.Choice(LANGUAGES), help_code="cli.opt-lang"),
            Option(["--debug"], is_flag=True, help_code="cli.opt-debug"),
        ]
        return made

    return decorate
