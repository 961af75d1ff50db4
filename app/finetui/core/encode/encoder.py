"""A record to text, ids, labels and spans: what a preview shows, a lock stores and a chat sends.

The text is what `apply_chat_template` of transformers gives for the same messages, the ids are its ids. A token is
trained where any of its characters lies in a trained span, so an answer's first word is learned also where a template
puts the space before it into the header; this is how transformers builds its own masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

from finetui.core.encode.encoded import Encoded, labelled
from finetui.core.encode.jinja import EncodeError, Message, render_adapted
from finetui.core.encode.marks import Marker, Parsed
from finetui.core.encode.plain import encode_segments, encode_text, encode_tokens
from finetui.core.encode.reading import Reading, read
from finetui.core.encode.template import Template
from finetui.core.encode.turns import Frame, Span, first_stop, spans_of
from finetui.core.errors import Problem


def encode(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> Encoded:
    """Encode one canonical record that is trained as one row.

    Raises EncodeError where the template refuses the messages, or where one row cannot hold all trained turns.
    """
    rows = encode_rows(record, tokenizer, template)
    if len(rows) > 1:
        raise EncodeError(Problem("encode.several-rows", {"rows": len(rows)}))
    return rows[0]


def encode_rows(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> tuple[Encoded, ...]:
    """Encode one record of kind chat, text, segments or tokens: one row, mostly.

    A conversation becomes a row for each trained turn where only serving's rendering locates them.
    Raises EncodeError where the template refuses the messages, where a trained turn cannot be located, or where the
    tokenizer has no such token.
    """
    if "messages" in record:
        return _encode_chat(record["messages"], record.get("tools"), tokenizer, template)
    if "segments" in record:
        return (encode_segments(record["segments"], tokenizer),)
    if "text" in record:
        return (encode_text(record["text"], tokenizer, template),)
    if "input_ids" in record:
        return (encode_tokens(record, tokenizer),)
    raise EncodeError(Problem("encode.unknown-kind", {"keys": ", ".join(map(str, record))}))


def encode_prompt(
    messages: Sequence[Message], tokenizer: Tokenizer, template: Template, tools: Sequence[Any] | None = None
) -> list[int]:
    """The ids that serving sends: the conversation so far and the header of the answer.

    Raises EncodeError where the template refuses the messages.
    """
    text = render(messages, template, tools, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False).ids


def render(
    messages: Sequence[Message],
    template: Template,
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """The text of canonical messages.

    Raises EncodeError where the template refuses them.
    """
    reading = read(template, bool(tools))
    return render_adapted(template, reading.adapt(messages), tools or None, add_generation_prompt)


def _encode_chat(
    messages: Sequence[Message], tools: Sequence[Any] | None, tokenizer: Tokenizer, template: Template
) -> tuple[Encoded, ...]:
    if not messages:
        raise EncodeError(Problem("encode.empty"))
    reading = read(template, bool(tools))
    chat = _Chat([reading.without_inline_thinking(message) for message in messages], tools or None, template, reading)
    trained = frozenset(i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("train") is not False)
    stops = tuple(token for stop in template.stop_ids if (token := tokenizer.id_to_token(stop)))
    frame = Frame(reading.headers, stops, lambda: _special_tokens(tokenizer))
    text = chat.render()
    parsed = chat.parse(text)
    if parsed is not None:
        _refuse_silence(parsed, trained)
        spans = spans_of(parsed, trained, frame)
        if not trained - {span.message for span in spans} and not parsed.broken & trained:
            omitted = tuple(sorted(parsed.lost))
            return (_tokenized(text, spans, tokenizer, omitted),)
    return tuple(_tokenized(*chat.as_served(turn, frame), tokenizer, ()) for turn in sorted(trained))


@dataclass(frozen=True)
class _Chat:
    """One conversation and the template that renders it."""

    messages: Sequence[Message]
    tools: Sequence[Any] | None
    template: Template
    reading: Reading

    def render(self, count: int | None = None, add_generation_prompt: bool = False) -> str:
        """The first `count` messages, or all, as the template renders them."""
        adapted = self.reading.adapt(self.messages[:count])
        return render_adapted(self.template, adapted, self.tools, add_generation_prompt)

    def parse(self, text: str) -> Parsed | None:
        """Where the texts lie in the true rendering `text`; None where marks around them change what is rendered."""
        marker = Marker(self.messages, text, split_thinking="</think>" in self.template.source_text(self.tools))
        adapted = self.reading.adapt(marker.mark(self.messages))
        try:
            marked = render_adapted(self.template, adapted, self.tools, marks=marker.generation)
        except EncodeError:
            return None
        parsed = marker.parse(marked)
        return parsed if parsed.text == text else None

    def as_served(self, turn: int, frame: Frame) -> tuple[str, tuple[Span, ...]]:
        """The conversation up to one answer, and the answer as what follows the prompt that serving sends for it.

        Raises EncodeError where the rendering does not begin with that prompt.
        """
        text = self.render(turn + 1)
        prompt = self.render(turn, add_generation_prompt=True) if turn else ""
        end = len(text.rstrip())
        if not prompt or not text.startswith(prompt) or end <= len(prompt):
            raise EncodeError(Problem("encode.unlocated", {"turn": turn + 1}))
        stop = (end, end)
        if self.reading.tail and text.endswith(self.reading.tail):
            stop = first_stop(text, len(text) - len(self.reading.tail), len(text), frame.stops) or stop
        spans = (Span(len(prompt), stop[0], turn, "content"), Span(*stop, turn, "stop"))
        return text, tuple(span for span in spans if span.end > span.start)


def _refuse_silence(parsed: Parsed, trained: frozenset[int]) -> None:
    """Raise EncodeError where the template drops a trained answer or a call in it: what is left would teach silence."""
    calls = {message for message, part in parsed.lost if part == "tool_calls"} & trained
    if calls:
        raise EncodeError(Problem("encode.no-tool-calls", {"turn": min(calls) + 1}))
    shown = parsed.broken | {text.message for text in parsed.texts}
    if silent := trained & {message for message, _ in parsed.lost} - shown:
        raise EncodeError(Problem("encode.unlocated", {"turn": min(silent) + 1}))


def _tokenized(
    text: str, spans: tuple[Span, ...], tokenizer: Tokenizer, omitted: tuple[tuple[int, str], ...]
) -> Encoded:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ids = encoding.ids
    return Encoded(text, ids, labelled(ids, encoding, spans), spans, omitted)


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: Tokenizer) -> frozenset[str]:
    return frozenset(token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special)
