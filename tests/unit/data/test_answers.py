"""What `inspect`, `convert` and `iter_records` answer as a whole."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.data import Reading, convert, inspect, iter_records
from tests.unit.data.write import ALPACA, MESSAGES, SHAREGPT, jsonl, put, records

pytestmark = pytest.mark.unit

BAD = {"messages": None}


def many(count: int) -> list[Any]:
    return [
        {"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "b"}]} for n in range(count)
    ]


def test_up_to_one_percent_set_aside_needs_no_yes(tmp_path: Path) -> None:
    assert convert([put(tmp_path / "x", [*many(99), BAD])], tmp_path / "out").exit_code == 0


def test_more_than_one_percent_needs_a_yes_and_is_written_either_way(tmp_path: Path) -> None:
    put(tmp_path / "x", [*many(98), BAD])
    refused = convert([tmp_path / "x"], tmp_path / "out")
    accepted = convert([tmp_path / "x"], tmp_path / "again", accept_rejected=True)
    assert (refused.exit_code, accepted.exit_code) == (3, 0)
    for name in ("data.jsonl", "rejected.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert len(records(tmp_path / "out")) == 98
    (problem,) = refused.refusals()
    assert str(problem.next()).endswith("--accept-rejected")


def test_nothing_usable_is_refused_even_with_a_yes(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}
    assert convert([put(tmp_path / "x", [row])], tmp_path / "out", accept_rejected=True).exit_code == 3


def test_converting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    put(tmp_path / "x", [*MESSAGES, BAD, *MESSAGES])
    written = []
    for _ in range(2):
        convert([tmp_path / "x"], tmp_path / "out")
        written.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"data.jsonl", "rejected.jsonl", "report.json"}
    assert (
        hashlib.sha256(written[0]["data.jsonl"]).hexdigest() == json.loads(written[0]["report.json"])["out"]["sha256"]
    )


def test_a_conversion_that_breaks_off_leaves_the_old_files(tmp_path: Path) -> None:
    convert([put(tmp_path / "x", MESSAGES)], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    put(tmp_path / "x", json.dumps(many(50)).encode()[:-5])
    with pytest.raises(FinetuiError):
        convert([tmp_path / "x"], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_conversion_leaves_nothing_half_written(number: int, code: int, tmp_path: Path) -> None:
    path, part = put(tmp_path / "x", ALPACA * 100_000), tmp_path / "out" / "data.jsonl.part"
    command = [sys.executable, "-m", "finetui", "convert", str(path), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not part.exists():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait() == code
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_command_still_answers_with_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetui.data.inspect", interrupted)
    assert run(["inspect", str(put(tmp_path / "x", ALPACA)), "--json"]) == 130
    assert [each["code"] for each in json.loads(capfd.readouterr().out)["errors"]] == ["cli.interrupted"]


def test_where_nothing_can_be_written_the_next_command_looks_at_what_is_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = put(tmp_path / "x", ALPACA)
    (tmp_path / "out" / "data.jsonl").mkdir(parents=True)
    for out, there in ((source / "deep" / "er", source), (tmp_path / "out", tmp_path / "out" / "data.jsonl")):
        assert run(["convert", str(source), "--out", str(out), "--json"]) == 3
        (problem,) = json.loads(capfd.readouterr().out)["errors"]
        assert (problem["code"], problem["next"]) == ("cli.system", f"ls -ld {there}")


@pytest.mark.parametrize("fill", ["name", "=Milo", "{{}}=Milo", ""])
def test_a_text_for_no_placeholder_is_a_usage_error(
    fill: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(put(tmp_path / "x", ALPACA)), "--out", str(tmp_path / "out"), "--fill", fill, "--json"]
    assert run(arguments) == 2
    assert [each["code"] for each in json.loads(capfd.readouterr().out)["errors"]] == ["choose.bad-fill"]


@pytest.mark.parametrize("name", ["data.jsonl", "rejected.jsonl"])
def test_a_full_disk_is_named_by_the_file_that_found_it_so(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "x", [*many(2000), *({"messages": None, "other": n} for n in range(2000))])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{name}.part").symlink_to("/dev/full")
    assert run(["convert", str(tmp_path / "x"), "--out", str(tmp_path / "out"), "--json"]) == 5
    (problem,) = json.loads(capfd.readouterr().out)["errors"]
    assert (problem["code"], problem["file"]) == ("cli.disk-full", str(tmp_path / "out" / name))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["data.jsonl", "rejected.jsonl"])
def test_a_source_is_never_written_over(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = put(tmp_path / name, ALPACA)
    before = source.read_bytes()
    assert run(["convert", str(source), "--out", str(tmp_path), "--json"]) == 3
    assert [each["code"] for each in json.loads(capfd.readouterr().out)["errors"]] == ["data.out-is-input"]
    assert [source.read_bytes(), *tmp_path.glob("*.part")] == [before]


def test_an_empty_word_is_no_path(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "", "--json"]) == 2
    assert [each["code"] for each in json.loads(capfd.readouterr().out)["errors"]] == ["cli.bad-parameter"]


def test_files_of_different_layouts_are_refused_by_name(tmp_path: Path) -> None:
    first, second = put(tmp_path / "first", ALPACA), put(tmp_path / "second", SHAREGPT)
    conversion = convert([first, second], tmp_path / "out")
    contract = conversion.to_json()
    assert contract["format"] is None
    assert [file["format"] for file in contract["files"]] == ["alpaca", "sharegpt"]
    assert contract["rows"]["usable"] == 0
    assert conversion.exit_code == 3
    (problem,) = conversion.refusals()
    assert f"{first}: alpaca; {second}: sharegpt" in problem.message()


def test_the_sample_sees_the_middle_of_a_large_file(tmp_path: Path) -> None:
    odd = {"conversations": [{"from": "human", "value": "x" * 800}, {"from": "gpt", "value": "b"}]}
    usual = {"instruction": "y" * 800, "output": "c"}
    rows = [usual] * 300 + [odd] * 9000 + [usual] * 300
    for content in (jsonl(rows), json.dumps(rows, indent=1).encode(), json.dumps(rows).encode()):
        inspection = inspect([put(tmp_path / "x", content)])
        assert inspection.format == "sharegpt"
        assert [other["format"] for other in inspection.to_json()["alternatives"]] == ["alpaca"]


def test_a_file_of_two_layouts_asks_which_is_meant(tmp_path: Path) -> None:
    rows = [*ALPACA * 10, *MESSAGES * 9]
    random.Random(1).shuffle(rows)
    put(tmp_path / "x", rows)
    asked = inspect([tmp_path / "x"]).to_json()
    assert [option["value"] for option in asked["question"]["options"]] == ["alpaca", "messages"]
    assert asked["question"]["default"] == "alpaca"
    other = inspect([tmp_path / "x"], Reading(format="messages"))
    assert (other.format, other.input.usable) == ("messages", 27)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FinetuiError) as raised:
        inspect([put(tmp_path / "x", MESSAGES)], Reading(format="mesages"))
    assert raised.value.exit_code == 2
    assert "messages" in str(raised.value.problems[0].expected())


def test_data_that_does_not_serve_the_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FinetuiError):
        inspect([put(tmp_path / "x", MESSAGES)], Reading(stage="dpo"))


def test_records_come_with_their_place_and_their_sources(tmp_path: Path) -> None:
    first = put(tmp_path / "a.jsonl", [*many(150), BAD])
    second = put(tmp_path / "b.json", json.dumps(SHAREGPT).encode())
    seen: list[Any] = []
    found = iter_records([first], on_problem=seen.append)
    got = list(found)
    assert [(item.place.file, item.place.row) for item in got[:2]] == [(str(first), 1), (str(first), 2)]
    assert [problem.code for problem in seen] == ["null-content"]
    (source,) = found.sources
    assert source.to_json() == {
        "name": "a.jsonl",
        "sha256": hashlib.sha256(first.read_bytes()).hexdigest(),
        "bytes": first.stat().st_size,
        "format": "messages",
        "mapping": {"messages": "messages"},
        "rows": {"total": 151, "usable": 150, "rejected": 1, "repaired": 0},
    }
    assert [item.record for item in iter_records([second])] == [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
        {"messages": [{"role": "user", "content": "{brace } in text"}, {"role": "assistant", "content": '"quoted"'}]},
    ]


def test_records_are_refused_over_one_percent_unless_accepted(tmp_path: Path) -> None:
    path = put(tmp_path / "x", [*many(9), BAD])
    with pytest.raises(FinetuiError):
        list(iter_records([path]))
    assert len(list(iter_records([path], accept_rejected=True))) == 9
    with pytest.raises(FinetuiError):
        iter_records([put(tmp_path / "y", [{"problem": "a", "solution": "b"}])])


def test_hostile_text_is_harmless_wherever_it_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    evil = "\x1b]0;title\x07\x1b[2J[red]\u202e\x9b31m"
    rows = [
        {"messages": [{"role": "user", "content": evil}, {"role": "assistant", "content": evil}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": evil, "content": "b"}]},
        {evil: evil},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], evil: 1},
    ]
    path = put(tmp_path / "x\x1b[2Jy", rows)
    for arguments in (
        ["inspect", str(path)],
        ["inspect", str(path), "--json"],
        ["inspect", str(path), "--plain", "--lang", "zh"],
        ["convert", str(path), "--out", str(tmp_path / "out")],
        ["inspect", str(put(tmp_path / "z", [{evil: "a", "b": evil}]))],
        ["convert", str(tmp_path / "z"), "--out", str(tmp_path / "out")],
    ):
        run(arguments)
        shown = "".join(capfd.readouterr())
        assert shown
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)


def test_the_commands_answer_with_their_contracts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    path = put(tmp_path / "x.jsonl", [*MESSAGES, BAD])
    assert run(["inspect", str(path), "--json"]) == 0
    inspected = json.loads(capfd.readouterr().out)
    assert inspected["rows"] == {"total": 4, "usable": 3, "rejected": 1, "repaired": 0}
    assert inspected["problems"] == [
        {
            "code": "null-content",
            "count": 1,
            "examples": [
                {
                    "file": str(path),
                    "row": 4,
                    "line": 4,
                    "byte": len(jsonl(MESSAGES)),
                    "detail": "messages: None",
                }
            ],
        }
    ]
    assert run(["convert", str(path), "--out", str(tmp_path / "out"), "--json"]) == 3
    shown = capfd.readouterr()
    assert (
        json.loads(shown.out)["out"]["sha256"] == hashlib.sha256((tmp_path / "out/data.jsonl").read_bytes()).hexdigest()
    )
    assert "--accept-rejected" in shown.err
    assert run(["convert", str(path), "--out", str(tmp_path / "out"), "--accept-rejected"]) == 0
    assert "3 usable" in capfd.readouterr().out
    assert run(["inspect", str(tmp_path / "nowhere"), "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["errors"][0]["code"] == "data.no-such-path"


def test_lines_for_people_fit_80_columns(tmp_path: Path, capfd: pytest.CaptureFixture[str], home: Path) -> None:
    wide = {"messages": [{"role": "user", "content": "宽" * 300}, {"role": "旁白" * 100, "content": "b"}]}
    put(tmp_path / "x", [*MESSAGES, wide])
    for lang in ("en", "zh"):
        assert run(["inspect", str(tmp_path / "x"), "--lang", lang]) == 0
        for line in capfd.readouterr().out.splitlines():
            assert sum(2 if ord(character) > 0x2E7F else 1 for character in line) <= 80


def test_rows_of_one_line_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps([{"instruction": "a", "output": f"b{n}" if n != 6 else ""} for n in range(9)]))
    assert run(["inspect", str(path), "--lang", "en"]) == 0
    assert "one.json:1 (row 7)" in capsys.readouterr().out
