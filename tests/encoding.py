"""Model folders with stock chat templates and a small byte-level tokenizer, and masks made visible."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from finetui.core.encode import Encoded, Template, load_template, load_tokenizer

_OWN = Path(__file__).parent / "templates"
_SPECIAL = re.compile(
    r"<\|[\w/\"]+\|?>|<[\w]+\|>|<｜[^<>｜]+｜>|<(?:start|end)_of_(?:turn|utterance)>|\[/?[A-Z_]{4,}\]|\[gMASK\]|<sop>"
)
_CORPUS = (
    "Hello there! How are you doing today? The capital of France is Paris. 巴黎是法国的首都。今天天气很好。"
    "I would like to know what the weather is like. Thank you very much, that is all I need to know. "
    '{"name": "weather", "arguments": {"city": "Paris"}} '
)


@dataclass(frozen=True)
class Family:
    """One stock template and how it wants its messages, written down by hand."""

    name: str
    bos: str = "<s>"
    eos: str = "</s>"
    thinking_key: str | None = None
    arguments_as_text: bool = False
    no_content: Any = ""
    """What a message without text has as its content."""
    stops: tuple[str, ...] = field(default=())
    """The stop tokens that are to be found, besides `eos`."""

    @property
    def template(self) -> str:
        """The Jinja source."""
        return template_text(self.name)

    def adapted(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages as a user of transformers would write them for this template."""
        return [self._adapted(message) for message in messages]

    def _adapted(self, message: dict[str, Any]) -> dict[str, Any]:
        message = {"content": self.no_content if "tool_calls" in message else "", **message}
        message.pop("train", None)
        thinking = message.pop("thinking", None)
        if thinking is not None and self.thinking_key is not None:
            message[self.thinking_key] = thinking
        if self.arguments_as_text and "tool_calls" in message:
            message["tool_calls"] = [
                {
                    **c,
                    "function": {
                        **c["function"],
                        "arguments": json.dumps(c["function"]["arguments"], ensure_ascii=False),
                    },
                }
                for c in message["tool_calls"]
            ]
        return message


FAMILIES = {
    family.name: family
    for family in (
        Family("llama2"),
        Family("llama3", "<|begin_of_text|>", "<|end_of_text|>", stops=("<|eot_id|>",)),
        Family("llama3_1", "<|begin_of_text|>", "<|end_of_text|>", stops=("<|eot_id|>",)),
        Family("llama3_2", "<|begin_of_text|>", "<|end_of_text|>", stops=("<|eot_id|>",)),
        Family("mistral_v1"),
        Family("mistral_v3"),
        Family("smollm2", "<|im_start|>", "<|im_end|>"),
        Family("zephyr"),
        Family("qwen2", "<|endoftext|>", "<|im_end|>"),
        Family("qwen2_5", "<|endoftext|>", "<|im_end|>"),
        Family("qwen3", "<|endoftext|>", "<|im_end|>", thinking_key="reasoning_content"),
        Family("qwen3_instruct_2507", "<|endoftext|>", "<|im_end|>"),
        Family("qwen3_5_think", "<|endoftext|>", "<|im_end|>", thinking_key="reasoning_content"),
        Family("gemma", "<bos>", "<eos>", stops=("<end_of_turn>",)),
        Family("gemma3", "<bos>", "<eos>", stops=("<end_of_turn>",)),
        Family("phi3", "<s>", "<|endoftext|>", stops=("<|end|>",)),
        Family("phi3_5", "<s>", "<|endoftext|>", stops=("<|end|>",)),
        Family("gptoss", "<|startoftext|>", "<|return|>", thinking_key="thinking", stops=("<|call|>",)),
        Family("deepseekv3", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", arguments_as_text=True),
        Family(
            "deepseek_r1_distill",
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            arguments_as_text=True,
            no_content=None,
            stops=("<｜tool▁call▁end｜>",),
        ),
        Family("cohere", "<BOS>", "<|END_OF_TURN_TOKEN|>"),
        Family("cohere2", "<BOS>", "<|END_OF_TURN_TOKEN|>"),
        Family("glm4moe", "<|endoftext|>", "<|endoftext|>", thinking_key="reasoning_content"),
        Family("lfm2_v2", "<|startoftext|>", "<|im_end|>"),
        Family("nemotron_3_nano", "<s>", "<|im_end|>", thinking_key="reasoning_content"),
    )
}


def template_text(name: str) -> str:
    """A template by name: from this repository, else from the installed TRL (which is not imported for it)."""
    if (_OWN / f"{name}.jinja").is_file():
        return (_OWN / f"{name}.jinja").read_text(encoding="utf-8").removesuffix("\n")
    found = importlib.util.find_spec("trl")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def trained_bpe() -> str:
    """A byte-level BPE of a few hundred merges, so that tokens span spaces and words, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_CORPUS] * 4, trainer)
    return str(tokenizer.to_str())


def write_model(
    folder: Path, template: str | None, bos: str | None = "<s>", eos: str | None = "</s>", **config: Any
) -> Path:
    """A folder with tokenizer and template only; the template's special tokens are the tokenizer's."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_str(trained_bpe())
    tokens = sorted({*_SPECIAL.findall(template or ""), *filter(None, (bos, eos))})
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": bos, "eos_token": eos, "chat_template": template}
    content = {key: value for key, value in {**named, **config}.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def load(folder: Path, choice: str | None = None, date: str = "2026-01-02") -> tuple[Tokenizer, Template]:
    """Tokenizer and template of a folder."""
    tokenizer = load_tokenizer(folder)
    return tokenizer, load_template(folder, tokenizer, choice, date)


def visible(tokenizer: Tokenizer, ids: list[int], trained: list[bool]) -> str:
    """The decoded text with «…» around each run of trained tokens."""
    runs: list[tuple[bool, list[int]]] = []
    for token, learned in zip(ids, trained, strict=True):
        if not runs or runs[-1][0] != learned:
            runs.append((learned, []))
        runs[-1][1].append(token)
    texts = [(learned, tokenizer.decode(tokens, skip_special_tokens=False)) for learned, tokens in runs]
    return "".join(f"«{text}»" if learned else text for learned, text in texts)


def seen(tokenizer: Tokenizer, encoded: Encoded) -> str:
    """The row as the trainer sees it."""
    return visible(tokenizer, encoded.input_ids, [label != -100 for label in encoded.labels])


def user(text: str) -> dict[str, Any]:
    """A user message."""
    return {"role": "user", "content": text}


def assistant(text: str | None = None, **more: Any) -> dict[str, Any]:
    """An assistant message; without text it has no content."""
    return {"role": "assistant", **({} if text is None else {"content": text}), **more}


def system(text: str) -> dict[str, Any]:
    """A system message."""
    return {"role": "system", "content": text}


def call(name: str, arguments: dict[str, Any], identity: str = "abcdefghi") -> dict[str, Any]:
    """One tool call."""
    return {"type": "function", "id": identity, "function": {"name": name, "arguments": arguments}}


def result(text: str, name: str = "weather", identity: str = "abcdefghi") -> dict[str, Any]:
    """What a tool answered."""
    return {"role": "tool", "name": name, "tool_call_id": identity, "content": text}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Which city."}},
            "required": ["city"],
        },
    },
}
