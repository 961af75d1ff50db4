"""A folder of LLaMA-Factory: datasets by the names that its `dataset_info.json` gives them, read as it declares."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetui.core.errors import USAGE, FinetuiError, Problem
from finetui.core.nearest import nearest
from finetui.core.text import one_line
from finetui.data.sources.folders import open_folder
from finetui.data.sources.found import Dataset, Search
from finetui.data.sources.hub import find_cached
from finetui.data.sources.repository import TRAIN

REGISTRY = "dataset_info.json"
_HUBS = ("hf_hub_url", "ms_hub_url", "om_hub_url")
_ELSEWHERE = ("script_url", "cloud_file_name")
_SOURCES = frozenset({"file_name", *_HUBS, *_ELSEWHERE})
_FORMATTINGS = ("alpaca", "sharegpt", "openai")
_SHARED = {"system": "system", "tools": "tools", "images": "images", "videos": "videos", "audios": "audios"}
_ANSWERS = {"chosen": "chosen", "rejected": "rejected", "kto_tag": "label"}
_COLUMNS = frozenset({"prompt", "query", "response", "history", "messages", *_SHARED, *_ANSWERS})
_TAGS = {
    **{"role_tag": "role", "content_tag": "content"},
    **{tag: tag for tag in ("user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")},
}
_SHOWN = 40


def read_registry(folder: Path) -> dict[str, Any] | None:
    """The entries of a folder's `dataset_info.json` by name; None where it has none, or one that is no registry.

    Raises FinetuiError where it is no JSON.
    """
    path = folder / REGISTRY
    if not path.is_file() or (folder / "state.json").is_file():
        return None
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise FinetuiError(Problem("data.unreadable", {"error": error.strerror or str(error)}, str(path))) from None
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise FinetuiError(Problem("sources.broken-dataset", {"what": one_line(str(error))}, str(path), line)) from None
    if type(entries) is not dict or not any(_is_entry(entry) for entry in entries.values()):
        return None
    return entries


def open_registered(
    folder: Path, entries: Mapping[str, Any], wanted: Iterable[tuple[str, float]], dataset: Dataset, search: Search
) -> None:
    """Find the files of the entries that are wanted, each with its weight; `dataset` is the folder as it was named.

    Without any, a registry of one entry is read; of more, one must be named.
    """
    names = list(wanted)
    if not names and len(entries) > 1:
        local = [name for name, entry in entries.items() if _lies_in(folder, entry)]
        facts = {"count": len(entries), "names": _listed(local or entries), "first": (local or list(entries))[0]}
        search.refuse(Problem("sources.which-dataset", facts, str(folder)), exit_code=USAGE)
    for name, weight in names or [(next(iter(entries)), dataset.weight)]:
        one = replace(dataset, name=f"{folder}:{name}", weight=weight, registry=str(folder / REGISTRY))
        if name in entries:
            _Entry(folder, name, entries[name], search).open(one)
        else:
            near = nearest(name, entries) or next(iter(entries))
            facts = {"name": name, "near": near, "names": _listed(entries)}
            search.refuse(Problem("sources.no-such-dataset", facts, str(folder / REGISTRY)), exit_code=USAGE)


class _Entry:
    """One entry, and what is wrong with it."""

    def __init__(self, folder: Path, name: str, entry: Any, search: Search) -> None:
        self.folder = folder
        self.name = name
        self.entry: dict[str, Any] = entry if type(entry) is dict else {}
        self.search = search
        self.before = len(search.problems)

    def open(self, dataset: Dataset) -> None:
        """Find its files; its columns and tags become a mapping, unless the user has said how to read it."""
        if not _is_entry(self.entry):
            self.wrong("no-source", known=", ".join(sorted(_SOURCES)))
            return
        asked = dataset.reading
        mapping = self.mapping()
        if mapping and not (asked.mapping or asked.format):
            dataset = replace(dataset, reading=replace(asked, mapping=mapping))
            shown = ", ".join(f"{part}={one_line(column)}" for part, column in mapping.items())
            self.search.note("sources.cue-entry", name=one_line(self.name), mapping=shown)
        if count := self.entry.get("num_samples"):
            self.search.note("sources.cue-num-samples", name=one_line(self.name), count=count)
        if len(self.search.problems) == self.before:
            self.open_source(dataset)

    def open_source(self, dataset: Dataset) -> None:
        """Its files: of the hub dataset where that is in a cache, else those beside the registry."""
        subset, split, inside = (self.text(key) for key in ("subset", "split", "folder"))
        if split and "[" in split:
            self.wrong("split-slice", split=split)
            return
        split = None if split == TRAIN else split  # which is read anyhow, also where a folder has no splits
        hub_ids = [hub_id for key in _HUBS if (hub_id := self.text(key))]
        cached = next((found for hub_id in hub_ids if (found := find_cached(hub_id))), None)
        file = self.text("file_name")
        local = self.folder / file if file else None
        if cached is not None:
            open_folder(cached / (inside or ""), subset, split, dataset, self.search)
        elif local is not None and local.is_dir():
            open_folder(local, subset, split, dataset, self.search)
        elif local is not None and local.is_file():
            self.search.add(local, dataset)
        elif hub_ids:
            self.wrong("not-fetched", hub_id=hub_ids[0])
        elif local is None:
            key = next(key for key in _ELSEWHERE if self.text(key))
            self.wrong("elsewhere", key=key, value=one_line(self.entry[key]))
        else:
            self.wrong("absent-file", path=str(local), parent=str(self.folder))

    def mapping(self) -> dict[str, str]:
        """Its columns and tags in our words; empty where it leaves both to the defaults, which are detected."""
        formatting = self.entry.get("formatting", "alpaca")
        if formatting not in _FORMATTINGS:
            self.wrong("formatting", formatting=one_line(str(formatting)), known=", ".join(_FORMATTINGS))
            return {}
        columns, tags = self.words("columns", _COLUMNS), self.words("tags", frozenset(_TAGS))
        if not columns and not tags:
            return {}
        mapping = {_SHARED[key]: column for key, column in columns.items() if key in _SHARED}
        if formatting == "alpaca":
            mapping |= self.of_columns(columns)
        else:
            mapping |= {_TAGS[tag]: value for tag, value in tags.items()}
            if "messages" in columns or not columns:
                mapping["messages"] = columns.get("messages", "conversations")
            else:
                self.wrong("no-column", key="messages", keys=", ".join(columns))
        if self.entry.get("ranking"):
            for key in ("chosen", "rejected"):
                if key in columns:
                    mapping[key] = columns[key]
                else:
                    self.wrong("no-column", key=key, keys=", ".join(columns) or "–")
        elif "kto_tag" in columns:
            mapping["label"] = columns["kto_tag"]
        return mapping

    def of_columns(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The question and answer columns of the alpaca formatting; a question alone is text to be learned whole."""
        asked = "+".join(columns[key] for key in ("prompt", "query") if key in columns)
        if not asked:
            self.wrong("no-column", key="prompt", keys=", ".join(columns))
            return {}
        compared = bool(self.entry.get("ranking"))
        if not compared and "response" not in columns:
            return {"text": asked}
        mapping = {"user": asked}
        if not compared:
            mapping["assistant"] = columns["response"]
        if "history" in columns:
            mapping["history"] = columns["history"]
        return mapping

    def words(self, table: str, known: frozenset[str]) -> dict[str, str]:
        """One table of the entry; a key that LLaMA-Factory does not know, which it would pass over, is wrong."""
        given = self.entry.get(table)
        if given is None:
            return {}
        if type(given) is not dict or not all(value is None or type(value) is str for value in given.values()):
            self.wrong("table", table=table)
            return {}
        for key in given:
            if key not in known:
                near = nearest(key, known) or min(known)
                self.wrong("unknown-key", table=table, key=key, near=near, known=", ".join(sorted(known)))
        return {key: value for key, value in given.items() if value and key in known}

    def text(self, key: str) -> str | None:
        """One value of the entry that is a text."""
        value = self.entry.get(key)
        return value if type(value) is str and value else None

    def wrong(self, what: str, **facts: object) -> None:
        """Keep a mistake of the entry."""
        said = {"name": one_line(self.name), **facts}
        self.search.refuse(Problem(f"sources.entry-{what}", said, str(self.folder / REGISTRY)))


def _is_entry(entry: Any) -> bool:
    """Whether something says where a dataset is."""
    return type(entry) is dict and any(type(entry.get(key)) is str and entry[key] for key in _SOURCES)


def _lies_in(folder: Path, entry: Any) -> bool:
    file = entry.get("file_name") if type(entry) is dict else None
    return type(file) is str and bool(file) and (folder / file).exists()


def _listed(names: Iterable[str]) -> str:
    every = [one_line(name, 60) for name in names]
    return ", ".join(every[:_SHOWN]) + (", …" if len(every) > _SHOWN else "")
