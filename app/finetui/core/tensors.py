"""The safetensors format, read and written without torch: eight bytes of length, a JSON header, the tensors' bytes.

Source: https://github.com/huggingface/safetensors (format section of its README).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ITEM_BYTES: Mapping[str, int] = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "BF16": 2, "F16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 100_000_000
_ALIGNMENT = 8


class NotTensors(ValueError):
    """A file that is not safetensors, or whose header is broken."""


class CutShort(ValueError):
    """A safetensors file that does not hold as many bytes as its header promises."""

    def __init__(self, size: int, promised: int) -> None:
        self.size = size
        self.promised = promised
        super().__init__(f"{size} bytes where the header promises {promised}")


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies in its file."""

    name: str
    dtype: str
    """As the header spells it: `BF16`, `F32`, …"""
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte from the beginning of the file."""
    bytes: int

    @property
    def items(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself."""

    raw: bytes
    """The length and the header as they stand in the file, to be copied where nothing changes."""
    metadata: Mapping[str, str]
    tensors: tuple[Tensor, ...]
    """In the order of their bytes in the file."""


def read_header(path: Path) -> Header:
    """The header of a safetensors file, checked against the file's size.

    Raises NotTensors where it is not safetensors, CutShort where bytes are missing or left over, OSError where it
    cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else 0
        if not 2 <= length <= _LARGEST_HEADER:
            raise NotTensors("no header")
        text = stream.read(length)
    if len(text) < length:
        raise CutShort(size, _LENGTH.size + length)
    try:
        entries = json.loads(text)
        metadata = entries.pop("__metadata__", {})
        start = _LENGTH.size + length
        tensors = sorted((_tensor(name, entry, start) for name, entry in entries.items()), key=lambda t: t.start)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotTensors(str(error)) from error
    end = start
    for tensor in tensors:
        if tensor.start != end:
            raise NotTensors(f"a gap or an overlap before {tensor.name}")
        end += tensor.bytes
    if end != size:
        raise CutShort(size, end)
    return Header(prefix + text, metadata, tuple(tensors))


def write_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Length and header of a file that holds `tensors` (name → dtype, shape) one after another in this order."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + math.prod(shape) * ITEM_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text


def _tensor(name: str, entry: Mapping[str, object], start: int) -> Tensor:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not isinstance(shape, list) or not isinstance(offsets, list):
        raise NotTensors(f"{name} is not described")
    first, last = offsets
    tensor = Tensor(name, dtype, tuple(int(size) for size in shape), start + first, last - first)
    if dtype in ITEM_BYTES and tensor.items * ITEM_BYTES[dtype] != tensor.bytes:
        raise NotTensors(f"{name} has {tensor.bytes} bytes, which its shape does not take")
    return tensor
