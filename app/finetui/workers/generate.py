"""The chat engine: keeps one model loaded and answers token ids with token ids, as base or tuned, until told to stop.

Requests are `{"op":"load","model","adapter"}`, `{"op":"adapter","adapter"}` for one more on the same base,
`{"op":"generate","prompts","variant",…}` and `{"op":"stop"}`; the last is read by a thread of its own while an answer
is under way, and ends it after the token being made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from finetui.core.errors import JOB_FAILED, MACHINE, FinetuiError, Problem
from finetui.core.worker_io import answer, open_wire, progress, requests

Request = dict[str, Any]
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_FLOAT32_GROWTH = 2.5
"""16-bit weights doubled, and some room to compute."""


class Inbox:
    """Requests in order, and which of them have been stopped."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Request | None] = SimpleQueue()
        self._read = 0
        self._taken = 0
        self._stopped_to = 0
        threading.Thread(target=self._fill, daemon=True).start()

    def next(self) -> Request | None:
        """The next request; None at the end of input."""
        request = self._queue.get()
        self._taken += 1
        return request

    def stopped(self) -> bool:
        """Whether the request last taken was stopped. A stop never reaches a request that came after it."""
        return self._taken <= self._stopped_to

    def _fill(self) -> None:
        for request in requests():
            if request["op"] == "stop":
                self._stopped_to = self._read
            else:
                self._read += 1
                self._queue.put(request)
        self._stopped_to = self._read
        self._queue.put(None)


class Engine:
    """One model, with or without an adapter on it."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._model: Any = None
        self._adapters: dict[str, str] = {}

    def handle(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        match request["op"]:
            case "load":
                return self._load(request)
            case "adapter":
                return self._add(request["adapter"])
            case _:
                return self._generate(request)

    def _load(self, request: Request) -> dict[str, Any]:
        progress(stage="libraries")
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, GenerationConfig

        started = time.perf_counter()
        _tell_of_weights()
        cuda = torch.cuda.is_available()
        try:
            model = AutoModelForCausalLM.from_pretrained(
                request["model"],
                dtype="auto" if cuda else _cpu_dtype(Path(request["model"])),
                device_map="auto" if cuda else None,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
            )
            if adapter := request.get("adapter"):
                model = _with_adapter(model, Path(adapter))
        except torch.OutOfMemoryError as error:
            raise FinetuiError(Problem("chat.no-memory", {"model": request["model"]}), MACHINE) from error
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            facts = {"model": request["model"], "detail": _first_line(error)}
            raise FinetuiError(Problem("chat.not-loaded", facts), JOB_FAILED) from error
        (model.base_model.model if adapter else model).generation_config = GenerationConfig()  # only what is asked
        self._model, self._adapters = model.eval(), {"tuned": "default"} if adapter else {}
        dtype = str(model.dtype).removeprefix("torch.")
        return {"device": model.device.type, "dtype": dtype, "seconds": time.perf_counter() - started}

    def _add(self, adapter: str) -> dict[str, Any]:
        """Load one more adapter; its folder is the variant's name."""
        import torch
        from safetensors import SafetensorError

        if adapter not in self._adapters:
            name = f"adapter-{len(self._adapters)}"
            _check_adapter(Path(adapter))
            try:
                self._model.load_adapter(adapter, name, local_files_only=True)
            except torch.OutOfMemoryError as error:
                raise FinetuiError(Problem("chat.no-memory", {"model": adapter}), MACHINE) from error
            except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
                facts = {"model": adapter, "detail": _first_line(error)}
                raise FinetuiError(Problem("chat.not-loaded", facts), JOB_FAILED) from error
            self._adapters[adapter] = name
            self._model.eval()
        return {}

    def _generate(self, request: Request) -> dict[str, Any]:
        """Answers in the order of the prompts, made in batches of prompts that are alike in length."""
        import torch

        torch.manual_seed(request.get("seed") or 0)
        prompts: list[list[int]] = request["prompts"]
        size = request.get("batch_size") or len(prompts)
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        answers: dict[int, dict[str, Any]] = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            made = self._batch([prompts[index] for index in batch], request, stream=len(prompts) == 1)
            answers.update(zip(batch, made, strict=True))
            progress(stage="generate", done=len(answers), total=len(prompts))
        return {"answers": [answers[index] for index in range(len(prompts))]}

    def _batch(self, prompts: list[list[int]], request: Request, *, stream: bool) -> list[dict[str, Any]]:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        started = time.perf_counter()
        stop_ids: list[int] = request["stop_ids"]
        pad_id = request.get("pad_id")
        width = max(map(len, prompts))
        padding = [[0] * (width - len(prompt)) for prompt in prompts]
        pad = pad_id if pad_id is not None else (stop_ids or [0])[0]
        ids = [[pad] * len(left) + prompt for left, prompt in zip(padding, prompts, strict=True)]
        mask = [left + [1] * len(prompt) for left, prompt in zip(padding, prompts, strict=True)]
        temperature = request.get("temperature") or 0.0
        sampling = {"temperature": temperature, "top_p": request.get("top_p") or 1.0, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=request["max_new_tokens"],
            eos_token_id=stop_ids or None,
            pad_token_id=pad,
            do_sample=temperature > 0,
            **(sampling if temperature > 0 else {}),
        )
        watch = _watch_type()(self._inbox, width, set(stop_ids) if stream else None)
        device = self._model.device
        with torch.inference_mode(), self._as(request["variant"]):
            out = self._model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        seconds = time.perf_counter() - started
        return [_answer(row, set(stop_ids), self._inbox.stopped(), seconds) for row in out[:, width:].tolist()]

    def _as(self, variant: str) -> AbstractContextManager[Any]:
        """The model as this variant within the context."""
        if name := self._adapters.get(variant):
            self._model.set_adapter(name)
            return nullcontext()
        return self._model.disable_adapter() if self._adapters else nullcontext()


def _answer(row: list[int], stop_ids: set[int], stopped: bool, seconds: float) -> dict[str, Any]:
    """One answer: its ids, the stop token apart, and how many tokens were made, that one counted."""
    end = next((place for place, token in enumerate(row) if token in stop_ids), len(row))
    made, stop = row[:end], row[end : end + 1]
    reason = "stop" if stop else "cancelled" if stopped else "length"
    return {"ids": made, "stop_ids": stop, "stop_reason": reason, "tokens": len(made + stop), "seconds": seconds}


def _watch_type() -> type:
    import torch
    from transformers import StoppingCriteria

    class Watch(StoppingCriteria):
        """Called after every token: reports it where one prompt streams, and ends a stopped request."""

        def __init__(self, inbox: Inbox, seen: int, silent: set[int] | None) -> None:
            self._inbox, self._seen, self._silent = inbox, seen, silent

        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            """`input_ids`: [batch, seq] → [batch], true where an answer ends now."""
            if self._silent is not None:
                new = [token for token in input_ids[0, self._seen :].tolist() if token not in self._silent]
                self._seen = input_ids.shape[1]
                if new:
                    progress(stage="token", ids=new)
            return torch.full((len(input_ids),), self._inbox.stopped(), device=input_ids.device)

    return Watch


def _with_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    _check_adapter(adapter)
    return PeftModel.from_pretrained(model, str(adapter), local_files_only=True)


def _check_adapter(folder: Path) -> None:
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        raise FinetuiError(Problem("chat.not-safetensors", {"name": _ADAPTER_WEIGHTS}, str(folder)))


def _tell_of_weights() -> None:
    """Report each weight that transformers loads; releases that cannot be listened to load in silence."""
    from transformers.utils import logging

    def counted(items: Any) -> Iterator[Any]:
        for done, item in enumerate(items):
            progress(stage="weights", done=done, total=len(items))
            yield item

    def bar(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        listened = args and options.get("desc") == "Loading weights"
        return factory(counted(args[0]), *args[1:], **options) if listened else factory(*args, **options)

    if listen := getattr(logging, "set_tqdm_hook", None):
        listen(bar)


def _cpu_dtype(folder: Path) -> str:
    """float32 where it fits: most CPUs are slow in 16 bits, and it rounds nothing beyond the weights."""
    import psutil  # accelerate brings it

    weights_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    fits = _FLOAT32_GROWTH * weights_bytes < psutil.virtual_memory().available
    return "float32" if fits else "auto"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def main() -> None:
    """Answer requests until the end of input."""
    open_wire()
    inbox = Inbox()
    engine = Engine(inbox)
    while (request := inbox.next()) is not None:
        answer(engine.handle, request)


if __name__ == "__main__":
    main()
