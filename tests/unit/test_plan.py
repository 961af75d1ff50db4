"""`finetui plan`: the contract, what a person sees, and what it does with odd input."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from finetui.cli.main import run
from tests.tiny import make_tiny_model
from tests.unit.recipes.planning import QWEN7B, put

pytestmark = pytest.mark.unit

KEYS = {
    "fits", "gpus", "predicted_peak_bytes", "band", "breakdown", "settings", "reasons", "tokens", "disk_bytes",
    "seconds", "ways_out",
}  # fmt: skip
PARTS = ["weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead"]
ROWS = 40


@pytest.fixture
def qwen(tmp_path: Path) -> str:
    """A folder with the config.json of Qwen2.5-7B and nothing else."""
    return str(put(tmp_path / "qwen2.5-7b", QWEN7B))


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Forty chats."""
    path = tmp_path / "chats.jsonl"
    for_each = [
        [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": f"{number + 1}, " * 9}]
        for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in for_each))
    return str(path)


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and contract."""
    code = run(["plan", *words, "--json"])
    out = capsys.readouterr().out
    read: dict[str, Any] = json.loads(out)
    return code, read


def errors(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Exit code and codes; every error has a next command."""
    code, read = planned(capsys, *words)
    assert all(error["next"] for error in read["errors"])
    return code, [error["code"] for error in read["errors"]]


def test_a_7b_model_is_too_large_for_full_fine_tuning_on_a_3090_and_qlora_fits(
    qwen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, full = planned(capsys, "--model", qwen, "--recipe", "full-a100x4", "--gpu", "rtx3090")
    assert (code, full["fits"], len(full["ways_out"])) == (5, False, 3)
    assert full["gpus"] == [{"kind": "rtx3090", "total_bytes": 24 << 30}]
    assert any("QLoRA" in way["text"] or "LoRA" in way["text"] for way in full["ways_out"])
    code, qlora = planned(capsys, "--model", qwen, "--recipe", "qlora-3090", "--gpu", "rtx3090")
    assert (code, qlora["fits"], qlora["ways_out"]) == (0, True, [])


@pytest.mark.parametrize("recipe", ["qlora-3090", "full-a100x4", "kto-lora"])
def test_the_contract_is_whole_whether_it_fits_or_not(
    recipe: str, qwen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = planned(capsys, "--model", qwen, "--recipe", recipe, "--gpu", "rtx3090:2")
    assert set(found) >= KEYS
    assert list(found["breakdown"]) == PARTS
    assert sum(found["breakdown"].values()) == pytest.approx(found["predicted_peak_bytes"], abs=10)
    assert found["band"][0] <= found["predicted_peak_bytes"] <= found["band"][1]
    assert found["fits"] == (found["band"][1] <= found["free_bytes"])
    assert found["settings"].keys() == found["reasons"].keys()
    assert all(found["reasons"].values())
    assert len(found["gpus"]) == 2
    assert (found["tokens"], found["seconds"]) == (None, None)
    if recipe != "full-a100x4":  # which says a length
        assert found["reasons"]["max_length"] == "assumed, since no data was given: 2048 tokens"


def test_lora_at_a_rate_of_full_fine_tuning_is_warned_about(qwen: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = planned(capsys, "--model", qwen, "--recipe", "qlora-3090", "--set", "learning_rate=1e-5", "--gpu", "l4")
    (warning,) = found["warnings"]
    assert warning["code"] == "rules.low-rate"
    assert "1e-05 is low for LoRA" in warning["message"]


def test_data_gives_tokens_steps_time_and_money(qwen: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", qwen, "--data", data, "--recipe", "qlora-3090", "--gpu", "rtx3090", "--price", "0.3")
    code, found = planned(capsys, *words)
    assert code == 0
    assert found["tokens"]["rows"] == ROWS
    assert found["tokens"]["estimated"] is True  # there is no tokenizer, and it says so
    assert any("estimated from characters" in said for said in found["unmeasured"])
    assert 0 < found["tokens"]["p50"] <= found["tokens"]["p95"] <= found["tokens"]["max"]
    assert 0 < found["tokens"]["trained"] < found["tokens"]["total"]
    assert found["steps"] == 9  # three times ⌈40 / 16⌉
    assert found["settings"]["max_length"] == found["tokens"]["max"]
    assert found["seconds"] > 9 * found["seconds_per_step"]
    assert found["cost"]["amount"] == pytest.approx(0.3 * found["seconds"] / 3600, abs=0.01)


def test_a_tokenizer_counts_and_the_second_plan_reads_no_data(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(make_tiny_model(tmp_path / "tiny"))
    words = ("--model", model, "--data", data, "--recipe", "lora-3090", "--val-size", "10")
    code, first = planned(capsys, *words)
    assert code == 0
    assert (first["tokens"]["estimated"], first["tokens"]["rows"], first["tokens"]["evaluation_rows"]) == (
        False,
        30,
        10,
    )

    def unread(*_: object, **__: object) -> None:
        raise AssertionError("the data was read again")

    monkeypatch.setattr("finetui.wizard.open_datasets", unread)
    assert planned(capsys, *words)[1]["tokens"] == first["tokens"]
    monkeypatch.undo()
    Path(data).write_text(Path(data).read_text() * 2)
    assert planned(capsys, *words)[1]["tokens"]["rows"] == 2 * ROWS - 10


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("recipe", ["qlora-3090", "full-a100x4", "dpo-lora", "dora-3090"])
def test_a_person_sees_it_in_80_columns(
    recipe: str, lang: str, qwen: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code = run(["plan", "--model", qwen, "--recipe", recipe, "--gpu", "rtx3090", "--price", "2", "--lang", lang])
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].startswith("✓ " if code == 0 else "✗ ")
    to_be_copied = ("finetui ", "warning:", "警告", "next:", "下一步", "expected:", "应为")
    for line in lines:
        assert line == line.rstrip()
        assert cell_len(line) <= 80 or line.strip().startswith(to_be_copied), line
    assert "\x1b" not in shown.out
    for knob in ("max_length", "learning_rate", "dtype", "save_steps"):
        assert any(line.split()[:1] == [knob] for line in lines)
    commands = [line.strip() for line in lines if line.strip().startswith("finetui plan --model")]
    assert len(commands) == (0 if code == 0 else 3)


def test_a_name_that_commands_a_terminal_is_shown_harmlessly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = put(tmp_path / "odd\x1b[2J\u202e", QWEN7B)
    run(["plan", "--model", str(model), "--recipe", "full-a100x4", "--gpu", "rtx3090"])
    shown = capsys.readouterr()
    assert not {"\x1b", "\u202e"} & {*shown.out, *shown.err}


def test_every_message_of_a_plan_is_in_the_language_asked_for(qwen: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", "--model", qwen, "--recipe", "full-a100x4", "--gpu", "rtx3090", "--lang", "zh"])
    shown = capsys.readouterr().out
    assert "放不下" in shown
    assert "放得下的方案" in shown
    for english in ("It ", "by recipe", "optimizer states", "unmeasured", "likely", "as derived", "rows of"):
        assert english not in shown


def test_planning_imports_no_torch(qwen: str, data: str) -> None:
    words = ["plan", "--model", qwen, "--data", data, "--recipe", "qlora-3090", "--gpu", "rtx3090"]
    program = (
        "import sys; from finetui.cli.main import run; "
        f"code = run({words!r}); "
        "heavy = {'torch', 'transformers', 'peft', 'accelerate', 'datasets', 'bitsandbytes'} & set(sys.modules); "
        "sys.exit(99 if heavy else code)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", str(tmp_path / "no"), "--recipe", "qlora-3091", "--gpu", "rtx9090", "--set", "rr=1")
    _, codes = errors(capsys, *words)
    assert codes == ["recipes.not-found-near", "knobs.unknown-near", "hardware.unknown-kind", "models.not-found"]


@pytest.mark.parametrize(
    ("gpu", "code"),
    [
        ("rtx9090", "hardware.unknown-kind"),
        ("", "hardware.unknown-kind"),
        ("rtx3090:0", "hardware.bad-count"),
        ("rtx3090:many", "hardware.bad-count"),
    ],
)
def test_a_gpu_that_there_is_not(gpu: str, code: str, qwen: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(capsys, "--model", qwen, "--recipe", "qlora-3090", "--gpu", gpu) == (2, [code])


@pytest.mark.parametrize("price", ["-1", "abc", "nan", "inf", "1e308"])
def test_a_price_that_is_none(price: str, qwen: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(capsys, "--model", qwen, "--recipe", "qlora-3090", "--price", price) == (2, ["cli.bad-parameter"])


TEXT = json.dumps(QWEN7B)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (TEXT[:200], "models.bad-config"),
        ("", "models.bad-config"),
        ("[1]", "models.bad-config"),
        ("[" * 100_000, "models.bad-config"),
        (TEXT.replace("3584", "NaN"), "models.config-lacks"),
        (TEXT.replace("3584", "1e400"), "models.config-lacks"),
        (TEXT.replace("3584", "-5"), "models.config-lacks"),
        (TEXT.replace("3584", "9" * 30), "models.config-lacks"),
        (TEXT.replace('"num_hidden_layers": 28', '"num_hidden_layers": 999999999'), "models.config-lacks"),
        *((TEXT.replace(f'"{key}"', '"x"'), "models.config-lacks") for key in ("hidden_size", "vocab_size")),
    ],
)
def test_a_configuration_that_is_none(text: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(text)
    assert errors(capsys, "--model", str(tmp_path), "--recipe", "qlora-3090", "--gpu", "l4") == (3, [code])


@pytest.mark.parametrize(
    "changed",
    [
        {"max_position_embeddings": 0},
        {"max_position_embeddings": "many"},
        {"architectures": 7},
        {"architectures": []},
        {"model_type": 5},
        {"torch_dtype": "float99"},
        {"quantization_config": []},
        {"text_config": [1]},
        {"auto_map": [1]},
        {"model_type": "my\x1b[2Jstery", "auto_map": {"AutoModel": "../x.Y"}},
    ],
)
def test_an_odd_configuration_is_planned(
    changed: Mapping[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(put(tmp_path, {**QWEN7B, **changed}))
    code, found = planned(capsys, "--model", model, "--recipe", "qlora-3090", "--gpu", "rtx3090")
    assert (code, found["fits"]) == (0, True)


def test_data_without_a_row_is_an_error(qwen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "hollow.jsonl").write_text('{"messages": []}\n' * 5)
    for name, code in (("empty", "data.empty-file"), ("hollow", "data.not-training-data")):
        words = ("--model", qwen, "--recipe", "qlora-3090", "--data", str(tmp_path / f"{name}.jsonl"))
        assert errors(capsys, *words) == (3, [code])


def test_a_share_that_is_none_is_refused_before_there_is_data(qwen: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--model", qwen, "--recipe", "qlora-3090", "--gpu", "rtx3090", "--set", "val_size=1.5"]) == 2
    assert "val_size = 1.5" in capsys.readouterr().err
