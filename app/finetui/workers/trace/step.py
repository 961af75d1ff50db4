"""One optimizer step as the trainer takes it, with every storage counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from finetui.workers.trace import optimizer
from finetui.workers.trace.device import Device
from finetui.workers.trace.model import DTYPES, layers_of
from finetui.workers.trace.storages import Peak, Storages


def take(model: torch.nn.Module, job: Mapping[str, Any], device: str, accumulates: bool = False) -> dict[str, Peak]:
    """The peaks of a step's moments: forward and backward layer by layer, loss, optimizer, evaluation.

    `accumulates`: the gradients of an earlier micro batch are there already.
    """
    base = model.get_base_model() if job["method"] == "lora" else model
    head = base.get_output_embeddings()
    counted = Storages("meta", head.weight.shape[0])
    counted.enter("set-up")
    adopt(model, counted)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if job["checkpointing"]:
        options = {
            "use_reentrant": False,
            "preserve_rng_state": False,
            "context_fn": lambda: (nullcontext(), _computing(job, device)),
        }
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    model.train()
    with counted:
        counted.part = "gradients"
        reduced = [torch.empty_like(one) for one in trained] if job["world_size"] > 1 else []  # DDP's buckets
        counted.part = "optimizer"
        stepper = optimizer.make(job["optimizer"], trained, device)
        _make_states(stepper, trained)
        if accumulates:
            counted.part = "gradients"
            _fill_gradients(trained)
        counted.part = "activations"
        with _watched(layers_of(base), trained, counted):
            counted.enter("forward")
            loss = _loss(model, head, job, device)
            loss.backward()
        del loss
        counted.enter("optimizer")
        counted.part = "optimizer"
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        stepper.step()
        stepper.zero_grad()
        counted.part = "activations"
        if job["eval_batch"]:
            counted.enter("evaluation")
            _evaluate(model, head, job, device)
        del reduced, stepper
    return {moment: peak for moment, peak in counted.peaks.items() if moment != "set-up"}


def _computing(job: Mapping[str, Any], device: str) -> Device:
    in_16_bits = job["method"] == "full" and not job["master_weights"]  # the trainer then needs no autocast
    mixed = job["dtype"] != "float32" and not in_16_bits
    return Device(device, DTYPES[job["dtype"]] if mixed else None, job["packed"])


def adopt(model: torch.nn.Module, counted: Storages) -> None:
    """Count the tensors of a model: those of an adapter apart from the weights that it stands beside."""
    for tensor in model.buffers():
        counted.adopt(tensor, "weights")
    for name, parameter in model.named_parameters():
        own = parameter.requires_grad and ("lora_" in name or "modules_to_save" in name)
        counted.adopt(parameter, "adapter" if own else "weights")


def _make_states(stepper: torch.optim.Optimizer, trained: list[torch.nn.Parameter]) -> None:
    """Let the optimizer step once, so that it has its states, as it has in every step but the first."""
    _fill_gradients(trained)
    stepper.step()
    stepper.zero_grad()


def _fill_gradients(trained: list[torch.nn.Parameter]) -> None:
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)


def _loss(model: torch.nn.Module, head: torch.nn.Module, job: Mapping[str, Any], device: str) -> torch.Tensor:
    rows, tokens = job["rows"], job["tokens"]
    count = rows * tokens if job["trained_tokens"] is None else min(rows * tokens, job["trained_tokens"])
    return _loss_of(model, head, rows, tokens, count, _computing(job, device), job["packed"])


def _evaluate(model: torch.nn.Module, head: torch.nn.Module, job: Mapping[str, Any], device: str) -> None:
    tokens = job["eval_tokens"] or job["tokens"]
    positions = job["eval_batch"] * tokens
    share = 1.0
    if job["trained_tokens"] is not None:
        share = min(1.0, job["trained_tokens"] / (job["rows"] * job["tokens"]))
    model.eval()
    with torch.no_grad():
        _loss_of(model, head, job["eval_batch"], tokens, int(positions * share), _computing(job, device), False)


def _loss_of(
    model: torch.nn.Module, head: torch.nn.Module, rows: int, tokens: int, count: int, computing: Device, packed: bool
) -> torch.Tensor:
    """The sum of the cross entropy at `count` positions, logits in float32 as accelerate hands them back."""
    ids = torch.empty(rows, tokens, dtype=torch.long, device="meta")
    positions, targets = (torch.empty(count, dtype=torch.long, device="meta") for _ in range(2))
    extra = {"position_ids": torch.empty(rows, tokens, dtype=torch.long, device="meta")} if packed else {}
    with computing, only(head, positions):
        logits = model(input_ids=ids, use_cache=False, **extra).logits
    logits = logits.float().flatten(0, -2)
    return cross_entropy(logits, targets, reduction="sum") / count


@contextmanager
def only(head: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Within it, logits are made for these positions of the flattened batch alone, as the trainer makes them."""

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, positions).unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _watched(layers: torch.nn.ModuleList, trained: list[torch.nn.Parameter], counted: Storages) -> Iterator[None]:
    """Within it, moments change with the layer at work, forward and back, and gradients are known as such."""
    backward: list[int] = []

    def begins(layer: int) -> None:
        if not backward:  # what is computed again belongs to the way back
            counted.enter(f"forward:{layer}")

    def ends(layer: int, made: Any) -> None:
        if backward:
            return
        if layer == len(layers) - 1:
            counted.enter("loss")
        hidden = made[0] if isinstance(made, tuple) else made
        if hidden.requires_grad:
            hidden.register_hook(lambda _: returns(layer))

    def returns(layer: int) -> None:
        backward.append(layer)
        counted.enter(f"backward:{layer}")

    handles = [parameter.register_post_accumulate_grad_hook(_found(counted)) for parameter in trained]
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(lambda *_, number=number: begins(number)))
        handles.append(layer.register_forward_hook(lambda _, __, made, number=number: ends(number, made)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _found(counted: Storages) -> Callable[[torch.Tensor], None]:
    return lambda parameter: counted.adopt(parameter.grad, "gradients")
