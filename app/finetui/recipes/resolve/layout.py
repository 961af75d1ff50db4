"""How a step is laid out on the device: what each way needs of memory, and how long a step takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from finetui.hardware.memory.job import BYTES, Job
from finetui.hardware.memory.predict import Prediction, predict
from finetui.hardware.memory.shape import Shape
from finetui.hardware.memory.state import adapter_parameters, state
from finetui.hardware.speed import flops, forward_flops, pass_seconds
from finetui.recipes.resolve.device import Device
from finetui.recipes.resolve.tokens import Load

_MOST_ROWS = 64
_FILLED = 0.95
"""Share of a pack that rows fill."""
_WORTH = 0.95
"""A way that takes more memory, or that fewer have gone, has to save a twentieth of the time."""


@dataclass(frozen=True)
class Layout:
    """The knobs that change memory and speed and nothing else."""

    parallelism: str
    micro: int
    """per_device_train_batch_size"""
    checkpointing: bool
    packing: bool


@dataclass(frozen=True)
class Open:
    """The values that each of them may take."""

    parallelism: tuple[str, ...]
    """The first that fits is taken."""
    micro: tuple[int, ...]
    checkpointing: tuple[bool, ...]
    packing: tuple[bool, ...]

    def layouts(self, parallelism: str) -> Iterator[Layout]:
        """Every combination, the one that takes least memory first."""
        for checkpointing in sorted(self.checkpointing, reverse=True):
            for packing in sorted(self.packing):
                for micro in sorted(self.micro):
                    yield Layout(parallelism, micro, checkpointing, packing)


@dataclass(frozen=True)
class Frame:
    """Everything that is the same for all layouts."""

    shape: Shape
    base: Job
    """The training without what the layout and the rows decide."""
    load: Load
    rows: int
    """rows_per_step"""
    device: Device

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.base.world_size

    @property
    def process_rows(self) -> int:
        """Rows of one step and process."""
        return math.ceil(self.rows / self.world)

    def job(self, layout: Layout, eval_batch: int = 0) -> Job:
        """The training as one process sees it, at its longest batch."""
        load = self.load
        if layout.packing:
            tokens = min(load.max_length * layout.micro, self.process_rows * load.longest)
            trained = load.most_trained(self.process_rows, tokens)
            micro = 1
        else:
            tokens, micro = load.longest, min(layout.micro, self.rows)
            trained = load.most_trained(micro * self.base.sides, micro * self.base.sides * tokens)
        return replace(
            self.base,
            micro_batch=micro,
            tokens=tokens,
            trained_tokens=trained,
            packed=layout.packing,
            checkpointing=layout.checkpointing,
            sharding="fsdp2" if layout.parallelism == "fsdp2" else "none",
            eval_batch=eval_batch,
            eval_tokens=load.held_longest or None,
            eval_trained=sum(load.held_trained[: eval_batch * self.base.sides]) if load.held_trained else None,
        )

    def predict(self, layout: Layout, eval_batch: int = 0) -> Prediction:
        """The peak of one process."""
        return predict(self.shape, self.job(layout, eval_batch), self.device.kind)

    def fits(self, layout: Layout, eval_batch: int = 0) -> bool:
        """Whether the band's upper edge is free."""
        return self.predict(layout, eval_batch).fits(self.device.free_bytes)

    def seconds(self, layout: Layout) -> float:
        """One optimizer step."""
        working = self._packed(layout) if layout.packing else self._padded(layout)
        return working + self._update(layout)

    def _padded(self, layout: Layout) -> float:
        """Rows of a step are sorted by length, so that a micro batch is padded to its own longest."""
        lengths = Counter(self.load.sorted_rows(self.process_rows * self.world)[:: layout.micro * self.world])
        job, gathering = self.job(layout), self._gathering(layout)
        return sum(
            count * max(pass_seconds(self.shape, replace(job, tokens=length), self.device.speed), gathering)
            for length, count in lengths.items()
        )

    def _packed(self, layout: Layout) -> float:
        load, job = self.load, self.job(layout)
        together = self.process_rows * load.mean
        packs = max(1, math.ceil(together / (load.max_length * layout.micro * _FILLED)))
        filled = replace(job, tokens=max(2, round(together / packs)))
        dense = job.attention != "flash_attention_2"  # a mask over the whole pack is computed with, zeros and all
        seen = 2.0 * filled.tokens if dense else load.seen
        return packs * max(pass_seconds(self.shape, filled, self.device.speed, seen), self._gathering(layout))

    def _gathering(self, layout: Layout) -> float:
        """FSDP2 fetches every layer twice a pass, and full fine-tuning gives its gradients back; while it computes."""
        if layout.parallelism != "fsdp2":
            return 0.0
        job = self.job(layout)
        weights = self.shape.parameters * (0.5 if job.quantization in ("nf4", "fp4") else job.width)
        moved = weights * (3 if job.method == "full" else 2) * (self.world - 1) / self.world
        return moved / (self.device.link * 1e9)

    def _update(self, layout: Layout) -> float:
        """The optimizer's own traffic, and what DDP sends of the gradients."""
        held = state(self.shape, self.job(layout))
        traffic = 2 * (held.adapter + held.gradients + held.optimizer) / (self.device.speed.bandwidth * 1e9)
        if layout.parallelism != "ddp":
            return traffic
        sent = self.trained_bytes * 2 * (self.world - 1) / self.world
        return traffic + sent / (self.device.link * 1e9)

    @property
    def trained_bytes(self) -> float:
        """Bytes of all weights that are trained."""
        if self.base.method == "full":
            return self.shape.parameters * (4 if self.base.master_weights else self.base.width)
        return adapter_parameters(self.shape, self.base) * BYTES[self.base.adapter_dtype]

    def evaluation_seconds(self, layout: Layout, rows: int, length: float, batch: int) -> float:
        """One evaluation of so many rows of this length on average."""
        passes = math.ceil(rows / (batch * self.world))
        job = replace(self.job(layout), micro_batch=batch, tokens=max(2, round(length)), packed=False)
        forward = forward_flops(self.shape, job, job.positions, length)
        share = forward / max(1.0, flops(self.shape, job, job.positions, length))
        return passes * pass_seconds(self.shape, job, self.device.speed) * share


@dataclass(frozen=True)
class Fitted:
    """The layout that is taken."""

    layout: Layout
    prediction: Prediction
    seconds: float
    """Of one optimizer step."""
    fits: bool


def micro_batches(frame_rows: int) -> tuple[int, ...]:
    """The micro batches to choose from for so many rows a step and process: powers of two, and all rows at once."""
    most = min(frame_rows, _MOST_ROWS)
    powers = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return tuple(sorted({*powers, most}))


def fit(frame: Frame, choices: Open, eval_batch: int = 0) -> Fitted:
    """The fastest layout that fits; where none does, the one that comes nearest."""
    for parallelism in choices.parallelism:
        if frame.fits(next(choices.layouts(parallelism)), eval_batch):
            fitting = [layout for layout in choices.layouts(parallelism) if frame.fits(layout, eval_batch)]
            chosen, seconds = _fastest(frame, fitting)
            return Fitted(chosen, frame.predict(chosen, eval_batch), seconds, True)
    least = [next(choices.layouts(parallelism)) for parallelism in choices.parallelism]
    nearest = min(least, key=lambda layout: frame.predict(layout, eval_batch).band[1])
    return Fitted(nearest, frame.predict(nearest, eval_batch), frame.seconds(nearest), False)


def _fastest(frame: Frame, layouts: list[Layout]) -> tuple[Layout, float]:
    """Of layouts in order of memory, the one from which on nothing is gained that is worth it."""
    chosen, least = layouts[0], frame.seconds(layouts[0])
    for layout in layouts[1:]:
        seconds = frame.seconds(layout)
        if seconds < _WORTH * least:
            chosen, least = layout, seconds
    return chosen, least
