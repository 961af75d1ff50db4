"""What is trained of each row, what is set aside, and that somebody hears of it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from finetui.bundles.folder import Bundle
from finetui.bundles.rows import Row, read_rows
from finetui.core.encode import encode, load_template, load_tokenizer
from finetui.core.errors import FinetuiError
from finetui.core.files import canonical_json
from finetui.models.identify import identify
from tests.unit.bundles.conftest import RECORDS, SETTINGS, Lock, chat

pytestmark = pytest.mark.unit


def rows(bundle: Path, part: str = "train") -> list[Row]:
    return list(read_rows(bundle / f"data/{part}.parquet"))


def settings(**changes: Any) -> dict[str, tuple[Any, str]]:
    return {**SETTINGS, **{knob: (value, "test") for knob, value in changes.items()}}


def test_rows_hold_record_ids_and_labels_as_the_encoder_gives_them(bundle: Path, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    template = load_template(tiny_model, tokenizer)
    encoded = [encode(record, tokenizer, template) for record in RECORDS]
    assert rows(bundle) == [
        Row(canonical_json(record), row.input_ids, row.labels) for record, row in zip(RECORDS, encoded, strict=True)
    ]
    schema = pyarrow.parquet.read_schema(bundle / "data/train.parquet")
    assert schema.names == ["record", "input_ids", "labels"]
    assert [str(schema.types[0]), *(str(kind.value_type) for kind in schema.types[1:])] == ["string", "int32", "int32"]
    facts = Bundle.load(bundle).lock["data"]["train"]
    assert facts["tokens"] == sum(len(row.input_ids) for row in encoded)
    assert facts["trained_tokens"] == sum(label != -100 for row in encoded for label in row.labels)
    assert facts["lengths"]["max"] == max(len(row.input_ids) for row in encoded)


def test_several_processes_prepare_the_same_bytes(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetui.bundles.encoding._PIECE_CHARACTERS", 100)
    records = [*RECORDS, {"messages": []}, *({**record, "_part": "validation"} for record in RECORDS[:3])]
    alone = lock(tmp_path / "alone", records, accept_rejected=True)
    shared = lock(tmp_path / "shared", records, accept_rejected=True, processes=2)
    assert shared.id == alone.id
    assert shared.warnings == alone.warnings


def test_a_row_that_would_lose_trained_tokens_is_dropped_and_counted(lock: Lock, tmp_path: Path) -> None:
    locked = lock(tmp_path / "b", [*RECORDS, chat("?", "x" * 300)])
    assert len(rows(locked.path)) == len(RECORDS)
    [warning] = locked.warnings
    assert (warning.code, warning.facts["count"], warning.facts["row"]) == ("bundles.rows-overlong", 1, 13)
    assert Bundle.load(locked.path).lock["data"]["set_aside"] == {"refused": 0, "untrained": 0, "overlong": 1}


def test_a_row_is_cut_where_that_was_chosen(lock: Lock, tmp_path: Path) -> None:
    locked = lock(tmp_path / "b", [chat("?", "x" * 300)], settings=settings(overlong="cut"))
    [row] = rows(locked.path)
    assert len(row.ids) == len(row.labels) == 200
    assert [warning.code for warning in locked.warnings] == ["bundles.rows-cut"]


def test_a_row_that_loses_only_untrained_tokens_is_cut_without_a_word(lock: Lock, tmp_path: Path) -> None:
    record = chat("?", "x")
    record["messages"].append({"role": "user", "content": "y" * 300})
    locked = lock(tmp_path / "b", [record])
    [row] = rows(locked.path)
    assert len(row.ids) == 200
    assert locked.warnings == ()


def test_a_row_without_anything_to_learn_is_set_aside(lock: Lock, tmp_path: Path) -> None:
    silent = {"messages": [{"role": "user", "content": "hello?"}]}
    locked = lock(tmp_path / "b", [silent, *RECORDS])
    assert len(rows(locked.path)) == len(RECORDS)
    [warning] = locked.warnings
    assert (warning.code, warning.facts["count"], warning.facts["row"]) == ("bundles.rows-untrained", 1, 1)


def test_no_row_left_is_an_error_that_says_where_they_went(lock: Lock, tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as error:
        lock(tmp_path / "b", [chat("?", "x" * 300), {"messages": [{"role": "user", "content": "hello?"}]}])
    [problem] = error.value.problems
    assert (problem.code, problem.facts["untrained"], problem.facts["overlong"]) == ("bundles.no-rows", 1, 1)
    assert not (tmp_path / "b").exists()


def test_a_template_that_does_not_stop_is_warned_about(lock: Lock, tmp_path: Path, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    endless = tmp_path / "endless.jinja"
    endless.write_text("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}")
    locked = lock(tmp_path / "b", template=load_template(tiny_model, tokenizer, str(endless)))
    [warning] = locked.warnings
    assert (warning.code, warning.facts["count"]) == ("bundles.rows-unstopped", len(RECORDS))


def test_many_refused_rows_need_a_yes(lock: Lock, tmp_path: Path, tiny_model: Path) -> None:
    strict = tmp_path / "strict.jinja"
    text = load_template(tiny_model, load_tokenizer(tiny_model)).text
    strict.write_text("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + text)
    template = load_template(tiny_model, load_tokenizer(tiny_model), str(strict))
    refused = chat("?", "x")
    refused["messages"].insert(0, {"role": "system", "content": "be brief"})
    records = [*RECORDS, refused]
    with pytest.raises(FinetuiError) as error:
        lock(tmp_path / "b", records, template=template)
    assert [problem.code for problem in error.value.problems] == ["bundles.too-many-refused", "bundles.refused-row"]
    assert error.value.problems[1].facts["row"] == 13
    locked = lock(tmp_path / "b", records, template=template, accept_rejected=True)
    assert [warning.code for warning in locked.warnings] == ["bundles.rows-refused"]
    assert len(rows(locked.path)) == len(RECORDS)


def test_an_id_without_an_embedding_is_refused(lock: Lock, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(FinetuiError) as error:
        lock(tmp_path / "b", model=replace(identify(tiny_model), vocab_size=258))
    assert [problem.code for problem in error.value.problems] == ["bundles.beyond-vocabulary"]


def test_each_part_has_its_own_file(lock: Lock, tmp_path: Path) -> None:
    held = [{**chat("held?", f"{n}"), "_part": part} for n, part in enumerate(("validation", "test", "test"))]
    path = lock(tmp_path / "b", [*RECORDS, *held]).path
    assert [len(rows(path, part)) for part in ("train", "eval", "test")] == [len(RECORDS), 1, 2]
    data = Bundle.load(path).lock["data"]
    assert [data[part]["rows"] for part in ("train", "eval", "test")] == [len(RECORDS), 1, 2]
    assert data["test"]["file"] == "data/test.parquet"


def test_a_part_of_which_no_row_can_be_used_is_told(lock: Lock, tmp_path: Path) -> None:
    locked = lock(tmp_path / "b", [*RECORDS, {**chat("?", "x" * 300), "_part": "validation"}])
    assert [warning.code for warning in locked.warnings] == ["bundles.rows-overlong", "choose.part-empty"]
    assert Bundle.load(locked.path).lock["data"]["eval"] is None


def test_raw_text_is_locked_too(lock: Lock, tmp_path: Path) -> None:
    locked = lock(tmp_path / "b", [{"text": "Once upon a time"}], stage="pt")
    [row] = rows(locked.path)
    assert row.labels == row.ids
    assert locked.warnings == ()


def test_memory_stays_flat(lock: Lock, tmp_path: Path) -> None:
    def many(count: int):
        return ({**chat(f"Question {n}?", "answer " * 20), "_row": n} for n in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        lock(tmp_path / str(count), many(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(8000) < 1.5 * peak(2500)
