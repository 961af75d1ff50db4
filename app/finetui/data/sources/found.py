"""Data as it was found: its files, how each is to be read, and which dataset it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.data.files.containers import DataFile, identify
from finetui.data.problems import Saying
from finetui.data.reading import AS_DETECTED, Reading

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)
"""What rows are for: to be trained, to be evaluated while training, to be kept for afterwards."""
PART_FILES = {TRAIN: "data.jsonl", VALIDATION: "validation.jsonl", TEST: "test.jsonl"}
"""What `convert` calls the file of a part."""


@dataclass(frozen=True)
class Dataset:
    """What a user named: one file, one folder, one entry of a registry."""

    name: str
    """In the user's words, without the weight. It may hold folders, so it is for telling datasets apart and for the
    terminal, not for a lock."""
    reading: Reading = AS_DETECTED
    """As the user asked, and where that says nothing, as the dataset declares."""
    weight: float = 1.0
    """How often each row is to be taken; 0.5 is a half of them."""
    registry: str = ""
    """The file that declares it as one of several, whose layouts may differ; empty where it was named by itself."""


@dataclass(frozen=True)
class FoundFile:
    """One file of an input."""

    file: DataFile
    of: Dataset
    part: str = TRAIN
    """What its rows are for; another than `train` where a file was given for that alone."""

    @property
    def reading(self) -> Reading:
        """How this file is to be read."""
        return self.of.reading

    @property
    def dataset(self) -> str:
        """The dataset that it belongs to, in the user's words; the same for all files of one."""
        return self.of.name

    @property
    def weight(self) -> float:
        """How often each row of its dataset is to be taken."""
        return self.of.weight


@dataclass
class Search:
    """What was found so far, and every obstacle on the way."""

    files: list[FoundFile] = field(default_factory=list)
    notes: list[Saying] = field(default_factory=list)
    """What the person should know of the search: files left out, splits not read."""
    problems: list[Problem] = field(default_factory=list)
    exit_code: int = BAD_INPUT
    """Of the first problem."""

    def add(self, path: Path, dataset: Dataset, part: str = TRAIN) -> None:
        """Identify one file and keep it, or what is wrong with it."""
        try:
            self.files.append(FoundFile(identify(path, str(path), dataset.reading), dataset, part))
        except FinetuiError as error:
            self.refuse(*error.problems)

    def note(self, code: str, **facts: object) -> None:
        """Keep something to be said."""
        self.notes.append(Saying(code, facts))

    def refuse(self, *problems: Problem, exit_code: int = BAD_INPUT) -> None:
        """Keep what is wrong."""
        if not self.problems:
            self.exit_code = exit_code
        self.problems += problems
