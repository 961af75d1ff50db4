"""Rows of every kind as the trainer sees them, and a row token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from finetui.core.encode import NOT_TRAINED, EncodeError, Span, encode, encode_rows, encode_views, kind_of, pieces
from finetui.core.encode.encoded import labelled
from tests.encoding import FAMILIES, WEATHER, assistant, call, load, result, seen, trained_bpe, user, write_model

pytestmark = pytest.mark.unit

ASKED = [user("Hi"), assistant("Hello!"), user("And now?")]
GOOD, BAD = [assistant("Bye.")], [assistant("Go away!")]


@pytest.fixture(scope="module")
def zephyr(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer and template that close every turn with `</s>`."""
    folder = tmp_path_factory.mktemp("zephyr")
    return load(write_model(folder, FAMILIES["zephyr"].template))


def shown(model: Any, record: dict[str, Any]) -> dict[str, str]:
    """Each side of a record, trained tokens between « and »."""
    return {view.side: seen(model[0], view.row) for view in encode_views(record, *model)}


def test_a_preference_pair_trains_the_two_answers_and_nothing_of_the_prompt(zephyr: Any) -> None:
    prompt = "<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n<|user|>\nAnd now?</s>\n<|assistant|>\n"
    assert shown(zephyr, {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}) == {
        "chosen": f"{prompt}«Bye.</s>»\n",
        "rejected": f"{prompt}«Go away!</s>»\n",
    }


def test_feedback_trains_the_completion_alone(zephyr: Any) -> None:
    found = shown(zephyr, {"prompt": ASKED[:1], "completion": BAD, "label": False})
    assert found == {"completion": "<|user|>\nHi</s>\n<|assistant|>\n«Go away!</s>»\n"}


def test_a_prompt_is_what_serving_sends(zephyr: Any) -> None:
    assert shown(zephyr, {"prompt": ASKED[:1]}) == {"prompt": "<|user|>\nHi</s>\n<|assistant|>\n"}


def test_an_answer_of_several_messages_is_one_side(zephyr: Any, tmp_path: Path) -> None:
    qwen = load(write_model(tmp_path / "qwen", FAMILIES["qwen2_5"].template, "<|endoftext|>", "<|im_end|>"))
    chosen = [assistant(tool_calls=[call("weather", {"city": "Bonn"})]), result("sunny"), assistant("Sunny.")]
    found = shown(qwen, {"prompt": ASKED[:1], "chosen": chosen, "rejected": BAD, "tools": [WEATHER]})
    assert "Sunny.<|im_end|>»" in found["chosen"]
    assert '"city": "Bonn"' in found["chosen"].split("«")[1]
    assert "# Tools" in found["rejected"]


def test_segments_are_trained_exactly_where_they_say(zephyr: Any) -> None:
    segments = [
        {"label": False, "text": "<s>Ask: "},
        {"label": True, "text": "you</s>"},
        {"label": False, "text": "\n"},
    ]
    row = encode({"text": "<s>Ask: you</s>\n", "segments": segments}, *zephyr)
    assert seen(zephyr[0], row) == "<s>Ask: «you</s>»\n"
    assert row.text == "<s>Ask: you</s>\n"
    assert row.spans == (Span(8, 15, 1, "text"),)
    assert row.input_ids == [i for part in segments for i in zephyr[0].encode(part["text"]).ids]


def test_ids_that_came_are_kept_without_their_padding(zephyr: Any) -> None:
    ids = zephyr[0].encode("Hello there").ids
    labels = [NOT_TRAINED, *ids[1:]]
    padded = {
        "input_ids": [0, *ids, 0, 0],
        "labels": [NOT_TRAINED, *labels, NOT_TRAINED, NOT_TRAINED],
        "attention_mask": [0, *[1] * len(ids), 0, 0],
    }
    for record in (padded, {"input_ids": ids, "labels": labels}):
        row = encode(record, *zephyr)
        assert (row.input_ids, row.labels, row.text) == (ids, labels, "Hello there")


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"input_ids": [1, 9999], "labels": [1, 9999]}, "encode.unknown-id"),
        ({"input_ids": [1, -1], "labels": [1, 1]}, "encode.unknown-id"),
        ({"input_ids": [1, 2], "labels": [1]}, "encode.uneven-ids"),
        ({"question": "x"}, "encode.unknown-kind"),
    ],
)
def test_ids_of_another_model_and_unknown_kinds_are_refused(zephyr: Any, record: dict[str, Any], code: str) -> None:
    with pytest.raises(EncodeError) as refused:
        encode_views(record, *zephyr)
    assert refused.value.problems[0].code == code


def test_a_step_is_judged_at_the_end_of_its_line(zephyr: Any) -> None:
    record = {"prompt": "1+1+1?", "completions": ["1+1 is 2.", "2+1 is 4."], "labels": [True, False]}
    (view,) = encode_views(record, *zephyr)
    assert view.side == "steps"
    assert view.row.text == "1+1+1?\n1+1 is 2.\n2+1 is 4.\n".replace("?\n", "?")
    assert [label for label in view.row.labels if label != NOT_TRAINED] == [1, 0]
    assert view.row.labels[-1] == 0
    assert [(view.row.text[span.start : span.end], span.part) for span in view.row.spans] == [
        ("1+1 is 2.", "right"),
        ("2+1 is 4.", "wrong"),
    ]


def test_kinds_are_told_by_their_keys() -> None:
    records = [
        {"messages": []},
        {"text": ""},
        {"text": "", "segments": []},
        {"prompt": [], "chosen": [], "rejected": []},
    ]
    records += [{"prompt": [], "completion": [], "label": True}, {"prompt": []}, {"input_ids": [], "labels": []}]
    records += [{"prompt": "", "completions": [], "labels": []}, {"x": 1}]
    kinds = ["chat", "text", "segments", "preference", "feedback", "prompts", "tokens", "stepwise", "unknown"]
    assert [kind_of(record) for record in records] == kinds


def test_the_stretches_of_trained_tokens_are_the_answers(zephyr: Any) -> None:
    row = encode({"messages": [*ASKED, *GOOD]}, *zephyr)
    answers = [zephyr[0].decode(row.input_ids[a:b], skip_special_tokens=False) for a, b in row.trained()]
    assert answers == ["Hello!</s>", "Bye.</s>"]


@given(st.text(max_size=60))
def test_pieces_make_up_the_text(zephyr: Any, text: str) -> None:
    tokenizer, template = zephyr
    chat = encode({"messages": [user(text), assistant(text + "a")]}, tokenizer, template)
    for row in (chat, encode({"text": text}, tokenizer, template)):
        found = pieces(row, tokenizer)
        assert len(found) == len(row.input_ids)
        assert "".join(found).removesuffix("</s>") == row.text.removesuffix("</s>")


def test_pieces_name_the_tokens_that_stand_for_no_text(zephyr: Any) -> None:
    tokenizer, template = zephyr
    assert pieces(encode({"text": "Hello"}, tokenizer, template), tokenizer)[-1] == "</s>"
    ids = tokenizer.encode("天气 ½</s>").ids
    assert len(ids) > 5
    found = pieces(encode({"input_ids": ids, "labels": ids}, tokenizer, template), tokenizer)
    assert len(found) == len(ids)
    assert "".join(found) == "天气 ½</s>"


def _tokenizers() -> dict[str, Tokenizer]:
    """Tokenizers whose offsets behave differently: trimmed spaces, spaces as signs, changed characters."""
    byte_level = Tokenizer.from_str(trained_bpe())
    trimmed = Tokenizer.from_str(trained_bpe())
    trimmed.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, trim_offsets=True)
    folded = Tokenizer.from_str(trained_bpe())
    folded.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    words = Tokenizer(models.WordLevel({"▁a": 0, "▁": 1, "a": 2, "<unk>": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    prefixed = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    prefixed.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    prefixed.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    for tokenizer in (byte_level, trimmed, folded, words, prefixed):
        tokenizer.add_special_tokens(["</s>"])
    return {"bytes": byte_level, "trimmed": trimmed, "folded": folded, "words": words, "prefixed": prefixed}


TOKENIZERS = _tokenizers()


@pytest.mark.parametrize("name", TOKENIZERS)
@given(
    st.lists(st.sampled_from(["a", " ", "  ", "½", "天", "é", "</s>", "\n", "🙂", "Hello"]), max_size=30).map("".join),
    st.lists(st.integers(0, 40), max_size=6, unique=True).map(sorted),
)
def test_a_token_is_trained_where_any_of_its_characters_is(name: str, text: str, cuts: list[int]) -> None:
    encoding = TOKENIZERS[name].encode(text, add_special_tokens=False)
    ends = [cut for cut in cuts if cut <= len(text)]
    spans = [Span(a, b, 0, "text") for a, b in zip(ends[::2], ends[1::2], strict=False)]

    def trained(start: int, end: int) -> bool:
        return any(
            span.start <= start < span.end if start == end else start < span.end and span.start < end for span in spans
        )

    expected = [i if trained(*at) else NOT_TRAINED for i, at in zip(encoding.ids, encoding.offsets, strict=True)]
    assert labelled(encoding.ids, encoding, spans) == expected


def test_a_conversation_in_several_rows_has_a_view_for_each(zephyr: Any) -> None:
    record = {"messages": [*ASKED, *GOOD]}
    assert [view.row for view in encode_views(record, *zephyr)] == list(encode_rows(record, *zephyr))
