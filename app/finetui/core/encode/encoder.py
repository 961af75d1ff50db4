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

from finetui.core.encode.jinja import EncodeError, Message, render_adapted
from finetui.core.encode.marks import Marker
from finetui.core.encode.reading import Reading, read
from finetui.core.encode.template import Template
from finetui.core.encode.turns import Frame, Span, first_stop, spans_of
from finetui.core.errors import Problem

NOT_TRAINED = -100


@dataclass(frozen=True)
class Encoded:
    """One training row."""

    text: str
    """The rendering; for raw text, the text."""
    input_ids: list[int]
    labels: list[int]
    """The ids where they are trained, -100 where not; as long as `input_ids`."""
    spans: tuple[Span, ...]
    """What of the text is trained, by character offsets."""
    omitted: tuple[tuple[int, str], ...] = ()
    """Trained message and part (such as `thinking`) that the template leaves out of this rendering."""


def encode(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> Encoded:
    """Encode one canonical record of kind `chat` or `text` as one row.

    Raises EncodeError where the template refuses the messages, or where one row cannot hold all trained turns.
    """
    rows = encode_rows(record, tokenizer, template)
    if len(rows) > 1:
        raise EncodeError(Problem("encode.several-rows", {"rows": len(rows)}))
    return rows[0]


def encode_rows(record: Mapping[str, Any], tokenizer: Tokenizer, template: Template) -> tuple[Encoded, ...]:
    """Encode one canonical record: one row, or one for each trained turn where only serving's rendering locates them.

    Raises EncodeError where the template refuses the messages, or where a trained turn cannot be located.
    """
    if "messages" in record:
        return _encode_chat(record["messages"], record.get("tools"), tokenizer, template)
    if "text" in record:
        return (_encode_text(record["text"], tokenizer, template),)
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


def _encode_text(text: str, tokenizer: Tokenizer, template: Template) -> Encoded:
    ids = tokenizer.encode(text, add_special_tokens=True).ids
    if template.eos_id is not None and (not ids or ids[-1] != template.eos_id):
        ids = [*ids, template.eos_id]
    return Encoded(text, ids, list(ids), (Span(0, len(text), 0, "text"),))


def _encode_chat(
    messages: Sequence[Message], tools: Sequence[Any] | None, tokenizer: Tokenizer, template: Template
) -> tuple[Encoded, ...]:
    if not messages:
        raise EncodeError(Problem("encode.empty"))
    reading, tools = read(template, bool(tools)), tools or None
    messages = [reading.without_inline_thinking(message) for message in messages]
    trained = frozenset(i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("train") is not False)
    text = render_adapted(template, reading.adapt(messages), tools)
    marker = Marker(messages, text, split_thinking="</think>" in template.source_text(tools))
    marked = render_adapted(template, reading.adapt(marker.mark(messages)), tools, marks=marker.generation)
    parsed = marker.parse(marked)
    frame = Frame(reading.headers, _stop_tokens(tokenizer, template), lambda: _special_tokens(tokenizer))
    spans = spans_of(parsed, trained, frame) if parsed.text == text else ()
    omitted = tuple(sorted(lost for lost in parsed.lost if lost[0] in trained))
    if trained - {span.message for span in spans} or parsed.broken & trained:
        return tuple(_as_served(messages, turn, tools, reading, frame, tokenizer, template) for turn in sorted(trained))
    return (_tokenized(text, spans, tokenizer, omitted),)


def _as_served(
    messages: Sequence[Message],
    turn: int,
    tools: Sequence[Any] | None,
    reading: Reading,
    frame: Frame,
    tokenizer: Tokenizer,
    template: Template,
) -> Encoded:
    """The conversation up to one answer, which is what follows the prompt that serving sends for it.

    Raises EncodeError where the rendering does not begin with that prompt.
    """
    adapted = reading.adapt(messages[: turn + 1])
    text = render_adapted(template, adapted, tools)
    prompt = render_adapted(template, adapted[:-1], tools, add_generation_prompt=True) if turn else ""
    if not turn or not text.startswith(prompt):
        raise EncodeError(Problem("encode.unlocated", {"turn": turn + 1}))
    end = len(text.rstrip())
    content = (end, end)
    if reading.tail and text.endswith(reading.tail):
        tail = len(text) - len(reading.tail)
        content = first_stop(text, tail, len(text), frame.stops) or content
    spans = (Span(len(prompt), content[0], turn, "content"), Span(*content, turn, "stop"))
    return _tokenized(text, tuple(span for span in spans if span.end > span.start), tokenizer, ())


def _tokenized(
    text: str, spans: tuple[Span, ...], tokenizer: Tokenizer, omitted: tuple[tuple[int, str], ...]
) -> Encoded:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ids = encoding.ids
    return Encoded(text, ids, _labels(ids, encoding.offsets, spans), spans, omitted)


def _labels(ids: list[int], offsets: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[int]:
    """Labels from the characters that tokens cover.

    A token covers what lies between the end of the one before and its own end: tokenizers may leave spaces out of the
    offsets that they report, and give several tokens of one character the same offsets.
    """
    labels = [NOT_TRAINED] * len(ids)
    covered = following = 0
    for index, (start, end) in enumerate(offsets):
        start = min(start, covered)
        covered = max(covered, end)
        while following < len(spans) and spans[following].end <= start:
            following += 1
        if following == len(spans):
            break
        if spans[following].start < end or (start == end == spans[following].start):
            labels[index] = ids[index]
    return labels


def _stop_tokens(tokenizer: Tokenizer, template: Template) -> tuple[str, ...]:
    return tuple(token for stop in template.stop_ids if (token := tokenizer.id_to_token(stop)))


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: Tokenizer) -> frozenset[str]:
    return frozenset(token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special)
