"""A model folder is known by its content, and everything that is wrong with one is said at once."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from finetui.core.errors import FinetuiError
from finetui.core.files import sha256_file
from finetui.models import identify

pytestmark = pytest.mark.unit


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path, home: Path) -> Path:
    """A copy that may be written into."""
    return Path(shutil.copytree(tiny_model, tmp_path / "tiny"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def codes(folder: Path) -> list[str]:
    with pytest.raises(FinetuiError) as caught:
        identify(folder)
    assert caught.value.exit_code == 3
    for problem in caught.value.problems:
        for lang in ("en", "zh"):
            assert problem.message(lang)
            problem.expected(lang)
            problem.next(lang)
    return [problem.code for problem in caught.value.problems]


def test_facts_of_a_model(model: Path) -> None:
    facts = identify(model)
    assert (facts.name, facts.source, facts.revision) == ("tiny", None, None)
    assert (facts.architecture, facts.model_type, facts.dtype) == ("LlamaForCausalLM", "llama", "float32")
    assert (facts.vocab_size, facts.hidden_size, facts.num_hidden_layers) == (512, 64, 2)
    assert facts.max_position_embeddings == 1024
    assert (facts.tie_word_embeddings, facts.has_tokenizer, facts.quantization) == (False, True, None)
    assert facts.parameters == 2 * 512 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64) + 64
    assert facts.files == {path.name: sha256_file(path) for path in model.iterdir()}
    assert facts.custom_code == ()


def test_identity_is_that_of_the_content_wherever_it_lies(model: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    (elsewhere / "README.md").write_text("a page about it")
    assert identify(elsewhere).identity == identify(model).identity


def test_identity_ignores_the_version_of_transformers_and_the_layout_of_config(model: Path) -> None:
    before = identify(model)
    edit(model / "config.json", transformers_version="4.40.0")
    after = identify(model)
    assert after.identity == before.identity
    assert after.files["config.json"] != before.files["config.json"]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"])
def test_a_changed_file_changes_the_identity(model: Path, name: str) -> None:
    before = identify(model).identity
    edit(model / name, something="else")
    assert identify(model).identity != before


def test_a_changed_weight_changes_the_identity_even_where_size_and_time_are_the_same(model: Path) -> None:
    path = model / "model.safetensors"
    before, stat = identify(model).identity, path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert identify(model).identity != before


def test_weights_are_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identify(model)
    read: list[Path] = []
    monkeypatch.setattr("finetui.models.digests.sha256_file", lambda path: read.append(path) or "")
    identify(model)
    assert read == []


def test_custom_code_and_quantisation_are_told(model: Path) -> None:
    classes = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "owner/name--modeling_x.X"}
    edit(model / "config.json", auto_map=classes, quantization_config={"quant_method": "gptq"})
    facts = identify(model)
    assert facts.custom_code == ("configuration_x.py", "owner/name--modeling_x.py")
    assert facts.quantization == "gptq"


def test_sizes_of_a_wrapper_are_those_of_its_language_model(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    sizes = {key: config.pop(key) for key in ("vocab_size", "hidden_size", "num_hidden_layers")}
    (model / "config.json").write_text(json.dumps({**config, "text_config": sizes}))
    assert identify(model).hidden_size == 64


def test_no_folder_and_an_empty_folder(tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        assert codes(folder) == ["models.no-config", "models.no-weights"]


def test_all_that_is_wrong_is_said_at_once(model: Path) -> None:
    (model / "config.json").write_text("[]")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert codes(model) == ["models.bad-config", "models.pickle"]


def test_gguf_alone_is_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-q4.gguf")
    assert codes(model) == ["models.gguf-only"]


def test_an_adapter_is_no_model(model: Path) -> None:
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    (model / "config.json").unlink()
    assert codes(model) == ["models.is-adapter"]


def test_a_config_without_sizes(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "llama"}')
    assert codes(model) == ["models.config-lacks"] * 3


@pytest.mark.parametrize("left", [4, 100, -1])
def test_a_cut_file_is_found_by_its_header(model: Path, left: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    assert codes(model) == ["models.bad-weights" if left == 4 else "models.cut-short"]


@pytest.mark.parametrize(
    "header",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 1\n",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": {}}',
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 59) + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}    ' + b"\0" * 12,
        struct.pack("<Q", 59) + b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]} }    ' + b"\0" * 8,
        b"",
    ],
)
def test_what_is_not_safetensors_is_said_so(model: Path, header: bytes) -> None:
    (model / "model.safetensors").write_bytes(header)
    assert codes(model) == ["models.bad-weights"]


def test_missing_shards_and_a_wrong_index(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00003.safetensors")
    shards = {"model.norm.weight": 1, "a": 2, "b": 3, "c": 1}
    index = {"weight_map": {key: f"model-0000{number}-of-00003.safetensors" for key, number in shards.items()}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert codes(model) == ["models.missing-shard", "models.missing-shard", "models.index-wrong"]


@pytest.mark.parametrize("index", ["{}", "[]", "no json", '{"weight_map": {"a": "../../etc/passwd"}}'])
def test_a_bad_index(model: Path, index: str) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(index)
    assert codes(model) == ["models.bad-index"]


def test_json_nested_without_end_is_no_configuration(model: Path) -> None:
    deep = "[" * 100_000
    (model / "config.json").write_text(deep)
    (model / "model.safetensors").write_bytes(len(deep).to_bytes(8, "little") + deep.encode())
    assert codes(model) == ["models.bad-config", "models.bad-weights"]
    (model / "generation_config.json").write_text(deep)
    (model / "model.safetensors").rename(model / "model.safetensors.index.json")
    (model / "model.safetensors.index.json").write_text(deep)
    assert codes(model) == ["models.bad-config", "models.bad-index"]
