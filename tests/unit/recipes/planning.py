"""What plans are made of in tests: models by configuration, machines, rows of stated lengths, whole requests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.core.errors import FinetuiError
from finetui.core.knobs import parse_assignments
from finetui.data.profile.lengths import Lengths
from finetui.hardware.planned import parse_planned, planned_machine
from finetui.hardware.probe import Machine
from finetui.models.outline import Outline, outline
from finetui.recipes.recipe import Recipe, load_recipe
from finetui.recipes.resolve import Plan, Request, Tokens, resolve

GIB = 1 << 30
HERE = Machine("GenuineIntel", "Xeon", "avx2", cores=8, physical_cores=4, ram_bytes=64 * GIB)
"""A machine without a GPU."""
QWEN7B: Mapping[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
"""Qwen2.5-7B: 7 615 616 512 weights."""
QWEN14B: Mapping[str, Any] = {
    **QWEN7B,
    "hidden_size": 5120,
    "intermediate_size": 13696,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
"""Qwen1.5-14B."""
QWEN1B8: Mapping[str, Any] = {
    **QWEN7B,
    "hidden_size": 2048,
    "intermediate_size": 5504,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 151936,
}
"""Qwen1.5-1.8B."""
LLAMA13B: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
"""Llama-2-13B."""


def put(folder: Path, config: Mapping[str, Any]) -> Path:
    """A model folder with nothing in it but its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def shaped(folder: Path, config: Mapping[str, Any] = QWEN7B, **changed: Any) -> Outline:
    """The outline of such a folder."""
    return outline(put(folder, {**config, **changed}))


def machine(gpus: str | None) -> Machine:
    """`KIND[:N]`, or a machine without a GPU."""
    return HERE if gpus is None else planned_machine(*parse_planned(gpus), HERE)


def lengths(rows: Iterable[int], trained: int | None = None) -> Lengths:
    """Rows of so many tokens, of which the last `trained` are learned; without it, all but ten."""
    found = Lengths()
    for tokens in rows:
        learned = min(tokens - 1, max(1, tokens - 10) if trained is None else trained)
        found.add(tokens, [(tokens - learned, tokens)])
    return found


def tokens(rows: Iterable[int], *, held: Iterable[int] = (), trained: int | None = None) -> Tokens:
    """A dataset of such rows."""
    train, kept = lengths(rows, trained), lengths(held)
    longest = max(train.longest, kept.longest)
    return Tokens(train=train, rows=train.rows, held=kept, held_rows=kept.rows, longest=longest)


def recipe(text: str, folder: Path) -> Recipe:
    """A recipe of its own, from the TOML below its header's lines."""
    path = folder / "mine.toml"
    path.write_text(text)
    return load_recipe(str(path))


def request(model: Outline, named: str | Recipe, *assignments: str, gpus: str | None = None, **others: Any) -> Request:
    """A request for this model by a recipe on a machine."""
    made = Request(
        recipe=load_recipe(named) if isinstance(named, str) else named,
        overrides=parse_assignments(assignments),
        model=model,
        machine=machine(gpus),
        packages={"bitsandbytes": "0.48"},
    )
    return replace(made, **others)


def planned(model: Outline, named: str | Recipe, *assignments: str, gpus: str | None = None, **others: Any) -> Plan:
    """The plan of such a request."""
    return resolve(request(model, named, *assignments, gpus=gpus, **others))


def value(plan: Plan, knob: str) -> Any:
    """The value of a knob."""
    return plan.settings[knob]


def why(plan: Plan, knob: str) -> str:
    """Its reason."""
    return plan.settings.choices[knob].reason


def told(made: Request) -> dict[str, str]:
    """Every rule that a request breaks, by its code, with what it says; refusals and warnings."""
    try:
        plan = resolve(made)
    except FinetuiError as error:
        problems = error.problems
    else:
        problems = (*plan.untrained, *plan.warnings)
    return {problem.code: problem.message("en") for problem in problems}
