"""The Jinja environment that chat templates are written for: that of transformers, with a date that stands still.

It follows `transformers.utils.chat_template_utils`: sandboxed, blocks trimmed, loop controls, `tojson` without HTML
escapes, `raise_exception`, `strftime_now` and the `{% generation %}` tag.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from finetui.core.encode.template import Template
from finetui.core.errors import FinetuiError, Problem

Message = Mapping[str, Any]
_LIMIT_S = 10.0
"""Processor time in which a conversation is rendered, or its template is taken for one that never ends."""
_generation_marks: ContextVar[tuple[str, str]] = ContextVar("generation_marks", default=("", ""))


class EncodeError(FinetuiError):
    """A record that cannot be encoded with this template, in the template's own words."""


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: what the model writes, put between the marks in force."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        opening, closing = _generation_marks.get()
        return f"{opening}{caller()}{closing}"


def asks_date(source: str) -> bool:
    """Whether a template writes today's date."""
    return "strftime_now" in source


@lru_cache(maxsize=64)
def compiled(source: str, date: str | None) -> jinja2.Template:
    """A template ready to be rendered, its clock stopped at midnight of `date`, or without one.

    Raises FinetuiError where it is not Jinja.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    if date is not None:
        environment.globals["strftime_now"] = datetime.fromisoformat(date).strftime
    try:
        return environment.from_string(source)
    except Exception as error:  # foreign code again: constants in it are computed while it is read
        line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else 1
        words = str(error) or type(error).__name__
        raise FinetuiError(Problem("encode.bad-template", {"words": words, "at": line})) from error


def render_adapted(
    template: Template,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = False,
    marks: tuple[str, str] = ("", ""),
) -> str:
    """Render messages that are already in the shape the template reads; `marks` go around what it says is generated.

    Raises EncodeError with the template's words where it refuses them, FinetuiError where it does not come to an end.
    """
    program = compiled(template.source_text(tools), template.date)
    token = _generation_marks.set(marks)
    try:
        with _time_limit():
            return program.render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **template.special_tokens,
            )
    except TimeoutError as error:
        raise FinetuiError(Problem("encode.endless", {"template": template.name, "seconds": _LIMIT_S})) from error
    except Exception as error:  # a template is foreign code: whatever it raises is its refusal
        raise EncodeError(Problem("encode.refused", {"words": str(error) or type(error).__name__})) from error
    finally:
        _generation_marks.reset(token)


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise TimeoutError in what uses `_LIMIT_S` of processor time; signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPROF, _out_of_time)
    signal.setitimer(signal.ITIMER_PROF, _LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _out_of_time(*_: object) -> None:
    raise TimeoutError


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
