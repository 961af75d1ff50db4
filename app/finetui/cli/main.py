"""The command `finetui`: a flat table of verbs, each loaded when it is called, and one place where errors end."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

import click

from finetui import __version__
from finetui.cli.common import help_option, option, print_json
from finetui.core import home
from finetui.core.errors import (
    BAD_INPUT,
    INTERRUPTED,
    JOB_FAILED,
    MACHINE,
    USAGE,
    FinetuiError,
    Problem,
    ShellWords,
    render,
)
from finetui.core.messages import LANGUAGES, set_language, t

COMMANDS = {
    "demo": "demo",
    "doctor": "doctor",
    "fetch": "fetch",
    "inspect": "data",
    "convert": "data",
    "preview": "data",
    "recipes": "recipes",
    "plan": "plan",
    "lock": "lock",
    "verify": "bundles",
    "run": "runs",
    "replay": "runs",
    "runs": "runs",
    "watch": "runs",
    "logs": "runs",
    "stop": "runs",
    "resume": "resume",
    "rm": "remove",
    "clean": "remove",
    "merge": "merge",
    "export": "export",
    "chat": "chat",
}
"""The verbs in the order of the journey, and the module under `cli/` that holds each."""


class Verbs(click.Group):
    """The group of all commands, whose help imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the journey."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of one verb."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"finetui.cli.{COMMANDS[cmd_name]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names.

        Raises FinetuiError (exit 2) for an unknown word, with the nearest verb.
        """
        if args and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            facts = {"word": args[0], "near": near[0] if near else "--help"}
            raise FinetuiError(Problem("cli.no-such-command", facts), USAGE)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, the verbs with one line each, the flags."""
        formatter.write(t("cli.usage-line", usage="finetui COMMAND [ARGUMENTS] [OPTIONS]") + "\n\n")
        formatter.write_text(t("cli.about"))
        with formatter.section(t("cli.commands")):
            formatter.write_dl([(name, t(f"cli.short-{name}")) for name in COMMANDS])
        with formatter.section(t("cli.options")):
            records = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
            formatter.write_dl([record for record in records if record])

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """`--help`, with its help from the message table."""
        return help_option()


@click.command(cls=Verbs, invoke_without_command=True, no_args_is_help=False)
@option("--lang", type=click.Choice(LANGUAGES), help_code="cli.opt-lang")
@option("--version", is_flag=True, help_code="cli.opt-version")
@option("--no-mouse", is_flag=True, help_code="cli.opt-no-mouse")
@option("--plain", is_flag=True, help_code="cli.opt-plain-wizard")
@click.pass_context
def finetui(ctx: click.Context, lang: str | None, version: bool, no_mouse: bool, plain: bool) -> int:
    """The whole program: where no command is named the app, on a terminal, or the same by questions."""
    if lang:
        set_language(lang)
    if version:
        print(f"finetui {__version__}")
    elif ctx.invoked_subcommand is None:
        if plain:
            from finetui.cli.plain.opening import open_plain

            return open_plain(lang)
        if sys.stdout.isatty():
            from finetui.app.opening import open_app

            return open_app(mouse=not no_mouse, lang=lang)
        print(ctx.get_help())
    return 0


def main() -> None:
    """Run the command line of this process and exit; a closed terminal and SIGTERM end it as tidily as Ctrl+C."""
    _open_closed_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with _as_far_as_heard(stream):
            stream.flush()
    sys.exit(code)


def _open_closed_streams() -> None:
    """Let what the caller has closed be `/dev/null`: no file that is opened later must take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 (as long as the process lives)


@contextlib.contextmanager
def _as_far_as_heard(stream: IO[str]) -> Iterator[None]:
    """Write to a stream whose reader may have gone or whose disk may be full: the rest is dropped, also at exit."""
    try:
        yield
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error ends here, in words."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        with contextlib.suppress(AttributeError):  # a stream that a test or an embedder put in place
            stream.reconfigure(errors=errors)  # type: ignore[union-attr]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    _set_language_early(arguments)
    try:
        with finetui.make_context("finetui", list(arguments)) as context:  # click's own `main` exits 1 on a closed pipe
            return int(finetui.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except FinetuiError as error:
        if debug:
            raise
        _show(error.problems, as_json)
        return error.exit_code
    except click.ClickException as error:
        _show([_usage_problem(error)], as_json)
        return USAGE
    except (KeyboardInterrupt, click.exceptions.Abort):
        with _as_far_as_heard(sys.stdout):
            if as_json:
                print_json({"errors": [Problem("cli.interrupted").to_json()]})
        with _as_far_as_heard(sys.stderr):
            print(t("cli.interrupted"), file=sys.stderr, flush=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 0  # the reader has seen enough
    except OSError as error:
        if debug:
            raise
        _show([_system_problem(error)], as_json)
        return MACHINE if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM) else BAD_INPUT
    except Exception as error:
        if debug:
            raise
        _show([_crash_problem(error)], as_json)
        return JOB_FAILED


def _set_language_early(arguments: Sequence[str]) -> None:
    """Honour --lang wherever it stands, so that usage errors speak it too."""
    set_language(None)
    for position, word in enumerate(arguments):
        value = word.partition("=")[2] if word.startswith("--lang=") else None
        if word == "--lang" and position + 1 < len(arguments):
            value = arguments[position + 1]
        if value in LANGUAGES:
            set_language(value)


def _show(problems: Sequence[Problem], as_json: bool) -> None:
    with _as_far_as_heard(sys.stdout):
        if as_json:
            print_json({"errors": [problem.to_json() for problem in problems]})
    with _as_far_as_heard(sys.stderr):
        print(render(problems), file=sys.stderr, flush=True)


def _usage_problem(error: click.ClickException) -> Problem:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = ShellWords(context.command_path if context else "finetui")
    if isinstance(error, click.NoSuchOption):
        near = error.possibilities or difflib.get_close_matches(error.option_name, _options(context), 1)
        facts = {"option": error.option_name, "command": path, "near": next(iter(near), "--help")}
        return Problem("cli.no-such-option", facts)
    if isinstance(error, click.MissingParameter):
        names = error.param.make_metavar(context) if error.param and context else str(error.param_hint)
        if isinstance(error.param, click.Option):
            names = error.param.opts[0]
        return Problem("cli.missing-parameter", {"parameter": names, "command": path})
    if isinstance(error, click.BadParameter):
        name = error.param.opts[0] if error.param else ""
        return Problem("cli.bad-parameter", {"parameter": name, "command": path, "detail": error.message})
    return Problem("cli.usage", {"command": path, "detail": error.format_message()})


def _options(context: click.Context | None) -> list[str]:
    return [name for parameter in context.command.params for name in parameter.opts] if context else []


def _system_problem(error: OSError) -> Problem:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full and error.filename is None and not _takes_a_line(sys.stdout):
        return Problem("cli.stdout-full")
    code = "cli.disk-full" if full else "cli.system"
    file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else "–"
    there = Path(file)
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    return Problem(code, {"error": error.strerror or str(error), "there": str(there)}, file)


def _takes_a_line(stream: IO[str]) -> bool:
    """Whether a stream takes more: an error of writing to it names no file, and what was written is forgotten."""
    try:
        print(file=stream, flush=True)
    except OSError:
        return False
    return True


def _crash_problem(error: Exception) -> Problem:
    """One line for the person; the traceback, without any local value, in a file."""
    words = "".join(traceback.format_exception(error))
    try:
        log = home.folder("cache") / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.log"
        log.write_text(words, encoding="utf-8", errors="backslashreplace")
        where = str(log)
    except OSError as unwritable:
        where = f"({unwritable.strerror})"
    return Problem("cli.crash", {"error": type(error).__name__, "log": where})
