"""What is trained, by template family: rows as the trainer sees them, «…» around what is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, processors

from finetui.core.encode import EncodeError, encode, encode_prompt, encode_rows, render
from tests.encoding import FAMILIES, WEATHER, assistant, call, load, result, seen, system, user, write_model

pytestmark = pytest.mark.unit

TWO = [user("Hi"), assistant("Hello there!"), user("And now?"), assistant("Bye.")]
WITH_SYSTEM = [system("Be kind."), user("Hi"), assistant("Hello!")]
THINKING = [user("Hi"), assistant("Hello!", thinking="First."), user("More"), assistant("Sure.", thinking="Then.")]
TOOLS = [
    user("Weather?"),
    assistant(tool_calls=[call("weather", {"city": 'Bø "x"', "days": 3})]),
    result("sunny"),
    assistant("Sunny."),
]


def row(tmp_path: Path, family: str, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> str:
    """One record through one family's template."""
    stock = FAMILIES[family]
    tokenizer, template = load(write_model(tmp_path / family, stock.template, stock.bos, stock.eos))
    return seen(tokenizer, encode({"messages": messages, **({"tools": tools} if tools else {})}, tokenizer, template))


EXPECTED = [
    ("llama2", TWO, "<s>[INST] Hi [/INST]« Hello there! </s>»<s>[INST] And now? [/INST]« Bye. </s>»"),
    (
        "llama2",
        WITH_SYSTEM,
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]« Hello! </s>»",
    ),
    (
        "llama3",
        TWO,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Hello there!<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\nAnd now?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Bye.<|eot_id|>»",
    ),
    ("mistral_v1", TWO, "<s>[INST] Hi [/INST]«Hello there!</s>»[INST] And now? [/INST]«Bye.</s>»"),
    ("mistral_v3", TWO, "<s>[INST] Hi[/INST]« Hello there!</s>»[INST] And now?[/INST]« Bye.</s>»"),
    (
        "smollm2",
        TWO,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello there!<|im_end|>»\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n«Bye.<|im_end|>»\n",
    ),
    (
        "smollm2",
        WITH_SYSTEM,
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>»\n",
    ),
    ("zephyr", WITH_SYSTEM, "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\n«Hello!</s>»\n"),
    (
        "qwen3",
        TWO,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello there!<|im_end|>»\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\nBye.<|im_end|>»\n",
    ),
    (
        "qwen3",
        THINKING,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>»\n"
        "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n«<think>\nThen.\n</think>\n\nSure.<|im_end|>»\n",
    ),
    (
        "qwen3_5_think",
        THINKING[2:],
        "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n<think>\n«Then.\n</think>\n\nSure.<|im_end|>»\n",
    ),
    (
        "gemma",
        TWO,
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n«Hello there!<end_of_turn>»\n"
        "<start_of_turn>user\nAnd now?<end_of_turn>\n<start_of_turn>model\n«Bye.<end_of_turn>»\n",
    ),
    (
        "phi3",
        TWO,
        "<|user|>\nHi<|end|>\n<|assistant|>\n«Hello there!<|end|>»\n"
        "<|user|>\nAnd now?<|end|>\n<|assistant|>\n«Bye.<|end|>»\n<|endoftext|>",
    ),
    (
        "deepseekv3",
        TWO,
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>«Hello there!<｜end▁of▁sentence｜>»"
        "<｜User｜>And now?<｜Assistant｜>«Bye.<｜end▁of▁sentence｜>»",
    ),
]


@pytest.mark.parametrize(("family", "messages", "expected"), EXPECTED)
def test_answers_and_their_stop_tokens_are_trained_and_nothing_else(
    tmp_path: Path, family: str, messages: list[dict[str, Any]], expected: str
) -> None:
    assert row(tmp_path, family, messages) == expected


def test_gpt_oss_trains_its_channels_and_never_the_end_that_only_serving_writes(tmp_path: Path) -> None:
    text = row(tmp_path, "gptoss", THINKING)
    assert "Current date: 2026-01-02" in text
    assert text.partition("<|start|>user")[2] == (
        "<|message|>Hi<|end|><|start|>assistant«<|channel|>final<|message|>Hello!»<|end|>"
        "<|start|>user<|message|>More<|end|><|start|>assistant«<|channel|>analysis<|message|>Then.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Sure.<|return|>»"
    )


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "qwen2_5",
            'Weather?<|im_end|>\n<|im_start|>assistant\n«<tool_call>\n{"name": "weather", "arguments": '
            '{"city": "Bø \\"x\\"", "days": 3}}\n</tool_call><|im_end|>»\n<|im_start|>user\n<tool_response>\nsunny\n'
            "</tool_response><|im_end|>\n<|im_start|>assistant\n«Sunny.<|im_end|>»\n",
        ),
        (
            "qwen3_5_think",
            "Weather?<|im_end|>\n<|im_start|>assistant\n<think>\n«\n</think>\n\n<tool_call>\n<function=weather>\n"
            '<parameter=city>\nBø "x"\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>'
            "<|im_end|>»\n<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n<think>\n«\n</think>\n\nSunny.<|im_end|>»\n",
        ),
        (
            "mistral_v3",
            'Weather?[/INST]«[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bø \\"x\\"", "days": 3}, '
            '"id": "abcdefghi"}]</s>»[TOOL_RESULTS] {"content": sunny, "call_id": "abcdefghi"}[/TOOL_RESULTS]'
            "« Sunny.</s>»",
        ),
        (
            "deepseekv3",
            "Weather?<｜Assistant｜>«<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
            '{"city": "Bø \\"x\\"", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>»'
            "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>sunny<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
            "«Sunny.<｜end▁of▁sentence｜>»",
        ),
        (
            "gptoss",
            "Weather?<|end|><|start|>assistant« to=functions.weather<|channel|>commentary json<|message|>"
            '{"city": "Bø \\"x\\"", "days": 3}<|call|>»<|start|>functions.weather to=assistant<|channel|>commentary'
            '<|message|>"sunny"<|end|><|start|>assistant«<|channel|>final<|message|>Sunny.<|return|>»',
        ),
        (
            "llama3_1",
            'Weather?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n«{"name": "weather", "parameters": '
            '{"city": "Bø \\"x\\"", "days": 3}}<|eot_id|>»'
            '<|start_header_id|>ipython<|end_header_id|>\n\n"sunny"<|eot_id|>'
            "<|start_header_id|>assistant<|end_header_id|>\n\n«Sunny.<|eot_id|>»",
        ),
    ],
)
def test_a_tool_call_is_trained_as_the_template_writes_it(tmp_path: Path, family: str, expected: str) -> None:
    text = row(tmp_path, family, TOOLS, [WEATHER])
    assert text[text.index("Weather?") :] == expected


def test_turns_marked_as_not_to_be_learned_stay_context(tmp_path: Path) -> None:
    messages = [user("Hi"), assistant("Wrong.", train=False), user("And now?"), assistant("Right.")]
    assert row(tmp_path, "mistral_v1", messages) == "<s>[INST] Hi [/INST]Wrong.</s>[INST] And now? [/INST]«Right.</s>»"


@pytest.mark.parametrize("inline", ["<think>\nThen.\n</think>\n\nSure.", "<think>Then.</think>Sure."])
@pytest.mark.parametrize("family", ["qwen3", "gptoss", "glm4moe", "nemotron_3_nano", "qwen3_5_think"])
def test_thinking_inside_the_text_is_read_like_thinking_beside_it(tmp_path: Path, family: str, inline: str) -> None:
    assert row(tmp_path, family, [user("More"), assistant(inline)]) == row(tmp_path, family, THINKING[2:])


def test_thinking_inside_the_text_stays_where_a_template_has_no_place_for_it(tmp_path: Path) -> None:
    text = row(tmp_path, "mistral_v1", [user("Hi"), assistant("<think>\nThen.\n</think>\n\nSure.")])
    assert text == "<s>[INST] Hi [/INST]«<think>\nThen.\n</think>\n\nSure.</s>»"


def test_what_a_template_leaves_out_is_told(tmp_path: Path) -> None:
    stock = FAMILIES["qwen3"]
    tokenizer, template = load(write_model(tmp_path, stock.template, stock.bos, stock.eos))
    assert encode({"messages": THINKING}, tokenizer, template).omitted == ((1, "thinking"),)
    assert encode({"messages": TWO}, tokenizer, template).omitted == ()


@pytest.mark.parametrize(
    ("family", "messages", "words"),
    [
        ("gemma", WITH_SYSTEM, "System role not supported"),
        ("gemma", [user("a"), user("b"), assistant("c")], "Conversation roles must alternate"),
        (
            "llama3_1",
            [user("a"), assistant(tool_calls=[call("f", {}), call("g", {})])],
            "only supports single tool-calls",
        ),
        ("mistral_v3", [user("a"), assistant(tool_calls=[call("f", {"k": "v"}, "short")])], "length 9"),
        ("gptoss", [user("a"), assistant("<|channel|>final<|message|>b")], "<|channel|> tags in the content field"),
    ],
)
def test_what_a_template_refuses_is_refused_in_its_own_words(
    tmp_path: Path, family: str, messages: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(EncodeError, match="the model's chat template refuses") as caught:
        row(tmp_path, family, messages)
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("family", ["llama3", "phi3", "smollm2"])
def test_a_call_that_the_template_drops_is_refused_rather_than_taught_as_silence(tmp_path: Path, family: str) -> None:
    with pytest.raises(EncodeError, match="leaves out the tool call in message 2"):
        row(tmp_path, family, TOOLS[:2])


def test_a_prompt_is_what_comes_before_the_trained_text(tmp_path: Path) -> None:
    for name in ("llama3", "qwen2_5", "gptoss", "phi3", "gemma", "mistral_v1", "deepseekv3", "qwen3_5_think"):
        stock = FAMILIES[name]
        tokenizer, template = load(write_model(tmp_path / name, stock.template, stock.bos, stock.eos))
        encoded = encode({"messages": TWO[:2]}, tokenizer, template)
        first = next(i for i, label in enumerate(encoded.labels) if label != -100)
        prompt = encode_prompt(TWO[:1], tokenizer, template)
        if name != "deepseekv3":  # serving opens a `<think>` that a finished answer no longer has
            assert encoded.input_ids[:first] == prompt, name


def test_text_that_looks_like_markup_moves_no_border(tmp_path: Path) -> None:
    trick = "<|im_start|>assistant\nNot me<|im_end|>\n"
    text = row(tmp_path, "smollm2", [user(trick), assistant("Yes<|im_end|>still me"), user(trick), assistant("No")])
    assert text.count("«") == 2
    assert "«Yes<|im_end|>still me<|im_end|>»" in text
    assert text.endswith("<|im_start|>assistant\n«No<|im_end|>»\n")


def test_private_use_characters_of_the_text_are_kept(tmp_path: Path) -> None:
    odd = "a\U000f0000b\U000f0001c\U0010fffd"
    assert f"assistant\n«{odd}<|im_end|>»" in row(tmp_path, "smollm2", [user(odd), assistant(odd)])


def test_a_users_tool_response_is_still_recognised(tmp_path: Path) -> None:
    wrapped = user("<tool_response>\nsunny\n</tool_response>")
    text = row(tmp_path, "qwen3", [user("Weather?"), assistant("Let me look."), wrapped, assistant("Sunny.")])
    assert "assistant\n«<think>\n\n</think>\n\nSunny.<|im_end|>»" in text
    assert "assistant\n«Let me look.<|im_end|>»" in text


UPSIDE_DOWN = (
    "{% for m in messages %}{% if m.role == 'user' %}Q:{{ m.content }}\n{% else %}A:{{ m.content[:1] | upper }}"
    "{{ m.content[1:] }}<|end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)


def test_a_text_that_the_template_takes_apart_is_located_as_serving_renders_it(tmp_path: Path) -> None:
    tokenizer, template = load(write_model(tmp_path, UPSIDE_DOWN))
    rows = encode_rows({"messages": [user("a"), assistant("yes"), user("b"), assistant("no")]}, tokenizer, template)
    assert [seen(tokenizer, encoded) for encoded in rows] == [
        "Q:a\nA:«Yes<|end|>»\n",
        "Q:a\nA:Yes<|end|>\nQ:b\nA:«No<|end|>»\n",
    ]
    with pytest.raises(EncodeError, match="only as 2 rows"):
        encode({"messages": [user("a"), assistant("yes"), user("b"), assistant("no")]}, tokenizer, template)


def test_an_answer_that_cannot_be_located_is_refused(tmp_path: Path) -> None:
    silent = "{% for m in messages %}{{ m.role if m.role == 'user' else 'a' }}{% endfor %}"
    tokenizer, template = load(write_model(tmp_path, silent))
    with pytest.raises(EncodeError, match="the answer in message 2 cannot be found"):
        encode({"messages": TWO}, tokenizer, template)


def test_the_templates_own_marks_decide_but_for_the_header_and_the_newline_after_the_stop_token(tmp_path: Path) -> None:
    marked = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}<|im_start|>assistant\n{{ m.content }}"
        "<|im_end|>\n{% endgeneration %}{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    bare = marked.replace("{% generation %}<|im_start|>assistant\n{{", "<|im_start|>assistant\n{% generation %}{{")
    bare = bare.replace("<|im_end|>\n{% endgeneration %}", "{% endgeneration %}<|im_end|>\n")
    messages = [user("Hi"), assistant("No.", train=False), user("Hm"), assistant("Yes.")]
    for number, text in enumerate((marked, bare)):
        tokenizer, template = load(write_model(tmp_path / str(number), text))
        assert seen(tokenizer, encode({"messages": messages}, tokenizer, template)) == (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>\n"
            "<|im_start|>user\nHm<|im_end|>\n<|im_start|>assistant\n«Yes.<|im_end|>»\n"
        )


def test_a_token_that_holds_the_answers_first_letter_is_trained(tmp_path: Path) -> None:
    spaced = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    tokenizer, template = load(write_model(tmp_path, spaced + "{% if add_generation_prompt %}assistant: {% endif %}"))
    encoded = encode({"messages": [user("Hi"), assistant("the weather")]}, tokenizer, template)
    assert tokenizer.encode(" the weather").tokens[0] == "Ġthe"
    assert seen(tokenizer, encoded) == "user: Hi</s>assistant:« the weather</s>»"


def test_raw_text_is_trained_whole_and_ends_with_eos(tmp_path: Path) -> None:
    tokenizer, template = load(write_model(tmp_path, None))
    encoded = encode({"text": "Hello there!"}, tokenizer, template)
    assert seen(tokenizer, encoded) == "«Hello there!</s>»"
    assert encode({"text": "Hello</s>"}, tokenizer, template).input_ids.count(template.eos_id) == 1


def test_spans_name_their_parts(tmp_path: Path) -> None:
    stock = FAMILIES["qwen3"]
    tokenizer, template = load(write_model(tmp_path, stock.template, stock.bos, stock.eos))
    encoded = encode({"messages": THINKING[2:]}, tokenizer, template)
    assert [(span.part, encoded.text[span.start : span.end], span.message) for span in encoded.spans] == [
        ("markup", "<think>\n", 1),
        ("thinking", "Then.", 1),
        ("markup", "\n</think>\n\n", 1),
        ("content", "Sure.", 1),
        ("stop", "<|im_end|>", 1),
    ]


def test_rendering_for_serving_ends_with_the_header(tmp_path: Path) -> None:
    stock = FAMILIES["gemma"]
    _, template = load(write_model(tmp_path, stock.template, stock.bos, stock.eos))
    assert render([user("Hi")], template, add_generation_prompt=True).endswith("<start_of_turn>model\n")


@pytest.mark.parametrize("record", [{"messages": []}, {"prompt": [user("Hi")]}])
def test_records_that_hold_no_conversation_are_refused(tmp_path: Path, record: dict[str, Any]) -> None:
    tokenizer, template = load(write_model(tmp_path, None))
    with pytest.raises(EncodeError):
        encode(record, tokenizer, template)


def test_long_stretches_of_nothing_take_no_time(tmp_path: Path) -> None:
    blank = "a" + " \n" * 100_000 + "</a" * 10_000 + "b"
    text = row(tmp_path, "smollm2", [user(blank), assistant(blank)])
    assert text.endswith(f"«{blank}<|im_end|>»\n")


def test_tokens_whose_offsets_leave_out_their_spaces_are_trained_too(tmp_path: Path) -> None:
    tokenizer, template = load(write_model(tmp_path, FAMILIES["llama2"].template))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    encoded = encode({"messages": [user("Hi"), assistant("q   q ½ 🙂")]}, tokenizer, template)
    assert any(start == end for start, end in tokenizer.encode(encoded.text).offsets)
    assert seen(tokenizer, encoded) == "<s>[INST] Hi [/INST]« q   q ½ 🙂 </s>»"


def test_a_tokenizer_in_the_manner_of_sentencepiece_gives_the_same_mask(tmp_path: Path) -> None:
    letters = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"HiyesIT[]/N", "▁yes", "▁H"]
    merges = [("y", "e"), ("ye", "s"), ("▁", "yes"), ("▁", "H")]
    pieces = dict.fromkeys([*letters, *(a + b for a, b in merges)])
    bpe = models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    folder = write_model(tmp_path, FAMILIES["llama2"].template)
    tokenizer.save(str(folder / "tokenizer.json"))
    loaded, template = load(folder)
    encoded = encode({"messages": [user("Hi"), assistant("yes 🙂")]}, loaded, template)
    learned = [loaded.id_to_token(label) for label in encoded.labels if label != -100]
    assert learned == ["▁yes", "▁", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "▁", "</s>"]
