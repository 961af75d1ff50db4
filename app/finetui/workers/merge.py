"""Merging a LoRA adapter into a model's weights, tensor by tensor, never holding more than a block of rows.

Tensors that no adapter touches are copied as bytes, headers too. What comes out equals peft's `merge_and_unload`
followed by `save_pretrained`, bit for bit: peft computes `weight += (B @ A) * scaling` in float32 and rounds once;
for DoRA it scales each row of that sum to its learned length before it rounds.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import IO, Any

import torch

from finetui.core.errors import FinetuiError, Problem
from finetui.core.files import replacing
from finetui.core.tensors import ITEM_BYTES, Header, Tensor, read_header
from finetui.core.worker_io import progress, serve

BLOCK_BYTES = 64 << 20
"""Size of a block of rows in float32; three of them are held at once."""
_COPY_BYTES = 8 << 20
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def merge(request: dict[str, Any]) -> dict[str, Any]:
    """Write the `files` of folder `base` into folder `out`, with `changes` of file `adapter` added.

    `changes` maps the name of a tensor to `a`, `b`, `magnitude` (names in the adapter; the last may be None) and
    `scaling`. The result has `bytes` and `peak_rss_bytes`, the most memory that this process ever had.
    """
    base, out = Path(request["base"]), Path(request["out"])
    changes: dict[str, dict[str, Any]] = request["changes"]
    adapter = Path(request["adapter"])
    parts = {tensor.name: tensor for tensor in read_header(adapter).tensors}
    headers = {name: read_header(base / name) for name in request["files"]}
    total = sum((base / name).stat().st_size for name in headers)
    done = 0
    left = set(changes)
    with adapter.open("rb") as low_rank:
        for name, header in headers.items():
            with (base / name).open("rb") as source, replacing(out / name) as target:
                target.write(header.raw)
                for tensor in header.tensors:
                    if tensor.name in changes:
                        change = changes[tensor.name]
                        loaded = {
                            part: _load(low_rank, parts[change[part]]).float()
                            for part in ("a", "b", "magnitude")
                            if change[part] is not None
                        }
                        _add(source, target, tensor, scale=change["scaling"], **loaded)
                        left.discard(tensor.name)
                    else:
                        _copy(source, target, tensor.start, tensor.bytes)
                    progress(stage="merge", done=done + target.tell(), total=total)
            done += _size(header)
    if left:
        raise FinetuiError([Problem("merge.unused-key", {"key": key, "base": base.name}) for key in sorted(left)])
    return {"bytes": done, "peak_rss_bytes": _peak_rss_bytes()}


def row_blocks(rows: int, columns: int, block_bytes: int = BLOCK_BYTES) -> list[tuple[int, int]]:
    """Bounds (first, end) of blocks of about equal height, none over `block_bytes` in float32.

    Equal, because the matrix product of one or a few left over rows takes another path and rounds differently.
    """
    count = -(-rows * columns * 4 // block_bytes)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def _add(
    source: IO[bytes],
    target: IO[bytes],
    tensor: Tensor,
    *,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float,
    magnitude: torch.Tensor | None = None,
) -> None:
    """Write `tensor + (b @ a) * scale`, some rows at a time, each scaled to its magnitude where there is one.

    a [rank, in], b [out, rank], magnitude [out], all float32.
    """
    rows, columns = tensor.shape
    row_bytes = columns * ITEM_BYTES[tensor.dtype]
    for first, end in row_blocks(rows, columns):
        source.seek(tensor.start + first * row_bytes)
        raw = bytearray(source.read((end - first) * row_bytes))
        weight = torch.frombuffer(raw, dtype=_DTYPES[tensor.dtype]).view(end - first, columns)
        if magnitude is None:
            weight += (b[first:end] @ a) * scale
        else:
            summed = weight + (b[first:end] @ a) * scale
            summed *= (magnitude[first:end] / torch.linalg.norm(summed, dim=1)).unsqueeze(1)
            weight.copy_(summed)
        target.write(raw)


def _load(stream: IO[bytes], tensor: Tensor) -> torch.Tensor:
    stream.seek(tensor.start)
    raw = bytearray(stream.read(tensor.bytes))
    return torch.frombuffer(raw, dtype=_DTYPES[tensor.dtype]).view(tensor.shape)


def _copy(source: IO[bytes], target: IO[bytes], start: int, size: int) -> None:
    source.seek(start)
    while size > 0:
        block = source.read(min(size, _COPY_BYTES))
        if not block:
            raise EOFError(f"{source.name} ended {size} bytes early")
        target.write(block)
        size -= len(block)


def _size(header: Header) -> int:
    return len(header.raw) + sum(tensor.bytes for tensor in header.tensors)


def _peak_rss_bytes() -> int:
    """The largest resident set of this process. `ru_maxrss` may be that of the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    serve(merge)
