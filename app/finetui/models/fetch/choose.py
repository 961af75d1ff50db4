"""Which files of a repository are fetched: of a model what training reads, of a dataset everything."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetui.core.errors import BAD_INPUT, USAGE, FinetuiError, Problem
from finetui.core.fetched import DATASET
from finetui.core.text import one_line
from finetui.models.fetch.listing import Listing, RemoteFile
from finetui.models.weights import ADAPTER, INDEX, PICKLES, SINGLE

_SAFETENSORS = ("*.safetensors", INDEX)
_PICKLES = (*PICKLES, "*.bin.index.json")
_OTHERS = ("*.gguf", "*.ggml", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.tflite", "*.npz", "*.mlmodel", "*.ot")
"""Weights for other programs than the trainer."""
_DOUBLES = ("consolidated*", "*.fp16.*", "*.fp32.*", "*.bf16.*", "*.fp16-*", "*.fp32-*", "*.bf16-*", "*.non_ema*")
"""The same weights once more, in another layout or precision."""
_TRAINING_STATE = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "training_args.bin", "trainer_state.json")
_FOLDERS = ("additional_chat_templates",)
"""Subfolders that belong to a model; others hold conversions, checkpoints, pictures."""
_NEVER = (".git*", ".DS_Store")
_NAMED = 12


@dataclass(frozen=True)
class Choice:
    """The files that will be fetched, and what is to be said of the choice."""

    files: tuple[RemoteFile, ...]
    left_out: tuple[RemoteFile, ...]
    whole: bool
    """Whether all that training needs is among them."""
    notes: tuple[Problem, ...] = ()


def choose(listing: Listing, patterns: Sequence[str] = (), *, weights: bool = True) -> Choice:
    """The files of a listing to be fetched: those of `patterns`, else what training needs.

    Raises FinetuiError where that is nothing: (exit 2) no file fits a pattern, (exit 3) there is nothing to train.
    """
    listed = [file for file in listing.files if not _fits(file.name, _NEVER)]
    if patterns:
        return _by_patterns(listed, patterns)
    if listing.kind == DATASET:
        if not listed:
            raise FinetuiError(Problem("fetch.empty", {"name": listing.name, "page": listing.page}), BAD_INPUT)
        return Choice(tuple(listed), (), True, _on_code(listed))
    beside = [file for file in listed if _belongs(file) and not _is_weights(file)]
    if not any(file.path in ("config.json", "adapter_config.json") for file in beside):
        code = "fetch.only-inference" if any(_fits(file.name, _OTHERS) for file in listed) else "fetch.no-model"
        facts = {"name": listing.name, "page": listing.page, "there": _names(listed)}
        raise FinetuiError(Problem(code, facts), BAD_INPUT)
    found, notes = _weights(listing, [file for file in listed if "/" not in file.path]) if weights else ([], [])
    chosen = [*beside, *found]
    left = [file for file in listed if file not in set(chosen)]
    if not weights:
        left = [file for file in left if not _fits(file.name, _SAFETENSORS)]
    return Choice(tuple(chosen), tuple(left), weights, (*notes, *_on_code(chosen)))


def _by_patterns(listed: Sequence[RemoteFile], patterns: Sequence[str]) -> Choice:
    """Files whose path or name fits one of the patterns; each pattern has to fit one."""
    chosen: list[RemoteFile] = []
    problems: list[Problem] = []
    for pattern in patterns:
        fitting = [file for file in listed if _fits(file.path, [pattern]) or _fits(file.name, [pattern])]
        chosen += [file for file in fitting if file not in chosen]
        if not fitting:
            near = difflib.get_close_matches(pattern, [file.path for file in listed], 1)
            facts = {"pattern": pattern, "near": near[0] if near else listed[0].path if listed else "*"}
            problems.append(Problem("fetch.no-such-files", facts))
    if problems:
        raise FinetuiError(problems, USAGE)
    return Choice(tuple(chosen), (), False, _on_code(chosen))


def _weights(listing: Listing, top: Sequence[RemoteFile]) -> tuple[list[RemoteFile], list[Problem]]:
    """The weights that transformers would load; pickles only where there is nothing better.

    Raises FinetuiError (exit 3) where there are none, or none that can be trained.
    """
    names = {file.path: file for file in top}
    tensors = [file for file in top if _fits(file.name, _SAFETENSORS) and file.name != ADAPTER]
    tensors = [file for file in tensors if not _fits(file.name, _DOUBLES)] or tensors
    if SINGLE in names:
        tensors = [names[SINGLE]]
    if tensors:
        return tensors, []
    if ADAPTER in names:
        return [names[ADAPTER]], [Problem("fetch.note-adapter", {"name": listing.name})]
    pickles = [file for file in top if _fits(file.name, _PICKLES) and not _fits(file.name, _TRAINING_STATE)]
    pickles = [file for file in pickles if not _fits(file.name, _DOUBLES)] or pickles
    if any(_fits(file.name, ("pytorch_model*",)) for file in pickles):
        pickles = [file for file in pickles if _fits(file.name, ("pytorch_model*",))]
    if pickles:
        return pickles, [Problem("fetch.note-pickle", {"name": listing.name, "files": _names(pickles)})]
    facts = {"name": listing.name, "page": listing.page, "there": _names(listing.files)}
    raise FinetuiError(Problem("fetch.only-inference", facts), BAD_INPUT)


def _belongs(file: RemoteFile) -> bool:
    """Whether a file is part of a model by its place: at the top, or in a folder that belongs to models."""
    folder, _, _ = file.path.rpartition("/")
    return not folder or folder in _FOLDERS


def _is_weights(file: RemoteFile) -> bool:
    return _fits(file.name, (*_SAFETENSORS, *_PICKLES, *_OTHERS, *_TRAINING_STATE))


def _on_code(files: Iterable[RemoteFile]) -> tuple[Problem, ...]:
    code = [file for file in files if file.name.endswith(".py")]
    return (Problem("fetch.note-code", {"files": _names(code)}),) if code else ()


def _names(files: Sequence[RemoteFile]) -> str:
    shown = ", ".join(one_line(file.path, 80) for file in files[:_NAMED])
    return f"{shown}, …" if len(files) > _NAMED else shown


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
