"""Real samples in the layouts that are converted become the expected records; no other sample is misread or crashes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finetui.core.errors import FinetuiError
from finetui.data import Conversion, convert

pytestmark = pytest.mark.unit

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
EXPECTED = {path.name[:-5]: json.loads(path.read_text("utf-8")) for path in sorted(CORPUS.glob("expected/*.json"))}
LAYOUTS = {"alpaca", "sharegpt", "messages"}
READ = [name for name in EXPECTED if name.endswith((".json", ".jsonl", ".gz")) and "gb18030" not in name]
"""Samples in the containers and the encoding that are read; the others are refused in words."""


def empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def digest(record: dict[str, Any]) -> str:
    """The digest of a record as the corpus defines it: without meta and keys that hold nothing."""
    kept: dict[str, Any] = {}
    for key, value in record.items():
        if key == "meta" or empty(value):
            continue
        if isinstance(value, list) and all(isinstance(item, dict) and "role" in item for item in value):
            value = [{name: part for name, part in item.items() if not empty(part)} for item in value]
        kept[key] = value
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def converted(name: str, tmp_path: Path) -> Conversion:
    path = tmp_path / "neutral"
    path.write_bytes((CORPUS / "files" / name).read_bytes())
    return convert([path], tmp_path / "out", accept_rejected=True)


@pytest.mark.parametrize("name", [name for name in READ if LAYOUTS & set(EXPECTED[name]["format"])])
def test_a_sample_becomes_the_expected_records(name: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    contract = converted(name, tmp_path).to_json()
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()]
    written = [json.loads(line) for line in (tmp_path / "out" / "data.jsonl").read_text("utf-8").splitlines()]

    assert contract["format"] in expected["format"]
    assert contract["stage"] in expected["stage"]
    assert contract["rows"]["total"] == expected["total"]
    assert contract["rows"]["usable"] == expected["usable"]
    assert [row["row"] for row in rejected] == [row["row"] for row in expected["rejected"]]
    for row, wanted in zip(rejected, expected["rejected"], strict=True):
        assert row["code"] in wanted["codes"]
        assert row["line"] == wanted.get("line", row["line"])
    assert Counter(map(digest, written)) == Counter(expected.get("digests", []))


@pytest.mark.parametrize("name", [name for name in READ if not LAYOUTS & set(EXPECTED[name]["format"])])
def test_any_other_sample_is_answered_honestly(name: str, tmp_path: Path) -> None:
    conversion = converted(name, tmp_path)
    contract = conversion.to_json()
    assert contract["format"] in (None, "table", "not-training-data")
    assert contract["rows"]["usable"] == 0
    assert contract["rows"]["rejected"] == contract["rows"]["total"] > 0
    assert conversion.exit_code == 3
    assert not (tmp_path / "out" / "data.jsonl").exists()


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in READ])
def test_a_container_that_is_not_read_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as raised:
        converted(name, tmp_path)
    assert all(problem.file and problem.expected() and problem.next() for problem in raised.value.problems)
