"""What a training asks of a device: everything in it that decides the peak of memory."""

from __future__ import annotations

from dataclasses import dataclass

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Job:
    """One training, as one process of it sees it; the defaults are what our trainer does."""

    method: str = "lora"
    """lora or full."""
    stage: str = "sft"
    """sft, pt, dpo, kto or reward."""
    dtype: str = "bfloat16"
    """float32, bfloat16 or float16: of the computation, and of weights that are frozen and not quantised."""
    quantization: str | None = None
    """Of the frozen weights: nf4, fp4, int8, or gptq4 and gptq8 for models that come so; None for none."""
    double_quant: bool = False
    """Whether the scales of the blocks are quantised too."""
    r: int = 16
    """Rank of the adapter."""
    targets: str | tuple[str, ...] = "all-linear"
    """The layers that have one, by their names."""
    modules_to_save: tuple[str, ...] = ()
    """Of `embed_tokens` and `lm_head`, those that a copy is trained of beside the adapter."""
    use_dora: bool = False
    lora_dropout: float = 0.0
    adapter_dtype: str = "float32"
    """What the adapter, its gradients and its optimizer states are kept in."""
    saved_dtype: str = "float32"
    """The same for `modules_to_save`."""
    master_weights: bool = False
    """Full fine-tuning: whether the weights are kept in float32 and computed with in `dtype`."""
    kept_dtype: str | None = None
    """What embedding, norms and output of a quantised model are kept in; None for `dtype`."""
    optimizer: str = "adamw_torch"
    """Upstream's name."""
    micro_batch: int = 1
    """Rows of one forward pass."""
    tokens: int = 1024
    """Length of the longest row of the longest batch, after cutting; packed: of the pack."""
    trained_tokens: int | None = None
    """Positions of the longest micro batch that logits are made for; None for every one."""
    packed: bool = False
    checkpointing: bool = True
    attention: str = "sdpa"
    """eager, sdpa or flash_attention_2."""
    world_size: int = 1
    sharding: str = "none"
    """none or fsdp2."""
    loss_dtype: str = "float32"
    """What logits and their gradient are kept in while the loss is made."""
    varied: bool = False
    """Count what the caching allocator still holds after batches of many lengths, as the driver shows it where there
    is room; the step itself needs less, and gets it when the room runs out."""
    eval_batch: int = 0
    """Rows of one evaluation pass; 0 where nothing is evaluated."""
    eval_tokens: int | None = None
    """Length of the longest evaluation row; None for `tokens`."""
    eval_trained: int | None = None
    """Positions of an evaluation pass that logits are made for; None for the same share of them as in training."""

    @property
    def sides(self) -> int:
        """Rows of one record: a preference is two."""
        return 2 if self.stage in ("dpo", "kto", "reward") else 1

    @property
    def rows(self) -> int:
        """Rows in memory at once."""
        return self.micro_batch * self.sides

    @property
    def positions(self) -> int:
        """Tokens of one forward pass, padding included."""
        return self.rows * self.tokens

    @property
    def width(self) -> int:
        """Bytes of one value of the computation."""
        return BYTES[self.dtype]

    @property
    def mixed(self) -> bool:
        """Whether autocast computes in fewer bits than float32."""
        return self.width < 4

    def adapts(self, name: str) -> bool:
        """Whether a linear layer of this name has an adapter."""
        return self.method == "lora" and (self.targets == "all-linear" or name in self.targets)
