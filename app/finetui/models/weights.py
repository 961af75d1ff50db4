"""The weight files of a model folder: which of them are loaded, and whether they are whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetui.core.errors import Problem
from finetui.core.fetched import read_manifest
from finetui.core.files import read_json
from finetui.core.tensors import CutShort, Header, NotTensors, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""Names of weights that are loaded by running what they say."""
_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True)
class Weights:
    """The weights of a model, known by their headers alone."""

    files: Mapping[str, Header]
    """Header of each weight file, by its name in the folder."""
    indexed: bool
    """Whether an index names the files."""

    @property
    def names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(tensor.name for header in self.files.values() for tensor in header.tensors)

    @property
    def parameters(self) -> int:
        """The number of elements of all tensors."""
        return sum(tensor.items for header in self.files.values() for tensor in header.tensors)

    @property
    def dtype(self) -> str:
        """The dtype that most bytes have, as torch spells it."""
        sizes: Counter[str] = Counter()
        for header in self.files.values():
            for tensor in header.tensors:
                sizes[tensor.dtype] += tensor.bytes
        most = sizes.most_common(1)[0][0] if sizes else "F32"
        return _NAMES.get(most, most.lower())


def read_weights(folder: Path, problems: list[Problem]) -> Weights:
    """The headers of the weight files that transformers would load; what is wrong with them is added to `problems`."""
    names, index = _weight_files(folder, problems)
    headers: dict[str, Header] = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            problems.append(Problem("models.missing-shard", {"name": name, "folder": str(folder)}, str(folder / INDEX)))
            continue
        try:
            headers[name] = read_header(path)
        except NotTensors:
            problems.append(Problem("models.bad-weights", file=str(path)))
        except CutShort as error:
            facts = {"size": error.size, "promised": error.promised}
            problems.append(Problem("models.cut-short", facts, str(path)))
    for tensor, name in index.items():
        if name in headers and tensor not in {known.name for known in headers[name].tensors}:
            problems.append(Problem("models.index-wrong", {"tensor": tensor, "name": name}, str(folder / INDEX)))
            break
    return Weights(headers, indexed=bool(index))


def _weight_files(folder: Path, problems: list[Problem]) -> tuple[list[str], dict[str, str]]:
    """The names of the weight files, and of each tensor the file that the index gives it."""
    if (folder / SINGLE).is_file():
        return [SINGLE], {}
    if (folder / INDEX).is_file():
        try:
            index = {str(key): str(value) for key, value in read_json(folder / INDEX)["weight_map"].items()}
            if all(Path(name).name == name for name in index.values()):
                return sorted(set(index.values())), index
        except (ValueError, KeyError, TypeError, AttributeError):
            index = {}
        problems.append(Problem("models.bad-index", file=str(folder / INDEX)))
        return [], {}
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if (folder / ADAPTER).is_file():
        problems.append(Problem("models.is-adapter", {"folder": str(folder)}))
    elif pickles:
        problems.append(Problem("models.pickle", {"name": pickles[0], "folder": str(folder)}))
    elif gguf := sorted(path.name for path in folder.glob("*.gguf")):
        problems.append(Problem("models.gguf-only", {"name": gguf[0], "folder": str(folder)}))
    elif (manifest := read_manifest(folder)) is not None and not manifest.whole:
        problems.append(Problem("models.only-outline", {"folder": str(folder), "source": manifest.source}))
    else:
        problems.append(Problem("models.no-weights", {"folder": str(folder)}))
    return [], {}
