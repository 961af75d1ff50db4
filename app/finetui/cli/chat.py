"""`finetui chat`: ask a run, an adapter or a model, once or line by line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from finetui.cli.common import GpuList, Output, command, option
from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.messages import t
from finetui.core.text import one_line, safe_text

if TYPE_CHECKING:
    from finetui.chat.engine import ChatEngine, Served
    from finetui.chat.said import Answer


@command("chat")
@click.argument("reference", metavar="RUN|ADAPTER|MODEL")
@option("--prompt", "prompts", multiple=True, metavar="TEXT", help_code="chat.opt-prompt")
@option("--compare", is_flag=True, help_code="chat.opt-compare")
@option("--model", metavar="BASE", help_code="chat.opt-model")
@option("--system", metavar="TEXT", help_code="chat.opt-system")
@option("--temperature", type=float, default=0.0, show_default=True, help_code="chat.opt-temperature")
@option("--top-p", type=float, default=1.0, show_default=True, help_code="chat.opt-top-p")
@option("--max-new-tokens", type=int, default=256, show_default=True, help_code="chat.opt-max-new-tokens")
@option("--seed", type=int, default=42, show_default=True, help_code="chat.opt-seed")
@option("--python", metavar="PYTHON", help_code="cli.opt-python")
@option("--gpus", type=GpuList(), metavar="LIST", help_code="cli.opt-gpus")
def chat_command(
    output: Output,
    reference: str,
    prompts: tuple[str, ...],
    compare: bool,
    model: str | None,
    system: str | None,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    seed: int,
    python: str | None,
    gpus: str | None,
) -> None:
    """Answer the prompts, or the lines that come, with the model that the reference means."""
    from finetui.chat.engine import ChatEngine, resolve
    from finetui.chat.settings import checked
    from finetui.cli.chat_lines import Lines

    sampling = checked(
        {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "seed": seed},
    )
    prompts, system = tuple(map(_whole, prompts)), system and _whole(system)
    served = resolve(reference, model)
    if compare and served.adapter is None:
        raise FinetuiError(Problem("chat.nothing-to-compare", {"name": served.name}), USAGE)
    announce(output, served)
    with ChatEngine(served, python=python, gpus=gpus) as engine:
        if prompts:
            answers = _ask_all(output, engine, prompts, system, variants(served, compare), sampling)
        else:
            answers = Lines(output, engine, sampling, system, compare).live()
    output.result({"answers": answers})


def announce(output: Output, served: Served) -> None:
    """Say who is being loaded."""
    output.note(t("chat.loading", name=served.name))
    if served.trained_as is not None:
        output.note(t("chat.original-base", base=served.model.name, type=served.trained_as.type))


def variants(served: Served, compare: bool) -> list[str]:
    """Who answers, in order."""
    from finetui.chat.who import BASE, TUNED

    return [BASE, TUNED] if compare else [served.default]


def answer_json(served: Served, variant: str, answer: Answer) -> dict[str, Any]:
    """One answer as the contract has it; a model that is served alone goes by its name."""
    return {
        "model": variant if served.adapter else one_line(served.name),
        "text": answer.text,
        "tokens": answer.tokens,
        "stop_reason": answer.stop_reason,
        "tokens_per_second": round(answer.tokens_per_second, 2),
    }


def speaker(served: Served, variant: str) -> str:
    """Who speaks, as a label before an answer."""
    return t("chat.speaker", name=t(f"chat.{variant}") if served.adapter else served.name)


def remark(answer: Answer) -> str:
    """What is to be said of an answer that did not stop by itself; empty where it did."""
    match answer.stop_reason:
        case "length":
            return t("chat.cut", tokens=answer.tokens)
        case "cancelled":
            return t("chat.cancelled")
        case _:
            return ""


def _ask_all(
    output: Output,
    engine: ChatEngine,
    prompts: Sequence[str],
    system: str | None,
    who: Sequence[str],
    sampling: Any,
) -> list[dict[str, Any]]:
    from finetui.chat.said import conversation

    conversations = [conversation(prompt, system) for prompt in prompts]
    by_variant = [engine.ask_batch(conversations, variant, sampling) for variant in who]
    found = []
    for number, prompt in enumerate(prompts):
        if len(prompts) > 1:
            output.data(t("chat.asked", text=prompt))
        for variant, answers in zip(who, by_variant, strict=True):
            answer = answers[number]
            label = speaker(engine.served, variant) if len(who) > 1 else ""
            output.data(f"{label}{safe_text(answer.text)}")
            if said := remark(answer):
                output.note(said)
            found.append(answer_json(engine.served, variant, answer))
    return found


def _whole(text: str) -> str:
    """Words of the command line with what is no UTF-8 in them replaced: no tokenizer takes half characters."""
    return os.fsencode(text).decode("utf-8", "replace")
