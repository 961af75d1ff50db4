"""Foreign text cannot reach the terminal's controls, and innocent text is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetui.core.text import one_line, safe_text

pytestmark = pytest.mark.unit

HOSTILE = {
    "clipboard write (OSC 52)": "a\x1b]52;c;aGk=\x07b",
    "title (OSC 0, ST)": "a\x1b]0;owned\x1b\\b",
    "C1 OSC": "a\x9d52;c;aGk=\x9cb",
    "unterminated OSC": "ab\x1b]52;c;aGk=",
    "clear screen": "a\x1b[2Jb",
    "C1 CSI": "a\x9b2Jb",
    "charset": "a\x1b(0b",
    "full reset": "a\x1bcb",
    "DCS": "a\x1bPq#0\x1b\\b",
    "colour": "a\x1b[31;1mb\x1b[0m",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_control_sequences_are_dropped_whole(payload: str) -> None:
    assert safe_text(payload) == "ab"


def test_other_codes_become_visible_or_vanish() -> None:
    assert safe_text("a\x00b\x08c\x7f") == "a␀b␈c␡"
    assert safe_text("a\u202eb\u2066c") == "a�b�c"
    assert safe_text("a\u200bb\ufeffc\U000e0041d") == "abcd"
    assert safe_text("a\ud800b") == "a�b"
    assert safe_text("a\r\nb\u2028c\x85d\re") == "a\nb\nc\nd\ne"


def test_markup_emoji_and_scripts_stay() -> None:
    for text in ("[INST] x [/INST]", "[/x]", "👩‍👩‍👧 ❤️", "你好，世界\n\tx", "नमस्ते", "<|im_end|>"):
        assert safe_text(text) == text


def test_long_text_is_cut_with_a_sign() -> None:
    assert safe_text("x" * 100, 10) == "x" * 9 + "…"
    assert one_line("a\nb\tc") == "a⏎b→c"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for character in safe_text(text):
        assert character in "\n\t" or not (ord(character) < 32 or 127 <= ord(character) < 160)
        assert not 0xD800 <= ord(character) < 0xE000
