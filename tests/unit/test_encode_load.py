"""What a model folder says of its tokenizer and template, and what is done about a model that says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from finetui.core.encode import BUILTIN, EncodeError, Template, encode, encode_prompt, load_template, load_tokenizer
from finetui.core.errors import FinetuiError
from finetui.core.files import canonical_json
from tests.encoding import FAMILIES, WEATHER, assistant, load, seen, system, user, write_model

pytestmark = pytest.mark.unit

CHAT = [system("Be kind."), user("Hi"), assistant("Hello!"), user("And?"), assistant("Bye.")]
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def write(folder: Path, name: str, value: Any) -> None:
    """A JSON file in a model folder."""
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_stop_tokens_are_found_by_rendering(tmp_path: Path, family: str) -> None:
    stock = FAMILIES[family]
    tokenizer, template = load(write_model(tmp_path, stock.template, stock.bos, stock.eos))
    assert [tokenizer.id_to_token(i) for i in template.stop_ids] == [stock.eos, *stock.stops]
    assert (template.name, template.source) == ("default", "model")


def test_stop_tokens_of_the_generation_config_count_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path, CHATML, "<s>", "</s>")
    tokenizer = load_tokenizer(folder)
    write(folder, "generation_config.json", {"eos_token_id": [tokenizer.token_to_id("<s>"), 99999]})
    template = load_template(folder, tokenizer)
    assert [tokenizer.id_to_token(i) for i in template.stop_ids] == ["</s>", "<s>", "<|im_end|>"]


def test_a_template_read_back_from_a_lock_encodes_the_same(tmp_path: Path) -> None:
    tokenizer, template = load(
        write_model(tmp_path, FAMILIES["gptoss"].template, "<s>", "<|return|>"), date="2025-03-04"
    )
    again = Template.from_json(json.loads(canonical_json(template.to_json())))
    assert again == template
    assert encode({"messages": CHAT}, tokenizer, again) == encode({"messages": CHAT}, tokenizer, template)
    assert "Current date: 2025-03-04" in encode({"messages": CHAT}, tokenizer, again).text


BARE = {
    "plain": "Be kind.\n\nUser: Hi\n\nAssistant:« Hello!</s>»\n\nUser: And?\n\nAssistant:« Bye.</s>»\n\n",
    "vicuna": "Be kind. USER: Hi ASSISTANT:« Hello!</s>» USER: And? ASSISTANT:« Bye.</s>»",
    "alpaca": "Be kind.\n\n### Instruction:\nHi\n\n### Response:\n«Hello!</s>»\n\n"
    "### Instruction:\nAnd?\n\n### Response:\n«Bye.</s>»\n\n",
    "llama2": "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]« Hello! </s>»[INST] And? [/INST]« Bye. </s>»",
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    "«Hello!<|im_end|>»\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n«Bye.<|im_end|>»\n",
}


@pytest.mark.parametrize("name", BUILTIN)
def test_a_base_model_is_taught_a_builtin_template(tmp_path: Path, name: str) -> None:
    extra = {"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    tokenizer, template = load(write_model(tmp_path, None, **extra), name)
    assert template.source == "builtin"
    encoded = encode({"messages": CHAT}, tokenizer, template)
    assert seen(tokenizer, encoded) == BARE[name]
    prompt = encode_prompt(CHAT[:2], tokenizer, template)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert [label != -100 for label in encoded.labels].index(True) == len(prompt)
    for refused in ({"messages": CHAT, "tools": [WEATHER]}, {"messages": [*CHAT, {"role": "tool", "content": "x"}]}):
        with pytest.raises(EncodeError, match=f"The {name} template"):
            encode(refused, tokenizer, template)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_builtin_template_writes_bos_exactly_where_the_tokenizer_does(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path, None, extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    bos = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == "<s>")
    piece = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [piece, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}},
    }
    write(folder, "tokenizer.json", tokenizer)
    loaded, template = load(folder, name)
    ids = encode({"messages": CHAT}, loaded, template).input_ids
    assert ids[0] == bos
    assert ids.count(bos) == (2 if name == "llama2" else 1)
    assert encode({"text": "Hi"}, loaded, template).input_ids[0] == bos


def test_a_model_without_a_template_gets_plain(tmp_path: Path) -> None:
    assert load(write_model(tmp_path, None))[1].name == "plain"


def test_chatml_is_refused_where_its_stop_token_is_no_token(tmp_path: Path) -> None:
    with pytest.raises(FinetuiError, match="is not a token of this model"):
        load(write_model(tmp_path, None), "chatml")


def test_a_model_that_names_no_end_of_text_cannot_be_taught_to_stop(tmp_path: Path) -> None:
    folder = write_model(tmp_path, None, None, None)
    with pytest.raises(FinetuiError, match="names no end-of-text token"):
        load(folder)
    write(folder, "config.json", {"eos_token_id": 7, "bos_token_id": None})
    assert load(folder)[1].eos_id == 7


def test_a_template_from_a_file_takes_the_place_of_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")
    tokenizer, template = load(write_model(tmp_path / "m", CHATML), str(tmp_path / "mine.jinja"))
    assert (template.name, template.source) == ("mine.jinja", "file")
    assert seen(tokenizer, encode({"messages": [user("Hi"), assistant("Hello!")]}, tokenizer, template)) == (
        "Hi</s>«Hello!</s>»"
    )


@pytest.mark.parametrize("form", ["file", "string", "list", "legacy"])
def test_a_template_is_read_wherever_models_keep_it(tmp_path: Path, form: str) -> None:
    folder = write_model(tmp_path, {"string": CHATML}.get(form), "<s>", "</s>", extra_special_tokens=["<|im_end|>"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    if form == "file":
        (folder / "chat_template.jinja").write_text(CHATML)
        write(folder, "tokenizer_config.json", {**config, "chat_template": "not this one"})
    if form == "list":
        named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": "with tools"}]
        write(folder, "tokenizer_config.json", {**config, "chat_template": named})
    if form == "legacy":
        write(folder, "chat_template.json", {"chat_template": CHATML})
    _, template = load(folder)
    assert template.text == CHATML
    assert template.tool_use == ("with tools" if form == "list" else None)


def test_a_conversation_with_tools_uses_the_models_template_for_tools(tmp_path: Path) -> None:
    tools = "{{ tools[0].function.name }}:" + CHATML
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": tools}]
    folder = write_model(tmp_path, None, chat_template=named, extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    tokenizer, template = load(folder)
    messages = [user("Hi"), assistant("Hello!")]
    assert encode({"messages": messages, "tools": [WEATHER]}, tokenizer, template).text.startswith(
        "weather:<|im_start|>"
    )
    assert encode({"messages": messages}, tokenizer, template).text.startswith("<|im_start|>")


def test_special_tokens_are_read_as_strings_and_as_objects(tmp_path: Path) -> None:
    folder = write_model(tmp_path, None, None, None)
    write(folder, "tokenizer_config.json", {"bos_token": {"content": "<s>", "lstrip": False}})
    write(folder, "special_tokens_map.json", {"eos_token": {"content": "</end>"}, "pad_token": "<pad>"})
    tokenizer, template = load(folder)
    assert template.special_tokens == {"bos_token": "<s>", "eos_token": "</end>", "pad_token": "<pad>"}
    assert template.pad_id == tokenizer.token_to_id("<pad>")
    assert tokenizer.encode("a</end>b").tokens == ["a", "</end>", "b"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no tokenizer.json"),
        ({"tokenizer.model": "x"}, "only a slow tokenizer"),
        ({"tokenizer.json": "{}"}, "cannot be read as a tokenizer"),
        ({"tokenizer.json": "\x00\x01"}, "cannot be read as a tokenizer"),
    ],
)
def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(FinetuiError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "{", "\x00"])
def test_a_configuration_that_is_no_object_is_refused_by_name(tmp_path: Path, content: str) -> None:
    folder = write_model(tmp_path, None)
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(FinetuiError, match=r"tokenizer_config\.json is not a JSON object"):
        load_tokenizer(folder)


def test_truncation_and_padding_of_the_file_are_off(tmp_path: Path) -> None:
    folder = write_model(tmp_path, None)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_tokenizer(folder).encode("a b c d e f").ids) > 3


@pytest.mark.parametrize(
    ("choice", "message"), [("nowhere", "there is no chat template nowhere"), ("bad.jinja", "at its line 1")]
)
def test_a_template_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jinja").write_text("{% for %}")
    with pytest.raises(FinetuiError, match=message):
        load(write_model(tmp_path / "m", None), choice)


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for a in range(99999999) %}x{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_hostile_template_is_refused_and_reaches_nothing(tmp_path: Path, hostile: str) -> None:
    tokenizer, template = load(write_model(tmp_path, hostile))
    with pytest.raises(EncodeError):
        encode({"messages": CHAT}, tokenizer, template)


def test_a_template_that_asks_no_date_has_none(tiny_model: Path) -> None:
    assert load_template(tiny_model, load_tokenizer(tiny_model), date="2025-03-04").date is None


ROUND = "{% for _ in range(9999) %}" * 4 + "{% endfor %}" * 4


@pytest.mark.parametrize("source", [ROUND, "{% if messages[1].content == 'Hi' %}" + ROUND + "{% endif %}" + CHATML])
def test_a_template_that_never_ends_is_given_up(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.core.encode.jinja._LIMIT_S", 0.2)
    with pytest.raises(FinetuiError) as caught:
        encode({"messages": CHAT}, *load(write_model(tmp_path, source, "<s>", "</s>")))
    assert [problem.code for problem in caught.value.problems] == ["encode.endless"]
    assert not isinstance(caught.value, EncodeError)


def test_a_template_that_is_too_deep_to_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as caught:
        load(write_model(tmp_path, "{{ " + "(" * 10_000, "<s>", "</s>"))
    assert [problem.code for problem in caught.value.problems] == ["encode.bad-template"]
