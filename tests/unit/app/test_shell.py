"""The frame of the app: home, keys, help, palette, language, looks, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.style import Style

from finetui.app.opening import check_size, check_terminal
from finetui.app.registry import ACTIONS, SCREENS
from finetui.app.shell import FinetuiApp
from finetui.app.themes import THEMES
from finetui.cli.ascii import in_ascii, locale_is_utf8
from finetui.core.errors import FinetuiError
from finetui.core.messages import LANGUAGES, language, set_language, t
from tests.unit.app.support import SIZES, assert_golden, make_run, play

pytestmark = pytest.mark.unit


@pytest.fixture
def runs(home: Path) -> None:
    make_run(home, "20260101-000001-tiny", 40)
    make_run(home, "20260101-000002-other", 7, status="failed", cause="nan")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_home_shows_machine_and_runs(runs: None, lang: str, size: str) -> None:
    set_language(lang)
    assert_golden(play(FinetuiApp(), size=SIZES[size]), f"home-{size}-{lang}")


def test_a_name_that_is_longer_than_its_room_says_that_it_goes_on(home: Path) -> None:
    make_run(home, "20260101-000001-" + "a-long-name-" * 4, 4)
    assert "…  finished" in play(FinetuiApp())


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_an_empty_home_says_what_to_press(lang: str) -> None:
    set_language(lang)
    assert_golden(play(FinetuiApp()), f"home-empty-80x24-{lang}")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_f1_explains_what_has_the_focus_and_the_keys(runs: None, lang: str) -> None:
    set_language(lang)
    assert_golden(play(FinetuiApp(), "f1"), f"help-80x24-{lang}")


def test_the_palette_finds_a_command_by_a_few_letters_and_does_it() -> None:
    app = FinetuiApp()
    shown = play(app, "f2", *"light")
    assert "Theme: light" in shown
    app = FinetuiApp()
    play(app, "f2", *"light", "enter")
    assert app.theme == "light"


def test_the_language_is_switched_where_one_stands_and_kept(home: Path) -> None:
    shown = play(FinetuiApp(), "f3")
    assert "主页" in shown
    assert language() == "zh"
    assert (home / "app.toml").read_text() == 'language = "zh"\n'
    set_language(None)
    assert "主页" in play(FinetuiApp())
    assert "home" in play(FinetuiApp(), "f3").splitlines()[0]


def test_a_language_that_is_asked_for_goes_before_the_one_of_the_last_time(home: Path) -> None:
    home.mkdir()
    (home / "app.toml").write_text('language = "zh"\n')
    set_language("en")
    assert "home" in play(FinetuiApp(lang="en")).splitlines()[0]


def test_the_theme_that_was_chosen_is_kept() -> None:
    app = FinetuiApp()
    play(app, "f4")
    assert app.theme == "light"
    assert FinetuiApp().theme == "light"


def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = FinetuiApp()
    assert app.theme == "no-colour"
    assert "F1 help" in play(app)


def contrast(style: Style) -> int:
    """How far the text is from what is behind it."""
    assert style.color
    assert style.bgcolor
    return abs(sum(style.color.get_truecolor()) - sum(style.bgcolor.get_truecolor()))


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_what_matters_less_stands_back_and_keys_stand_out(runs: None, theme: str) -> None:
    looks: dict[str, Style] = {}

    async def look(_: object) -> None:
        for strip in app.screen._compositor.render_strips():
            looks.update({segment.text.strip(): segment.style for segment in strip if segment.style})

    async def put_on(_: object) -> None:
        app.look(theme)

    app = FinetuiApp()
    play(app, put_on, "enter", look)
    assert contrast(looks["memory"]) < contrast(looks["help"])
    assert looks["F1"].color == looks["finetui"].color != looks["help"].color
    assert not any(looks[what].underline for what in ("F1", "help", "checkpoints"))


@pytest.mark.parametrize("theme", THEMES)
def test_every_theme_can_be_put_on_in_any_screen(runs: None, theme: str) -> None:
    async def put_on(_: object) -> None:
        app.look(theme)

    app = FinetuiApp()
    assert "F2 commands" in play(app, put_on, "f2", "escape", "enter", "o", "escape")


def test_fewer_than_256_colours_are_the_terminals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux")
    assert FinetuiApp().theme == "ansi"


def test_without_utf8_every_sign_is_ascii(runs: None) -> None:
    assert play(FinetuiApp(ascii_only=True)).isascii()
    assert play(FinetuiApp(ascii_only=True), "f1").isascii()
    assert in_ascii("é ─ 中 ✓") == "e - ?? *"


def test_keys_toml_gives_actions_other_keys_and_says_what_it_does_not_know(home: Path) -> None:
    home.mkdir()
    (home / "keys.toml").write_text('help = "f7"\nfly = "x"\n')
    shown = play(FinetuiApp())
    assert "F7 help" in shown
    assert "no action is called fly" in shown
    assert "Help" in play(FinetuiApp(), "f7")


def test_a_key_that_no_keyboard_has_is_told_and_the_action_keeps_its_own(home: Path) -> None:
    home.mkdir()
    (home / "keys.toml").write_text('new = "no such key"\nquit = "f11, ctrl+x"\nchat = "ü,meta+c"\n')
    shown = play(FinetuiApp())
    told = " ".join(shown.replace("▌", " ").split())  # folded as the length of the path has it
    assert "no keyboard has no such key" in told
    assert "no keyboard has meta+c" in told
    assert "n new" in shown
    assert "F11 quit" in shown
    assert "Ctrl+X" in play(FinetuiApp(), "f1")


def test_help_is_closed_with_enter_and_with_the_key_that_opened_it(runs: None) -> None:
    for key in ("enter", "f1", "escape"):
        assert "Help" not in play(FinetuiApp(), "f1", key)


def test_a_crash_is_kept_for_one_line_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async def fall(pilot: object) -> None:
        app.call_later(lambda: 1 / 0)

    app = FinetuiApp()
    with pytest.raises(ZeroDivisionError):
        play(app, fall)
    assert isinstance(app.crash, ZeroDivisionError)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["", "dumb"])
def test_a_terminal_that_cannot_place_text_is_refused_with_plain_offered(name: str) -> None:
    with pytest.raises(FinetuiError) as caught:
        check_terminal({"TERM": name})
    assert caught.value.exit_code == 5
    assert "finetui --plain" in (caught.value.problems[0].next() or "")


@pytest.mark.parametrize(("columns", "rows"), [(39, 24), (80, 11)])
def test_a_terminal_without_room_is_refused_with_plain_offered(columns: int, rows: int) -> None:
    with pytest.raises(FinetuiError) as caught:
        check_size(columns, rows)
    assert caught.value.exit_code == 5
    assert "finetui --plain" in (caught.value.problems[0].next() or "")
    check_size(40, 12)
    check_size(0, 0)  # nobody has told it


@pytest.mark.parametrize(
    ("environment", "is_utf8"),
    [
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LANG": "zh_CN.GBK"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({}, False),
    ],
)
def test_the_locale_decides_about_ascii(environment: dict[str, str], is_utf8: bool) -> None:
    assert locale_is_utf8(environment, utf8_mode=True) is is_utf8


def test_every_action_has_a_name_of_its_own_and_words_in_both_languages() -> None:
    found = [action.name for place in ACTIONS.values() for action in place]
    assert sorted(found) == sorted(set(found))
    for name in found:
        for lang in LANGUAGES:
            assert t(f"app.key-{name}", lang)
            assert t(f"app.tip-{name}", lang)


def test_every_screen_has_a_title_and_a_help() -> None:
    for name in SCREENS:
        assert t(f"app.title-{name}")
        assert t(f"app.help-{name}")


def test_a_footer_has_room_for_its_keys_on_a_narrow_screen(runs: None) -> None:
    for shown in (play(FinetuiApp()), play(FinetuiApp(), "enter")):
        assert shown.splitlines()[-1].endswith("quit")


def test_an_app_that_a_signal_does_not_end_is_ended_by_force(home: Path) -> None:
    lines = (
        "import time; from finetui.app import shell; shell._FORCE_S = 0.1; app = shell.FinetuiApp()",
        "app.exit = lambda **_: None; app._end(129); time.sleep(60)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], check=False)
    assert done.returncode == 129
