"""Every visible string exists in both languages, with the same facts, and every code that is used exists."""

import re
import string
from pathlib import Path

import pytest

import finetui
from finetui.core.messages import entry, language, set_language, t, table

pytestmark = pytest.mark.unit

PACKAGE = Path(finetui.__file__).parent
AREAS = sorted(path.stem for path in (PACKAGE / "core" / "messages").glob("*.toml"))
ENTRIES = [(area, name) for area in AREAS for name in table(area)]
USED = re.compile(r"""(?:\bt|Problem|help_code=|\bFailure)\(?\s*["']([a-z]+\.[a-z0-9-]+)["']""")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize(("area", "name"), ENTRIES)
def test_both_languages_say_the_same_facts(area: str, name: str) -> None:
    found = table(area)[name]
    parts = {"": found, **{part: found[part] for part in ("expected", "next") if part in found}}
    for text in parts.values():
        if not isinstance(text, str):
            assert text["en"].strip()
            assert text["zh"].strip()
            assert fields(text["en"]) == fields(text["zh"])
    assert set(found) <= {"en", "zh", "expected", "next"}


@pytest.mark.parametrize(("area", "name"), ENTRIES)
def test_what_was_expected_comes_with_what_to_do(area: str, name: str) -> None:
    found = table(area)[name]
    assert "next" in found or "expected" not in found


def test_every_code_in_the_source_is_in_the_table() -> None:
    missing = []
    for path in PACKAGE.rglob("*.py"):
        for code in USED.findall(path.read_text(encoding="utf-8")):
            area, _, name = code.partition(".")
            if area not in AREAS or name not in table(area):
                missing.append(f"{path.name}: {code}")
    assert missing == []


def test_language_comes_from_the_environment_and_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language() == "zh"
    assert t("cli.interrupted") == "已中断"
    set_language("en")
    try:
        assert t("cli.interrupted") == "interrupted"
    finally:
        set_language(None)
    with pytest.raises(KeyError):
        entry("cli.no-such-code")


def test_foreign_facts_are_made_harmless() -> None:
    assert "\x1b" not in t("cli.no-such-command", word="\x1b]52;c;x\x07evil")
