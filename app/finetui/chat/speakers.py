"""Models that answer, in workers of their own, each loaded once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from finetui.chat.endpoint import Endpoint
from finetui.chat.engine import Answer, ChatEngine, Message, Served, resolve
from finetui.chat.settings import Sampling
from finetui.chat.who import BASE, ENDPOINT, MODEL, TUNED, Lane, Piece, Speaker, Who
from finetui.core.encode import encode_prompt, pieces
from finetui.core.encode.encoded import Encoded
from finetui.core.jobs import Progress


class EngineLane:
    """A worker with one model, and an adapter where there is one."""

    def __init__(self, engine: ChatEngine) -> None:
        self.engine = engine
        self.busy = threading.Lock()
        """Held while somebody waits for the worker."""

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


class Company:
    """Those who answer, and the models that they have loaded: two who share one load it once."""

    def __init__(self, python: str | None = None, gpus: str | None = None) -> None:
        self._python = python
        self._gpus = gpus
        self._seating = threading.Lock()
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._closed = False

    def seat(self, who: Who, on_progress: Progress | None = None) -> Speaker:
        """Bring somebody in, one at a time: load the model where it is not here yet.

        Raises FinetuiError where it cannot be found or loaded, or the company was closed meanwhile.
        """
        with self._seating:
            if who.kind == ENDPOINT:
                endpoint = Endpoint(who)
                self._keep(endpoint)
                return endpoint
            served = resolve(who.reference, on_progress=on_progress)
            variant = BASE if who.kind in (BASE, MODEL) or served.adapter is None else TUNED
            for lane in self._lanes:
                if isinstance(lane, EngineLane) and lane.engine.served == served:
                    return EngineSpeaker(who, lane, variant)
            return EngineSpeaker(who, self._load(served, on_progress), variant)

    def dismiss(self, lane: Lane) -> None:
        """End what nobody answers through any more; takes as long as its end does."""
        with self._lock:
            if lane not in self._lanes:
                return
            self._lanes.remove(lane)
        lane.close()

    def kill(self) -> None:
        """End everything at once, from any thread; nobody comes in afterwards."""
        with self._lock:
            self._closed = True
            for lane in self._lanes:
                lane.kill()

    def close(self) -> None:
        """End everything and wait for it."""
        self.kill()
        for lane in list(self._lanes):
            self.dismiss(lane)

    def _load(self, served: Served, on_progress: Progress | None) -> EngineLane:
        engine = ChatEngine(served, python=self._python, gpus=self._gpus, on_progress=on_progress)
        lane = EngineLane(engine)
        self._keep(lane)
        with lane.busy:
            try:
                engine.__enter__()
            except BaseException:
                with self._lock:
                    self._lanes = [each for each in self._lanes if each is not lane]
                raise
        return lane

    def _keep(self, lane: Lane) -> None:
        with self._lock:
            self._lanes.append(lane)
            if self._closed:
                lane.kill()
