"""Models that answer, in workers of their own, each loaded once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from finetui.chat.engine import ChatEngine, Served
from finetui.chat.said import Answer, Message
from finetui.chat.settings import Sampling
from finetui.chat.who import BASE, TUNED, Piece, Who
from finetui.core.encode import encode_prompt, pieces
from finetui.core.encode.encoded import Encoded


class EngineLane:
    """A worker with one model, and an adapter where there is one."""

    def __init__(self, engine: ChatEngine) -> None:
        self.engine = engine
        self.busy = threading.Lock()
        """Held while somebody waits for the worker."""

    def admit(self, served: Served, as_base: bool) -> str | None:
        """The variant by which the model that is loaded here answers as `served` does, or its base; None where not.

        Raises FinetuiError where another adapter has to be put on it, and cannot be.
        """
        mine = self.engine.served
        if (mine.model, mine.template) != (served.model, served.template):
            return None
        if as_base or mine.adapter == served.adapter:
            return BASE if as_base else TUNED
        if mine.adapter is None or served.adapter is None:
            return None
        with self.busy:
            self.engine.add(served.adapter)
        return str(served.adapter.absolute())

    def alive(self) -> bool:
        """Whether the worker lives."""
        return self.engine.alive()

    def kill(self) -> None:
        """End the worker at once: nothing in it is to be kept."""
        self.engine.kill()

    def close(self) -> None:
        """End the worker and wait for its end."""
        self.kill()
        with self.busy:
            self.engine.__exit__()


class EngineSpeaker:
    """A model in a worker, with its adapter or without."""

    def __init__(self, who: Who, lane: EngineLane, variant: str) -> None:
        self.who = who
        self.lane = lane
        self._engine = lane.engine
        self._variant = variant

    def ask(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        on_text: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Answer:
        """Answer with the template of training."""
        with self.lane.busy:
            return self._engine.ask(messages, self._variant, sampling, on_text, stopped)

    def stop(self) -> None:
        """End the answer after the token being made."""
        self._engine.stop()

    def raw(self, messages: Sequence[Message], answer: Answer | None) -> list[Piece]:
        """The tokens of prompt and answer, the stop token with them."""
        tokenizer, template = self._engine.tokenizer, self._engine.served.template
        special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        prompt = encode_prompt(messages, tokenizer, template)
        parts = [(prompt, False), (list(answer.ids) if answer else [], True)]
        return [
            Piece(text, token in special, answered)
            for ids, answered in parts
            for token, text in zip(ids, self._texts(ids), strict=True)
        ]

    def _texts(self, ids: list[int]) -> list[str]:
        tokenizer = self._engine.tokenizer
        text = tokenizer.decode(ids, skip_special_tokens=False)
        return pieces(Encoded(text, ids, [], ()), tokenizer)
