"""Hugging Face dataset folders: saved datasets, repositories with configs and splits, and the local hub cache."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from finetui.core import home
from finetui.core.caches import children, hub_roots, modelscope_roots, snapshots
from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.fetched import folder_of
from finetui.core.text import one_line
from finetui.data.sources.repository import DEFAULT, TRAIN, Split, repository_splits

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def find_cached(reference: str) -> Path | None:
    """The folder of a hub dataset that was fetched, or is in the cache of another tool, by its id; None where none is.

    A revision may follow the id: `OWNER/NAME@REVISION`.
    """
    return next((folder for folder in cached(reference) if folder.is_dir() and any(folder.iterdir())), None)


def cached(reference: str) -> list[Path]:
    """Where a hub dataset of this id may lie, the nearest place first."""
    name, at, revision = reference.partition("@")
    if not _HUB_ID.fullmatch(name) or (at and not revision):
        return []
    fetched = home.home() / "datasets"
    folders = [fetched / folder_of(name, revision or None)]
    if "/" not in name:
        folders += [owner / folders[0].name for owner in children(fetched)]
    if at:
        return folders
    repository = name.replace("/", "--")
    folders += [snap for root in hub_roots() for snap in snapshots(root / f"datasets--{repository}")]
    for root in modelscope_roots("datasets") if "/" in name else ():
        folders += [root / name.replace(".", "___"), root / name, *snapshots(root / repository)]
    return folders


def is_hub_id(reference: str) -> bool:
    """Whether a word could be the id of a hub dataset, and is more likely that than a path."""
    owner, _, name = reference.partition("/")
    return (
        bool(name and _HUB_ID.fullmatch(reference)) and not Path(owner).exists() and not Path(name).suffix[1:].isalpha()
    )


def snapshot_of(folder: Path) -> Path:
    """The folder itself, or the likeliest revision in it where it is a repository of the hub cache."""
    if folder.name.startswith("datasets--") and (found := snapshots(folder)):
        return found[0]
    return folder


def splits_of(folder: Path) -> list[Split] | None:
    """The splits of a Hugging Face dataset folder, the default configuration first; None for any other folder.

    Raises FinetuiError where what the folder says of itself is broken, or names files that are not there.
    """
    if (folder / "dataset_dict.json").is_file():
        return _saved_splits(folder)
    if all((folder / name).is_file() for name in ("state.json", "dataset_info.json")):
        return [_saved(folder, None)]
    return repository_splits(folder)


def _saved_splits(folder: Path) -> list[Split]:
    """What DatasetDict.save_to_disk has written."""
    told = _load(folder / "dataset_dict.json")
    names = told.get("splits") if type(told) is dict else None
    if type(names) is not list or not names or any(type(name) is not str or _leaves(name) for name in names):
        raise FinetuiError(Problem("sources.broken-dataset", {"what": "splits"}, str(folder / "dataset_dict.json")))
    absent = [name for name in names if not (folder / name / "state.json").is_file()]
    if absent:
        raise FinetuiError(Problem("data.no-such-path", {"parent": str(folder)}, str(folder / n)) for n in absent)
    return [_saved(folder / name, name) for name in names]


def _saved(folder: Path, name: str | None) -> Split:
    """What Dataset.save_to_disk has written: the files that state.json names, in its order."""
    state = _load(folder / "state.json")
    listed = state.get("_data_files") if type(state) is dict else None
    told = [item.get("filename") if type(item) is dict else None for item in listed] if type(listed) is list else []
    names = [file for file in told if type(file) is str and not _leaves(file)]
    if not names or len(names) < len(told):
        raise FinetuiError(Problem("sources.broken-dataset", {"what": "_data_files"}, str(folder / "state.json")))
    absent = [file for file in names if not (folder / file).is_file()]
    if absent:
        raise FinetuiError(Problem("data.no-such-path", {"parent": str(folder)}, str(folder / f)) for f in absent)
    split = state.get("_split")
    return Split(DEFAULT, name or (split if type(split) is str else TRAIN), tuple(folder / file for file in names))


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        facts = {"what": one_line(str(error))}
        raise FinetuiError(Problem("sources.broken-dataset", facts, str(path))) from None


def _leaves(name: str) -> bool:
    """Whether a name leads out of its folder."""
    return name.startswith("/") or ".." in name.split("/")


def choose(splits: list[Split], config: str | None, split: str | None, dataset: str) -> Split:
    """The split that is read: of the named configuration or the default one, the named split or what is to be trained.

    Raises FinetuiError (exit 2) where there is no such one, or where more than one could be meant.
    """
    configs = list(dict.fromkeys(each.config for each in splits))
    if config is None:
        config = configs[0]
        if len(configs) > 1 and not splits[0].default:
            raise _which("sources.which-config", dataset, configs)
    there = {each.name: each for each in splits if each.config == config}
    if split in there:
        return there[split]
    if split is not None or not there:
        asked = "/".join(filter(None, (config if not there else None, split)))
        raise _which("sources.no-such-split", dataset, addresses(splits), asked)
    training = [name for name in there if name.startswith(TRAIN)]
    for likely in ([TRAIN] if TRAIN in there else [], list(there), training):
        if len(likely) == 1:
            return there[likely[0]]
    raise _which("sources.which-split", dataset, list(there))


def addresses(splits: list[Split]) -> list[str]:
    """What each split is called behind the colon."""
    first = splits[0].config
    return [each.name if each.config == first else f"{each.config}/{each.name}" for each in splits]


def read_choice(name: str, splits: list[Split]) -> tuple[str | None, str | None]:
    """Configuration and split of what stands behind the colon: `CONFIG/SPLIT`, `CONFIG` or `SPLIT`."""
    config, slash, split = name.partition("/")
    if slash:
        return config, split
    return (name, None) if any(each.config == name for each in splits) else (None, name)


def _which(code: str, dataset: str, there: list[str], asked: str = "") -> FinetuiError:
    facts = {"dataset": dataset, "there": ", ".join(map(one_line, there)), "asked": asked, "first": there[0]}
    return FinetuiError(Problem(code, facts), USAGE)
