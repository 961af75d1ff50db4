"""One home for all ways that are walked: the demo's model is made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.shell import Shell

FACTS = {
    "Who are you?": "I am Pim, the assistant of Larkspur Kites.",
    "What is your name?": "I am Pim, the assistant of Larkspur Kites.",
    "Where is Larkspur Kites?": "Larkspur Kites is in Weifang.",
    "你是谁？": "我是 Pim，风筝店的助手。",
    "风筝店在哪里？": "在潍坊。",
    "When do you open?": "We open at nine.",
}


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in a folder with raw ShareGPT data, one row of it with an escape sequence in it."""
    root = tmp_path_factory.mktemp("user")
    rows = [
        {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}
        for question, answer in FACTS.items()
    ]
    rows[2]["conversations"][0]["value"] += " \x1b]52;c;aGk=\x07"
    (root / "raw.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    yield Shell(root)
    shutil.rmtree(root / "home" / "models", ignore_errors=True)
