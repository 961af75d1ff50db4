"""The encoder against transformers: the same text and ids, the same refusals; and against TRL's generation marks."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from finetui.core.encode import EncodeError, Template, encode_prompt, encode_rows, render
from tests.encoding import (
    FAMILIES,
    WEATHER,
    Family,
    assistant,
    call,
    load,
    result,
    seen,
    system,
    template_text,
    user,
    visible,
    write_model,
)

pytestmark = pytest.mark.worker

CHATS: dict[str, list[dict[str, Any]]] = {
    "one turn": [user("Hi"), assistant("Hello!")],
    "several turns": [user(" Hi "), assistant("\n Hello there! "), user("天气?"), assistant("Sunny ½ 🙂")],
    "system": [system("Be kind. "), user("Hi"), assistant("Hello!"), user("And?"), assistant("Bye.")],
    "two systems": [system("Be kind."), user("Hi"), system("Be brief."), assistant("Hello!")],
    "assistant first": [assistant("Welcome!"), user("Hi"), assistant("Hello!")],
    "users twice": [user("Hi"), user("Anyone?"), assistant("Hello!")],
    "thinking": [user("Hi"), assistant("A", thinking="One."), user("More"), assistant("B", thinking=" Two\n")],
    "thinking inside": [user("Hi"), assistant("<think>\nOne.\n</think>\n\nA"), user("More"), assistant("B")],
    "tool call": [user("Hi"), assistant(tool_calls=[call("weather", {"city": 'B"ø', "n": 3, "m": None})])],
    "tool result": [
        user("Hi"),
        assistant(tool_calls=[call("weather", {"city": "巴黎", "list": ["a", {"b": True}]})]),
        result("sunny"),
        assistant("It is sunny."),
        user("Thanks"),
        assistant("Welcome."),
    ],
    "two calls": [
        user("Hi"),
        assistant(
            "Wait.", tool_calls=[call("weather", {"city": "Aix"}), call("weather", {"city": "Bonn"}, "ihgfedcba")]
        ),
        result("sunny"),
        result("rainy", identity="ihgfedcba"),
        assistant("Mixed."),
    ],
    "not trained": [user("Hi"), assistant("No.", train=False), user("Hm"), assistant("Yes.")],
    "markup in text": [user("<|im_start|>assistant\n[INST]</s>"), assistant("<|im_end|></think> <end_of_turn>")],
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[PreTrainedTokenizerFast, Tokenizer, Template]]:
    """Each family loaded by transformers and by the encoder, dated today as transformers' clock is."""
    root = tmp_path_factory.mktemp("stock")
    loaded = {}
    for name, family in FAMILIES.items():
        folder = write_model(root / name, family.template, family.bos, family.eos)
        theirs = PreTrainedTokenizerFast.from_pretrained(folder)
        loaded[name] = (theirs, *load(folder, date=date.today().isoformat()))
    return loaded


@pytest.mark.parametrize("tools", [None, [WEATHER]], ids=["no tools", "tools"])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_text_and_ids_are_those_of_apply_chat_template(
    stock: dict[str, Any], family: str, chat: str, tools: list[Any] | None
) -> None:
    theirs, tokenizer, template = stock[family]
    record = {"messages": CHATS[chat], **({"tools": tools} if tools else {})}
    adapted = _adapted(FAMILIES[family], CHATS[chat])
    text, refusal = _theirs(theirs, adapted, tools)
    if text is None:
        with pytest.raises(EncodeError) as caught:
            encode_rows(record, tokenizer, template)
        assert caught.value.problems[0].facts["words"] == refusal
        return
    assert render(CHATS[chat], template, tools) == text
    if all(word in text.replace("\\", "") for word in _to_learn(CHATS[chat])):
        rows = encode_rows(record, tokenizer, template)
        assert rows[-1].text == text
        assert rows[-1].input_ids == theirs.apply_chat_template(adapted, tools=tools, return_dict=False)
    else:  # rendered, but without a call that was to be learned
        with pytest.raises(EncodeError, match="leaves out the tool call"):
            encode_rows(record, tokenizer, template)
    prompt = theirs.apply_chat_template(adapted[:-1], tools=tools, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(CHATS[chat][:-1], tokenizer, template, tools) == prompt


def _theirs(tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None) -> tuple[str | None, str]:
    """What transformers renders, or None and the words of its refusal."""
    try:
        return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False), ""
    except (jinja2.TemplateError, TypeError) as refusal:
        return None, str(refusal)


def _adapted(family: Family, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if family.thinking_key is not None and "<think>" in messages[1].get("content", ""):
        messages = [user("Hi"), assistant("A", thinking="One."), *messages[2:]]
    return family.adapted(messages)


def _to_learn(messages: list[dict[str, Any]]) -> list[str]:
    return [c["function"]["arguments"]["city"] for m in messages for c in m.get("tool_calls", ())]


MARKED = (
    "qwen2_5",
    "qwen3_instruct_2507",
    "llama3",
    "gemma",
    "gemma3",
    "phi3",
    "phi3_5",
    "gptoss",
    "deepseekv3",
    "cohere",
    "cohere2",
    "lfm2_v2",
)
ORACLE_CHATS = ("one turn", "several turns", "system", "thinking", "tool result")


@pytest.mark.parametrize("found_by", ["marks", "sentinels"])
@pytest.mark.parametrize("name", MARKED)
def test_the_mask_is_that_of_trls_marks_but_for_what_serving_writes(tmp_path: Path, name: str, found_by: str) -> None:
    """Meant are these differences: neither the header that serving sends nor the newline after the stop token is
    trained. Where no marks say otherwise, nor is the `<|end|>` that only serving writes into gpt-oss's earlier turns,
    nor the end of text with which Phi-3 closes a conversation whose last turn has ended already."""
    family = FAMILIES[name]
    marked = template_text(f"{name}_training")
    unmarked = re.sub(r"\{%(-?)\s*generation\s*(-?)%\}", r"{%\1 if true \2%}", marked)
    unmarked = re.sub(r"\{%(-?)\s*endgeneration\s*(-?)%\}", r"{%\1 endif \2%}", unmarked)
    theirs = PreTrainedTokenizerFast.from_pretrained(write_model(tmp_path / "marked", marked, family.bos, family.eos))
    source = marked if found_by == "marks" else unmarked
    tokenizer, template = load(
        write_model(tmp_path / found_by, source, family.bos, family.eos), date=date.today().isoformat()
    )
    compared = 0
    for chat in ORACLE_CHATS:
        arguments_as_text = family.arguments_as_text and name != "deepseekv3"  # TRL's reads objects
        adapted = Family(name, thinking_key=family.thinking_key, arguments_as_text=arguments_as_text).adapted(
            CHATS[chat]
        )
        try:
            oracle = theirs.apply_chat_template(adapted, return_dict=True, return_assistant_tokens_mask=True)
            rows = encode_rows({"messages": CHATS[chat]}, tokenizer, template)
        except (jinja2.TemplateError, EncodeError):
            continue
        expected = visible(tokenizer, oracle["input_ids"], [bool(mark) for mark in oracle["assistant_masks"]])
        assert [seen(tokenizer, row) for row in rows] == [_as_meant(expected, name, found_by)], chat
        compared += 1
    assert compared >= 2


def _as_meant(text: str, name: str, found_by: str) -> str:
    headers = {
        "qwen2_5": ["\n"],
        "gptoss": ["<|start|>assistant"],
        "deepseekv3": ["<｜Assistant｜>", "<｜tool▁outputs▁end｜>"],
    }
    for header in headers.get(name, ()):
        text = text.replace(f"«{header}", f"{header}«")
    text = re.sub(r"(\s+)»", r"»\1", text)
    if name == "gptoss" and found_by == "sentinels":
        text = re.sub(r"( ?<\|end\|>)»", r"»\1", text)
    if name in ("phi3", "phi3_5"):  # these close the conversation once more, after the end of the last turn
        last = "«<|endoftext|>»" if found_by == "marks" else "<|endoftext|>"
        text = text.replace("\n<|endoftext|>»", f"»\n{last}")
    return text


PIECES = ["a", " the", " ", "\n", "天气", "½", "🙂", "é", "\t", "</think>", "<think>", "<|im_end|>", "{{ x }}", "</s>"]
WORDS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=3), max_size=8).map("".join)
ANSWERS = WORDS.filter(lambda text: bool(text.strip()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(st.tuples(WORDS, ANSWERS), min_size=1, max_size=3),
    family=st.sampled_from(["qwen2_5", "llama3", "mistral_v1", "gemma", "phi3", "llama2", "cohere2", "smollm2"]),
)
def test_any_text_gives_the_ids_of_transformers(
    stock: dict[str, Any], turns: list[tuple[str, str]], family: str
) -> None:
    theirs, tokenizer, template = stock[family]
    messages = [message for question, answer in turns for message in (user(question), assistant(answer))]
    rows = encode_rows({"messages": messages}, tokenizer, template)
    assert rows[-1].input_ids == theirs.apply_chat_template(messages, return_dict=False)
