"""Any text: the ids spell the rendering, the spans hold the messages' texts, the labels follow the spans."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from finetui.core.encode import Template, encode, render
from tests.encoding import FAMILIES, assistant, call, load, user, write_model

pytestmark = pytest.mark.unit

PIECES = ["a", " the", " ", "\n", "天气", "½", "🙂", "\t", "<think>", "<|im_end|>", "{{ x }}", "</s>", "\U000f0000"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=3), max_size=8).map("".join)
ANSWERS = TEXTS.filter(lambda text: bool(text.strip()))
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["qwen2_5", "llama3", "mistral_v1", "gemma", "phi3", "llama2", "cohere2", "smollm2", "qwen3"])


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Loads a family once."""
    root = tmp_path_factory.mktemp("stock")

    @cache
    def loaded(name: str) -> tuple[Tokenizer, Template]:
        family = FAMILIES[name]
        return load(write_model(root / name, family.template, family.bos, family.eos))

    return loaded


@settings(max_examples=250, deadline=None)
@given(turns=st.lists(st.tuples(TEXTS, ANSWERS), min_size=1, max_size=3), family=NAMES)
def test_every_answer_is_trained_whole_and_nothing_of_a_question_is(
    stock: Any, turns: list[tuple[str, str]], family: str
) -> None:
    tokenizer, template = stock(family)
    messages = [message for question, answer in turns for message in (user(question), assistant(answer))]
    encoded = encode({"messages": messages}, tokenizer, template)
    assert encoded.text == render(messages, template)
    assert tokenizer.decode(encoded.input_ids, skip_special_tokens=False) == encoded.text
    for index, (_, answer) in enumerate(turns):
        mine = [span for span in encoded.spans if span.message == 2 * index + 1]
        if "</think>" not in answer:
            assert "".join(encoded.text[s.start : s.end] for s in mine if s.part == "content") == answer.strip()
        assert [a.end for a in mine[:-1]] == [b.start for b in mine[1:]]
        assert mine[-1].part == "stop"
        assert tokenizer.token_to_id(encoded.text[mine[-1].start : mine[-1].end]) in template.stop_ids
    assert sum(span.part == "stop" for span in encoded.spans) == len(turns)
    _check_labels(tokenizer, encoded)


@settings(max_examples=100, deadline=None)
@given(arguments=st.dictionaries(st.sampled_from(["city", "days", "<|im_end|>"]), VALUES, max_size=3), answer=ANSWERS)
def test_every_tool_call_is_trained_whole(stock: Any, arguments: dict[str, Any], answer: str) -> None:
    tokenizer, template = stock("qwen2_5")
    messages = [user("Hi"), assistant(tool_calls=[call("weather", arguments)]), user("x"), assistant(answer)]
    encoded = encode({"messages": messages}, tokenizer, template)
    first = [span for span in encoded.spans if span.message == 1]
    text = encoded.text[first[0].start : first[-1].end]
    assert text.startswith('<tool_call>\n{"name": "weather", "arguments": {')
    if "<|im_end|>" not in str(arguments.keys()):
        assert text.endswith("}\n</tool_call><|im_end|>")
    _check_labels(tokenizer, encoded)


def _check_labels(tokenizer: Tokenizer, encoded: Any) -> None:
    """The tokens that are trained spell the spans; at most a space that shares its token with a span is added."""
    assert len(encoded.labels) == len(encoded.input_ids)
    assert all(label in (-100, token) for label, token in zip(encoded.labels, encoded.input_ids, strict=True))
    trained = [token for token in encoded.labels if token != -100]
    decoded = tokenizer.decode(trained, skip_special_tokens=False)
    spelled = "".join(encoded.text[span.start : span.end] for span in encoded.spans)
    assert decoded.replace(" ", "").replace("\n", "") == spelled.replace(" ", "").replace("\n", "")
