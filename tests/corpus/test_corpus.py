"""Every real sample, under a neutral name, becomes what it must: format, stage, counts, rejected rows, every record."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finetui.data import convert, inspect

pytestmark = pytest.mark.unit

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
EXPECTED = {path.name[:-5]: json.loads(path.read_text("utf-8")) for path in sorted(CORPUS.glob("expected/*.json"))}


def is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def digest(record: dict[str, Any], kind: str) -> str:
    """The digest of a record as the corpus defines it: without meta and keys that hold nothing."""
    kept: dict[str, Any] = {}
    for key, value in record.items():
        if key == "meta" or is_empty(value) or (kind == "prompts" and key != "prompt"):
            continue
        if isinstance(value, list) and all(isinstance(item, dict) and "role" in item for item in value):
            value = [{name: part for name, part in item.items() if not is_empty(part)} for item in value]
        kept[key] = value
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def readings(expected: dict[str, Any]) -> list[dict[str, Any]]:
    """What is expected, and the other readings that are as good."""
    return [expected, *({**expected, "rejects_all": False, **other} for other in expected.get("alternatives", []))]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def hold_nothing(expected: dict[str, Any], contract: dict[str, Any], out: Path) -> None:
    """Data that is not for training: counted, not converted, only reported."""
    rows = contract["rows"]
    assert rows["total"] == (expected["total"] or rows["total"]) > 0
    assert (rows["usable"], rows["rejected"]) == (0, rows["total"])
    assert contract["problems"] == []
    assert [path.name for path in out.iterdir()] == ["report.json"]


def hold_rejected(expected: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> None:
    assert [row["row"] for row in rejected] == [row["row"] for row in expected]
    for row, wanted in zip(rejected, expected, strict=True):
        assert row["code"] in wanted["codes"]
        assert row["line"] == wanted.get("line", row["line"])


def hold_records(expected: list[str | list[str]], found: list[str]) -> None:
    """Every record is expected, each expectation is met once; a row may accept several records."""
    left = Counter(found)
    for accepted in sorted(([one] if isinstance(one, str) else one for one in expected), key=len):
        met = next((each for each in accepted if left[each]), None)
        assert met is not None, f"no record is {accepted}"
        left[met] -= 1
    assert left.total() == 0


@pytest.mark.skipif(not EXPECTED, reason="the corpus is not on this machine")
def test_the_corpus_is_whole() -> None:
    assert len(EXPECTED) == 78
    assert sorted(EXPECTED) == sorted(path.name for path in CORPUS.glob("files/*"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_becomes_what_it_must(name: str, tmp_path: Path) -> None:
    source, out = tmp_path / "neutral", tmp_path / "out"
    source.write_bytes((CORPUS / "files" / name).read_bytes())
    contract = convert([str(source)], out, accept_rejected=True).to_json()
    expected = next((e for e in readings(EXPECTED[name]) if contract["format"] in e["format"]), None)

    assert expected is not None, f"read as {contract['format']}"
    assert (contract["stage"] or "none") in expected["stage"]
    if expected.get("rejects_all"):
        hold_nothing(expected, contract, out)
        return
    rows, rejected = contract["rows"], lines(out / "rejected.jsonl")
    assert (rows["total"], rows["usable"]) == (expected["total"], expected["usable"])
    assert rows["rejected"] == rows["total"] - rows["usable"] == len(rejected)
    hold_rejected(expected["rejected"], rejected)
    hold_records(expected["digests"], [digest(record, expected["kind"]) for record in lines(out / "data.jsonl")])


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected["usable"]])
def test_a_converted_sample_converts_to_itself(name: str, tmp_path: Path) -> None:
    first = convert([str(CORPUS / "files" / name)], tmp_path / "first", accept_rejected=True)
    again = convert([str(tmp_path / "first" / "data.jsonl")], tmp_path / "again")
    assert again.sha256 == first.sha256 is not None
    assert again.to_json()["rows"]["rejected"] == 0
    assert inspect([str(tmp_path / "first")]).stage == first.inspection.stage
