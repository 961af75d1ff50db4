"""The chat engine on a tiny model: what it says, how it streams, how it stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetui.chat.engine import ChatEngine, resolve
from finetui.chat.said import Answer, conversation
from finetui.chat.settings import Sampling
from finetui.chat.who import BASE, TUNED
from finetui.core.errors import FinetuiError
from finetui.core.jobs import Session

pytestmark = pytest.mark.worker

QUESTIONS = ("Hello", "What is the name of the place where you live?", "你好", "1")
FOREVER = 100_000


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with random weights, large enough to change every answer."""
    folder = tmp_path_factory.mktemp("adapter")
    random = np.random.default_rng(1)
    weights = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        weights[f"{name}.lora_A.weight"] = random.standard_normal((4, 64)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = random.standard_normal((64, 4)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(tiny_model)}))
    return folder


@pytest.fixture(scope="module")
def alone(tiny_model: Path) -> Iterator[ChatEngine]:
    """The base model by itself."""
    with ChatEngine(resolve(str(tiny_model))) as engine:
        yield engine


@pytest.fixture(scope="module")
def engine(adapter: Path) -> Iterator[ChatEngine]:
    """The base model with the adapter on it."""
    with ChatEngine(resolve(str(adapter))) as engine:
        yield engine


def texts(answers: list[Answer]) -> list[str]:
    """What was said."""
    return [answer.text for answer in answers]


def test_base_is_the_model_without_its_adapter(alone: ChatEngine, engine: ChatEngine) -> None:
    asked = [conversation(question) for question in QUESTIONS]
    sampling = Sampling(max_new_tokens=24)

    base = texts(engine.ask_batch(asked, BASE, sampling))

    assert base == texts(alone.ask_batch(asked, None, sampling))
    assert base != texts(engine.ask_batch(asked, TUNED, sampling))


def test_a_batch_says_what_each_prompt_gets_by_itself_in_the_order_asked(engine: ChatEngine) -> None:
    sampling = Sampling(max_new_tokens=16)
    asked = [conversation(question) for question in QUESTIONS]

    together = texts(engine.ask_batch(asked, TUNED, sampling, batch_size=3))

    assert together == [engine.ask(messages, TUNED, sampling).text for messages in asked]


def test_the_words_that_stream_are_the_answer(engine: ChatEngine) -> None:
    pieces: list[str] = []

    answer = engine.ask(conversation("Hello"), TUNED, Sampling(max_new_tokens=40), pieces.append)

    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert (answer.stop_reason, answer.tokens) == ("length", 40)


def test_a_seed_gives_the_same_chance_again(alone: ChatEngine) -> None:
    def say(seed: int) -> str:
        return alone.ask(conversation("Hello"), None, Sampling(20, temperature=1.0, top_p=0.9, seed=seed)).text

    assert say(1) == say(1)
    assert say(1) != say(2)


def test_stop_ends_the_answer_and_spares_the_next_one(engine: ChatEngine) -> None:
    answer = engine.ask(conversation("Hello"), TUNED, Sampling(FOREVER), lambda _: engine.stop())

    assert answer.stop_reason == "cancelled"
    assert 0 < answer.tokens < FOREVER
    engine.stop()
    assert engine.ask(conversation("Hello"), TUNED, Sampling(5)).stop_reason == "length"


def test_closing_ends_a_worker_in_the_middle_of_an_answer(tiny_model: Path) -> None:
    request = {"op": "generate", "prompts": [[1, 2]], "variant": BASE, "max_new_tokens": FOREVER, "stop_ids": []}
    with Session("generate") as session:
        session.ask({"op": "load", "model": str(tiny_model), "adapter": None})
        session.send(request)
        assert next(session.receive())["stage"] == "token"


def test_an_answer_ends_at_a_stop_token_which_is_not_part_of_it(tiny_model: Path) -> None:
    def generate(session: Session, stop_ids: list[int]) -> dict[str, Any]:
        request = {"op": "generate", "prompts": [[1, 2, 3]], "variant": BASE, "max_new_tokens": 12}
        answers = session.ask({**request, "stop_ids": stop_ids})["answers"]
        return {key: answers[0][key] for key in ("ids", "stop_reason", "tokens")}

    with Session("generate") as session:
        session.ask({"op": "load", "model": str(tiny_model), "adapter": None})
        free = generate(session, [])["ids"]
        last = free[-1]
        end = free.index(last)

        assert generate(session, [last]) == {"ids": free[:end], "stop_reason": "stop", "tokens": end + 1}


def test_a_pickled_adapter_is_refused_by_the_loader_itself(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")

    with Session("generate") as session, pytest.raises(FinetuiError) as caught:
        session.ask({"op": "load", "model": str(tiny_model), "adapter": str(tmp_path)})

    assert [problem.code for problem in caught.value.problems] == ["chat.not-safetensors"]


def test_weights_that_cannot_be_read_are_an_error_in_words(tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")

    with pytest.raises(FinetuiError) as caught, ChatEngine(resolve(str(tmp_path))):
        pass

    assert [problem.code for problem in caught.value.problems] == ["chat.not-loaded"]
