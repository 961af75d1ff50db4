"""The launch line on top of every shipped recipe is a command that runs, on the machine that it names."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from finetui.cli.main import COMMANDS, run
from finetui.recipes.recipe import catalogue, load_recipe

pytestmark = pytest.mark.unit


def shape(
    kind: str, hidden: int, inner: int, layers: int, heads: int, key_heads: int, vocabulary: int
) -> dict[str, Any]:
    """A config.json as hubs have it."""
    return {
        "architectures": [{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[kind]],
        "model_type": kind,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


MODELS = {
    "qwen1.5-14b": shape("qwen2", 5120, 13696, 40, 40, 40, 152064),
    "Qwen2-7B-Instruct": shape("qwen2", 3584, 18944, 28, 28, 4, 152064),
    "Llama-2-13b-hf": shape("llama", 5120, 13824, 40, 40, 40, 32000),
    "Yi-34B": shape("llama", 7168, 20480, 60, 56, 8, 64000),
    "Llama-2-70b-hf": shape("llama", 8192, 28672, 80, 64, 8, 32000),
    "Qwen-1_8B-Chat": {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "kv_channels": 128,
        "vocab_size": 151936,
        "seq_length": 8192,
        "bf16": True,
        "no_bias": True,
    },
}
MEANT_FOR = {
    "qlora-3090": ("Llama-2-13b-hf", "rtx3090"),
    "qlora-3090x2": ("Yi-34B", "rtx3090:2"),
    "qlora-a100x4": ("Llama-2-70b-hf", "a100-80g:4"),
    "full-a100x4": ("Llama-2-13b-hf", "a100-80g:4"),
    "lora-a100x4": ("qwen1.5-14b", "a100-80g:4"),
    "kto-lora": ("Qwen2-7B-Instruct", "a100-40g"),
    "journey-2": ("Qwen2-7B-Instruct", "rtx3090:2"),
}
"""The largest model that a recipe speaks of, and its machine; the others are tried with 7 B on one RTX 3090."""
TIGHT = {"journey-1-full"}
"""What its author ran, and what is predicted to be just too large."""
WORDS = ["the", "old", "harbour", "opens", "at", "seven", "and", "closes", "when", "the", "last", "boat", "is", "in"]


def rows(stage: str) -> list[dict[str, Any]]:
    said = [" ".join(WORDS[: 3 + n % 9] * (1 + n % 20)) for n in range(120)]
    match stage:
        case "dpo" | "reward":
            return [{"prompt": text[:40], "chosen": text, "rejected": f"{n} {text}"} for n, text in enumerate(said)]
        case "kto":
            return [{"prompt": f"{n}?", "completion": text, "label": n % 2 == 0} for n, text in enumerate(said)]
        case "pt":
            return [{"text": f"{n} {text}"} for n, text in enumerate(said)]
        case _:
            return [{"instruction": f"{n}?", "input": "", "output": text} for n, text in enumerate(said)]


def lines(name: str, verb: str) -> list[list[str]]:
    comments = load_recipe(name).text.split("\n\n")[0].splitlines()
    said = [line.strip("# ").split(" && ") for line in comments if line.startswith("#   finetui ")]
    commands = [shlex.split(command) for line in said for command in line]
    assert all(words[0] == "finetui" for words in commands)
    return [words[1:] for words in commands if words[1] == verb]


@pytest.mark.parametrize("name", [name for name in catalogue() if name != "cpu-demo"])
def test_every_recipe_is_planned_by_its_own_line(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, config in MODELS.items():
        (home / "models" / model).mkdir(parents=True)
        (home / "models" / model / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    model, gpu = MEANT_FOR.get(name, ("Qwen2-7B-Instruct", "rtx3090"))
    (line,) = lines(name, "plan")
    data = [line[n + 1] for n, word in enumerate(line) if word == "--data"]
    for file in data:
        written = rows(load_recipe(name).stage)
        is_list = file.endswith(".json")
        Path(file).write_text(json.dumps(written) if is_list else "\n".join(json.dumps(row) for row in written))
    line = [model if word == "MODEL" else word for word in line]
    line += [] if "--gpu" in line else ["--gpu", gpu]
    status = run([*line, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told.get("errors") is None, told
    assert status == (0 if told["fits"] else 5)
    assert told["fits"] or (name in TIGHT and len(told["ways_out"]) == 3)


@pytest.mark.parametrize("name", catalogue())
def test_no_launch_line_has_a_flag_that_there_is_not(name: str) -> None:
    for verb in COMMANDS:
        for _, *words in lines(name, verb):
            command: click.Command = getattr(
                importlib.import_module(f"finetui.cli.{COMMANDS[verb]}"), f"{verb}_command"
            )
            command.make_context(verb, list(words))
