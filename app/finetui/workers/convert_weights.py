"""Weights of other formats to safetensors in bfloat16, tensor by tensor: GGUF files of Llama models.

Needs numpy and the `gguf` package, not torch. The bytes written depend on the source alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import replacing
from finetui.core.tensors import write_header
from finetui.core.worker_io import progress, serve

_ROWS = 4096
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Write the GGUF file `source` as safetensors to `out`; the result has `tensors` and `bytes`.

    Raises FinetuiError (exit 3) where the source is no GGUF file of a Llama model.
    """
    source, out = Path(request["source"]), Path(request["out"])
    reader, heads = _open(source)
    tensors = {_name(tensor.name, source): tensor for tensor in reader.tensors}
    ordered = dict(sorted(tensors.items()))
    shapes = {name: ("BF16", tuple(int(n) for n in reversed(tensor.shape))) for name, tensor in ordered.items()}
    with replacing(out) as stream:
        stream.write(write_header(shapes, {"format": "pt"}))
        for done, tensor in enumerate(ordered.values(), start=1):
            for block in _blocks(tensor, heads):
                stream.write(block)
            progress(stage="convert", done=done, total=len(ordered))
        written = stream.tell()
    return {"tensors": len(ordered), "bytes": written}


def _open(source: Path) -> tuple[Any, dict[str, int]]:
    """The file, and the number of heads in the tensors whose rows are permuted."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(source)
        architecture = reader.get_field("general.architecture").contents()
        if architecture != "llama":
            raise FinetuiError(Problem("models.gguf-architecture", {"architecture": architecture}, str(source)))
        keys = {"attn_q": "head_count", "attn_k": "head_count_kv"}
        heads = {part: reader.get_field(f"llama.attention.{key}").contents() for part, key in keys.items()}
    except (ValueError, IndexError, AttributeError) as error:
        raise FinetuiError(Problem("models.not-gguf", {"why": str(error)}, str(source))) from error
    return reader, heads


def _name(name: str, source: Path) -> str:
    if name in _OUTER:
        return _OUTER[name]
    match name.split("."):
        case ["blk", layer, part, kind] if part in _INNER:
            return f"model.layers.{layer}.{_INNER[part]}.{kind}"
    raise FinetuiError(Problem("models.gguf-tensor", {"tensor": name}, str(source)))


def _blocks(tensor: Any, heads: dict[str, int]) -> Iterator[bytes]:
    """The tensor in bfloat16, some rows at a time.

    llama.cpp stores the rows of q and k with the two halves of each head interleaved; quantisation goes along rows, so
    they are put back before anything is computed.
    """
    from gguf import dequantize

    rows = tensor.data.reshape(-1, tensor.data.shape[-1]) if tensor.data.ndim > 1 else tensor.data.reshape(1, -1)
    part = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
    if part in heads:
        count = heads[part]
        rows = rows.reshape(count, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)
    for start in range(0, len(rows), _ROWS):
        yield _bfloat16(dequantize(rows[start : start + _ROWS], tensor.tensor_type))


def _bfloat16(values: Any) -> bytes:
    """Little-endian bfloat16 of finite float32 `values`, rounded to nearest, ties to even."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return rounded.astype("<u2").tobytes()


if __name__ == "__main__":
    serve(convert)
