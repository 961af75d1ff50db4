"""Text beside a head, whose further lines begin below its first."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_LEAST = 20
"""Cells that the text has in any case, however narrow the terminal and wide the head."""


def print_hanging(console: Console, head: Text, text: str | Text) -> None:
    """A head with a text beside it, wrapped at words, nothing at the ends of lines."""
    whole = text if isinstance(text, Text) else Text(text)
    for line in whole.wrap(console, max(_LEAST, console.width - head.cell_len)):
        line.rstrip()
        console.print(head + line, soft_wrap=True)
        head = Text(" " * head.cell_len)


def padded(text: str, width: int) -> str:
    """`text` with blanks up to so many cells."""
    return text + " " * max(0, width - cell_len(text))
