"""What the tests of fetching share: a fetch that does not wait, and the one problem that ended it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finetui.core.errors import FinetuiError, Problem
from finetui.models.fetch.flow import fetch
from finetui.models.fetch.outcome import Fetched, Request

ID = "owner/tiny-chat"
WEIGHTS = "model.safetensors"


def get(words: str = ID, *, waits: list[float] | None = None, **more: Any) -> Fetched:
    """Fetch without waiting between attempts; what would have been waited goes to `waits`."""
    return fetch(Request(words, **more), wait=(waits if waits is not None else []).append)


def refused(call: Callable[[], object]) -> tuple[str, int]:
    """Code and exit code of the first problem."""
    with pytest.raises(FinetuiError) as caught:
        call()
    return caught.value.problems[0].code, caught.value.exit_code


def problem(call: Callable[[], object]) -> Problem:
    """The only problem, whose words can be said in both languages."""
    with pytest.raises(FinetuiError) as caught:
        call()
    (one,) = caught.value.problems
    for lang in ("en", "zh"):
        assert all("{" not in (words or "") for words in (one.message(lang), one.expected(lang), one.next(lang)))
    return one
