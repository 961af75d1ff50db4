"""A data file as it was found: what it is made of, how it is to be read, and which dataset it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from finetui.data.containers import DataFile
from finetui.data.reading import AS_DETECTED, Reading


@dataclass(frozen=True)
class FoundFile:
    """One file of an input."""

    file: DataFile
    reading: Reading = AS_DETECTED
    """How this file is to be read: as the user asked, and where that says nothing, as its dataset declares."""
    dataset: str = ""
    """The dataset as the user named it, without its weight: a file, a folder, `DIR:NAME`, a hub id; the same for all of
    its files. It may hold folders, so it is for telling datasets apart and for the terminal, not for a lock."""
    weight: float = 1.0
    """How often each row of the dataset is to be taken; 0.5 is a half of them."""
