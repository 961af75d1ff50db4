"""What a reference means, and an engine that answers messages with the template of training.

Text becomes ids, and ids text, on this side, by the encoder that also made the training data; the worker `generate`
sees ids alone. So what was trained is what is served.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from finetui.bundles.folder import read_lock
from finetui.chat.said import Answer, Message
from finetui.chat.settings import Sampling
from finetui.chat.who import BASE, TUNED
from finetui.core import jobs
from finetui.core.encode import Template, encode_prompt, load_template, load_tokenizer
from finetui.core.jobs import Progress
from finetui.merging import bundle_of, find_base, find_subject, quantization_of
from finetui.models.adapter import CONFIG as ADAPTER_CONFIG
from finetui.models.find import find_model
from finetui.models.merged import Quantization
from finetui.runs.folder import RunFolder, find_run

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_RUN_NAME = re.compile(r"last|\d{1,8}|\d{8}-.*")
_BROKEN = "\ufffd"
_BYTES_OF_A_PART = 3


@dataclass(frozen=True)
class Served:
    """What a chat loads."""

    name: str
    """What to call a model that is served alone."""
    model: Path
    """Folder of the base model, or of a whole tuned model."""
    adapter: Path | None
    """Folder of the adapter, or None where the model is served as it is."""
    template: Template
    """How messages become ids: that of the bundle for a run, else the model's own."""
    trained_as: Quantization | None = None
    """How the base was packed while the adapter was trained; it is served unpacked, as a merge would have it."""

    @property
    def default(self) -> str:
        """The variant that answers where none is asked for."""
        return TUNED if self.adapter else BASE


def resolve(reference: str, model: str | None = None, on_progress: Progress | None = None) -> Served:
    """What RUN, ADAPTER or MODEL means; `model` names the base where it is not found by itself.

    Raises FinetuiError where the reference, its base or its template cannot be had, or the base is another one.
    """
    if not _is_adapter(reference):
        folder = find_model(reference, on_progress)
        return Served(folder.resolve().name, folder, None, load_template(folder, load_tokenizer(folder)))
    if run := _run_of_model(reference):
        lock = read_lock(bundle_of(run))
        return Served(run.name, run.output, None, Template.from_json(lock["template"]))
    subject = find_subject(reference)
    base = find_base(subject, model, on_progress)
    place = subject.adapter.resolve()
    if subject.lock:
        template = Template.from_json(subject.lock["template"])
        return Served(subject.name, base, place, template, quantization_of(subject.lock))
    return Served(subject.name, base, place, load_template(base, load_tokenizer(base)))


class ChatEngine:
    """A loaded model that answers, in a worker that lives as long as this context."""

    def __init__(
        self,
        served: Served,
        *,
        python: str | None = None,
        gpus: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.served = served
        self._on_progress = on_progress
        self.tokenizer = load_tokenizer(served.model)
        self._session = jobs.Session("generate", python=python, gpus=gpus)

    def __enter__(self) -> Self:
        """Load the model.

        Raises FinetuiError where it cannot be loaded.
        """
        try:
            adapter = self.served.adapter
            self._session.ask(
                {
                    "op": "load",
                    "model": str(self.served.model.absolute()),
                    "adapter": str(adapter.absolute()) if adapter else None,
                },
                self._on_progress,
            )
        except BaseException:
            self._session.kill()  # it may be in the middle of reading weights
            self._session.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def add(self, adapter: Path) -> None:
        """Put another adapter on the same base; its folder is then a variant.

        Raises FinetuiError where it cannot be loaded.
        """
        self._session.ask({"op": "adapter", "adapter": str(adapter.absolute())})

    def alive(self) -> bool:
        """Whether the worker lives."""
        return self._session.alive()

    def kill(self) -> None:
        """End the worker at once, whatever it does: who waits for it gets the error of one that died. For any thread.

        The engine is still to be left as a context.
        """
        self._session.kill()

    def ask(
        self,
        messages: Sequence[Message],
        variant: str | None = None,
        sampling: Sampling | None = None,
        on_text: Callable[[str], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Answer one conversation as `base`, `tuned`, or by the folder of an adapter that was added.

        `on_text` gets the words as they come, always whole characters. `stopped` is asked once the question is on its
        way: a `stop` that came earlier than that had nothing to end.
        Raises EncodeError where the template refuses the messages.
        """
        stream = TextStream(self.tokenizer)

        def show(message: Mapping[str, Any]) -> None:
            if on_text and message.get("stage") == "token" and (text := stream.push(message["ids"])):
                on_text(text)

        answer = self._generate([messages], variant, sampling or Sampling(), 1, show, stopped)[0]
        if on_text and (rest := stream.finish()):
            on_text(rest)
        return answer

    def ask_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        variant: str | None = None,
        sampling: Sampling | None = None,
        *,
        batch_size: int = 32,
        on_progress: Progress | None = None,
    ) -> list[Answer]:
        """Answer many conversations, some at a time; `on_progress` gets `done` of `total`.

        Raises EncodeError where the template refuses one of them.
        """
        return self._generate(conversations, variant, sampling or Sampling(), batch_size, on_progress)

    def stop(self) -> None:
        """End the answer under way; it comes back `cancelled`. For signal handlers and other threads too."""
        self._session.send({"op": "stop"})

    def _generate(
        self,
        conversations: Sequence[Sequence[Message]],
        variant: str | None,
        sampling: Sampling,
        batch_size: int,
        on_progress: Progress | None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> list[Answer]:
        template = self.served.template
        request = {
            "op": "generate",
            "prompts": [encode_prompt(messages, self.tokenizer, template) for messages in conversations],
            "variant": variant or self.served.default,
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop_ids": list(template.stop_ids),
            "pad_id": template.pad_id,
            "batch_size": batch_size,
        }
        self._session.send(request)
        if stopped():
            self.stop()
        made: list[dict[str, Any]] = []
        for message in self._session.receive():
            if message["type"] == "result":
                made = message["result"]["answers"]
            elif on_progress is not None:
                on_progress(message)
        return [
            Answer(
                decode(self.tokenizer, one["ids"]),
                one["stop_reason"],
                one["tokens"],
                one["seconds"],
                (*one["ids"], *one["stop_ids"]),
            )
            for one in made
        ]


class TextStream:
    """Tokens to text as they come: a character whose bytes are not all there yet waits for them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context = 0
        self._shown = 0

    def push(self, ids: Sequence[int]) -> str:
        """The text that these tokens complete; may be empty."""
        self._ids += ids
        text = self._new_text()
        broken = len(text) - len(text.rstrip(_BROKEN))
        return "" if 0 < broken <= _BYTES_OF_A_PART else self._advance(text)

    def finish(self) -> str:
        """What is left at the end, broken or not."""
        return self._advance(self._new_text())

    def _new_text(self) -> str:
        """Decoded together with the tokens before them, since some decoders join or strip at the edge."""
        before = decode(self._tokenizer, self._ids[self._context : self._shown])
        return decode(self._tokenizer, self._ids[self._context :])[len(before) :]

    def _advance(self, text: str) -> str:
        self._context, self._shown = self._shown, len(self._ids)
        return text


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of the ids, special tokens shown: a model that says them is to be seen saying them."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def _is_adapter(reference: str) -> bool:
    """Whether a run or an adapter is meant, and not a model."""
    path = Path(reference).expanduser()
    if path.exists():
        return (path / ADAPTER_CONFIG).is_file() or RunFolder(path.absolute()).exists()
    return _RUN_NAME.fullmatch(reference) is not None


def _run_of_model(reference: str) -> RunFolder | None:
    """The run that is meant, where what it made is a whole model."""
    if (Path(reference).expanduser() / ADAPTER_CONFIG).is_file():
        return None
    run = find_run(reference)
    return run if run.holds_model() else None
