"""A dataset repository: the configurations of its card, and splits told by the names of folders and files."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetui.core.errors import FinetuiError, Problem
from finetui.core.fetched import read_manifest
from finetui.core.text import one_line

TRAIN, DEFAULT = "train", "default"
METADATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"})
"""What a dataset folder holds beside its data in files that could be taken for data."""
_KEYWORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SEPARATOR = "[-._ 0-9]"
_SHARD = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_CARD = re.compile(r"\A\ufeff?---\r?\n(.*?)\r?\n---\s*(?:\n|\Z)", re.DOTALL)
_CARD_LIMIT = 4 << 20


@dataclass(frozen=True)
class Split:
    """One split of one configuration, and the files that hold it."""

    config: str
    name: str
    files: tuple[Path, ...]
    default: bool = False
    """Whether its configuration is the one to take where none is named."""


def repository_splits(folder: Path) -> list[Split] | None:
    """The splits of a repository, the default configuration first; None for a folder that is none.

    Raises FinetuiError where its card is broken, or names files that are not there.
    """
    files = list(_files(folder))
    card = _card(folder)
    if configs := card.get("configs"):
        return _configured(folder, configs, files)
    whole = bool(card) or folder.parent.name == "snapshots" or read_manifest(folder) is not None
    inferred = _inferred(files, whole)
    return _as_splits(folder, DEFAULT, inferred) if inferred else None


def _configured(folder: Path, configs: Any, files: Sequence[str]) -> list[Split]:
    """The configurations that a dataset card lists, the default one first."""
    card = str(folder / "README.md")
    if type(configs) is not list or not all(type(c) is dict and type(c.get("config_name")) is str for c in configs):
        raise FinetuiError(Problem("sources.broken-card", {"error": "configs"}, card))
    problems: list[Problem] = []
    splits: list[Split] = []
    for config in sorted(configs, key=lambda config: not _is_default(config)):
        name = config["config_name"]
        inside = str(config.get("data_dir") or "").strip("/")
        below = [file for file in files if not inside or file.startswith(f"{inside}/")]
        if "data_files" not in config:
            found = _inferred(below, whole=True) or {TRAIN: below}
        else:
            found = {}
            for split, patterns in _patterns(config["data_files"]).items():
                wanted = [re.compile(_regex(f"{inside}/{each}" if inside else each)) for each in patterns]
                found[split] = [file for file in files if any(each.fullmatch(file) for each in wanted)]
        empty = [split for split, chosen in found.items() if not chosen]
        problems += [
            Problem("sources.empty-split", {"config": name, "split": split, "folder": str(folder)}, card)
            for split in empty
        ]
        held = {split: chosen for split, chosen in found.items() if chosen}
        splits += _as_splits(folder, name, held, _is_default(config))
    if not splits:
        raise FinetuiError(problems or [Problem("sources.broken-card", {"error": "configs"}, card)])
    return splits


def _patterns(data_files: Any) -> dict[str, list[str]]:
    """Split to file patterns, of any of the shapes that a card may have."""
    if type(data_files) is dict:
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    if type(data_files) is not list:
        data_files = [data_files]
    found: dict[str, list[str]] = {}
    for item in data_files:
        split, path = (item.get("split", TRAIN), item.get("path")) if type(item) is dict else (TRAIN, item)
        found.setdefault(str(split), []).extend(str(each) for each in (path if type(path) is list else [path]))
    return found


def _inferred(files: Sequence[str], whole: bool) -> dict[str, list[str]]:
    """Split to files by the names of shards, folders and files; nothing where these tell no splits apart.

    In a dataset repository (`whole`) files that bear no split's name are no data; in any other folder they are trained.
    """
    sharded: dict[str, list[str]] = {}
    for file in files:
        if found := _SHARD.fullmatch(file):
            sharded.setdefault(found[1], []).append(file)
    if sharded:
        return dict(sorted(sharded.items(), key=lambda item: (item[0] != TRAIN, item[0])))
    for marked in (_marked_folder, _marked_name):
        named: dict[str, list[str]] = {}
        for file in files:
            named.setdefault(next((split for split in _KEYWORDS if marked(file, split)), ""), []).append(file)
        unmarked = named.pop("", [])
        if named and (whole or (TRAIN in named and len(named) > 1)):
            if not whole:
                named[TRAIN] = sorted(named[TRAIN] + unmarked)
            return {split: named[split] for split in _KEYWORDS if split in named}
    return {}


def _marked_folder(file: str, split: str) -> bool:
    words = "|".join(_KEYWORDS[split])
    mark = re.compile(rf"(?:.*{_SEPARATOR})?(?:{words})(?:{_SEPARATOR}.*)?", re.DOTALL)
    return any(mark.fullmatch(part) for part in file.split("/")[:-1])


def _marked_name(file: str, split: str) -> bool:
    words = "|".join(_KEYWORDS[split])
    return bool(re.match(rf"(?:.*{_SEPARATOR})?(?:{words}){_SEPARATOR}", file.rpartition("/")[2], re.DOTALL))


def _is_default(config: Mapping[str, Any]) -> bool:
    return bool(config.get("default")) or config["config_name"] == DEFAULT


def _as_splits(folder: Path, config: str, found: Mapping[str, Iterable[str]], default: bool = True) -> list[Split]:
    return [Split(config, split, tuple(folder / file for file in files), default) for split, files in found.items()]


def is_beside(path: Path) -> bool:
    """Whether a file of a folder is what stands beside its data: a card, a licence, a script, what describes it."""
    name = path.name.lower()
    return (
        name in METADATA
        or name.startswith(("readme", "license", "licence", "changelog", "notice"))
        or path.suffix.lower() in (".md", ".py", ".sh", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".html", ".ipynb")
    )


def below(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders, and links to folders, which are not followed; sorted.

    Raises FinetuiError with each folder that cannot be looked into and each link that leads nowhere: it may be data.
    """
    found, obstacles = list[Path](), list[OSError]()
    for place, folders, files in os.walk(folder, onerror=obstacles.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files]
        found += [path for name in folders if (path := Path(place, name)).is_symlink()]
    for path in found:
        if path.is_symlink() and not path.exists() and not path.name.startswith(".") and not is_beside(path):
            obstacles.append(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)))
    if obstacles:
        told = ((error.strerror or str(error), str(error.filename)) for error in obstacles)
        raise FinetuiError(Problem("data.unreadable", {"error": error}, file) for error, file in told)
    return sorted(found)


def _files(folder: Path) -> Iterable[str]:
    """The files below a folder that may hold data, by their paths in it, sorted."""
    for path in below(folder):
        place = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "__")) for part in place.parts) and not is_beside(path):
            yield place.as_posix()


def _regex(pattern: str) -> str:
    """A glob pattern as a regular expression: `**` crosses folders, `*` and `?` do not, `[…]` and `{a,b}` choose."""
    made, at = "", 0
    pattern = pattern.removeprefix("./")
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    while at < len(pattern):
        sign = next((sign for sign in signs if pattern.startswith(sign, at)), None)
        group = re.compile(r"\[[^\]]+\]|\{[^{}]*\}").match(pattern, at)
        if sign:
            made, at = made + signs[sign], at + len(sign)
        elif group:
            inside = group[0][1:-1]
            chosen = "|".join(map(re.escape, inside.split(",")))
            not_one = "^" if inside[:1] in ("!", "^") else ""
            made += f"(?:{chosen})" if group[0][0] == "{" else f"[{not_one}{_class(inside[len(not_one) :])}]"
            at = group.end()
        else:
            made, at = made + re.escape(pattern[at]), at + 1
    return made


def _class(inside: str) -> str:
    return "".join(sign if sign == "-" else re.escape(sign) for sign in inside) or r"\0"


def _card(folder: Path) -> dict[str, Any]:
    """The metadata of a dataset card, nothing where there is none.

    Raises FinetuiError where it is no YAML.
    """
    import yaml

    path = folder / "README.md"
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            found = _CARD.match(stream.read(_CARD_LIMIT))
    except OSError:
        return {}
    if found is None:
        return {}
    try:
        told = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if "configs" not in found[1]:
            return {}
        facts = {"error": one_line(str(error).partition("\n")[0])}
        raise FinetuiError(Problem("sources.broken-card", facts, str(path))) from None
    return told if type(told) is dict else {}
