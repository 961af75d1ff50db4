"""The chat against an endpoint on loopback: what is shown, asked, stopped, saved; and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from finetui.app.registry import make
from finetui.app.screens.chat import Chat
from finetui.app.screens.chat_seat import Seat, state_of
from finetui.app.screens.chat_who import _to_compare
from finetui.app.shell import FinetuiApp
from finetui.app.widgets.transcript import Transcript
from finetui.chat.said import Answer
from finetui.chat.who import Who
from finetui.core.messages import set_language
from tests.unit.app.endpoint import Served, serving
from tests.unit.app.support import NARROW, SIZES, Act, assert_golden, picture, play, settled, until

pytestmark = pytest.mark.unit

HOSTILE = "[INST] x [/INST] [/b] \x1b]52;c;cHdu\x07\x1b[31mred \u202eover\u202c <|im_end|> <<SYS>> " + "long" * 60


@pytest.fixture(autouse=True)
def same_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer comes at the same speed."""
    monkeypatch.setattr(Answer, "tokens_per_second", 25.0)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint() -> Iterator[Served]:
    with serving() as served:
        yield served


def chat(*endpoints: Served, model: str = "parrot") -> FinetuiApp:
    return FinetuiApp(first=make("chat", *(f"{each.address} {model}" for each in endpoints)))


async def answered(pilot: Pilot[Any]) -> None:
    """Wait until nobody is being loaded or asked any more."""
    await until(pilot, lambda: not any(each.is_running for each in pilot.app.workers), "the end of the answers")
    await settled(pilot)


def talk(app: FinetuiApp, *acts: Act, size: tuple[int, int] = NARROW) -> str:
    """What the app shows after these acts, each key of more than a letter followed by the answers that it sets off."""
    waited = [[act, answered] if isinstance(act, str) and len(act) > 1 else [act] for act in acts]
    return play(app, answered, *(each for group in waited for each in group), size=size)


def shown_by(app: FinetuiApp, *acts: Act, served: Served, size: tuple[int, int] = NARROW) -> str:
    """The screen with the port, which is another each time, as 8000."""
    port = served.address.rsplit(":", 1)[1].removesuffix("/v1")
    return talk(app, *acts, size=size).replace(f"127.0.0.1:{port} ", f"127.0.0.1:8000{' ' * (len(port) - 3)}", 1)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_a_conversation_is_shown_with_how_each_answer_ended(endpoint: Served, lang: str, size: str) -> None:
    set_language(lang)
    endpoint.says = ["Foreign ", "text: [INST] a [/INST]", " [/b]\nsecond line"]
    endpoint.reason = "length"

    shown = shown_by(chat(endpoint), *"Hello", "enter", *"And?", "enter", served=endpoint, size=SIZES[size])

    assert_golden(shown.replace(endpoint.address, "http://127.0.0.1:8000/v1"), f"chat-{size}-{lang}")


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("size", SIZES)
def test_two_answer_side_by_side_each_with_its_own_history(lang: str, size: str) -> None:
    set_language(lang)
    with serving(says=["one"]) as one, serving(says=["two ", "is longer than the pane is wide, so it goes on"]) as two:
        app = chat(one, two)
        shown = shown_by(app, *"Hi", "enter", *"Bye", "enter", served=one, size=SIZES[size])
        port = two.address.rsplit(":", 1)[1].removesuffix("/v1")
        shown = shown.replace(f"127.0.0.1:{port} ", f"127.0.0.1:9000{' ' * (len(port) - 3)}")
        assert_golden(shown, f"chat-two-{size}-{lang}")

    for served, word in ((one, "one"), (two, "two is longer than the pane is wide, so it goes on")):
        assert served.requests[1]["messages"] == [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": word},
            {"role": "user", "content": "Bye"},
        ]


def test_what_a_model_says_is_shown_as_it_is_and_cannot_drive_the_terminal(endpoint: Served) -> None:
    endpoint.says = [HOSTILE[place : place + 7] for place in range(0, len(HOSTILE), 7)]

    words = shown_by(chat(endpoint), *"Hello", "enter", served=endpoint)
    raw = shown_by(chat(endpoint), *"Hello", "enter", "f8", served=endpoint)

    for shown in (words, raw):
        assert "[INST] x [/INST] [/b] red �over� <|im_end|> <<SYS>>" in shown
        assert "".join(shown.split()).replace("│", "").count("long") >= 60
        assert all(character.isprintable() or character == "\n" for character in shown)
    assert '{"role": "user", "content": "Hello"}' in raw


def test_escape_ends_an_answer_at_once_and_what_came_is_kept(endpoint: Served) -> None:
    endpoint.says, endpoint.waits_after = ["so ", "far", "never"], 2
    seen: list[str] = []

    async def stop(pilot: Pilot[Any]) -> None:
        await pilot.press(*"Hello", "enter")
        await until(pilot, lambda: "so far" in picture(pilot.app), "the first words")
        seen.append(picture(pilot.app))
        await pilot.press("escape")
        await settled(pilot)

    shown = play(chat(endpoint), stop)

    assert "answering: 2" in seen[0]
    assert "Esc stop" in seen[0]
    assert "so far" in shown
    assert "never" not in shown
    assert "stopped by you" in shown
    assert "answering" not in shown


def test_the_settings_are_sent_and_a_number_out_of_range_is_not_taken(endpoint: Served) -> None:
    acts = ["f7", *"Be brief.", "tab", "home", "shift+end", *"0.7", "tab", "home", "shift+end", "9", "enter"]

    refused = talk(chat(endpoint), *acts)
    shown = talk(chat(endpoint), *acts, "home", "shift+end", *"0.9", "enter", *"Hello", "enter")

    assert "a number > 0, <= 1" in refused
    assert "temperature 0.7 · seed 42 · system prompt" in shown
    request = endpoint.requests[0]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (request["temperature"], request["top_p"], request["max_tokens"], request["seed"]) == (0.7, 0.9, 256, 42)


def test_a_conversation_is_saved_as_rows_and_to_be_read(endpoint: Served, tmp_path: Path) -> None:
    endpoint.says = ["```\n", HOSTILE]
    file = tmp_path / "new" / "talk"

    rename = ["home", "shift+end", *str(file), "enter"]
    shown = talk(chat(endpoint), *"Hello", "enter", "f9", *rename, size=SIZES["120x40"])

    assert "added to" in shown
    row = json.loads(file.with_name("talk.jsonl").read_text())
    assert row == {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "```\n" + HOSTILE},
        ]
    }
    text = file.with_name("talk.md").read_text()
    assert f"````text\n```\n{HOSTILE}\n````" in text
    assert "3 tokens, 25.0 tokens/s, stop" in text


def test_what_is_not_saved_is_asked_about_before_one_leaves(endpoint: Served) -> None:
    app = FinetuiApp()

    async def open_chat(pilot: Pilot[Any]) -> None:
        app.open("chat", f"{endpoint.address} parrot")

    asked = talk(app, open_chat, *"Hello", "enter", "escape")
    assert "The conversation is not saved." in asked
    app = FinetuiApp()
    assert "finetui chat" in talk(app, open_chat, *"Hello", "enter", "escape", "escape")
    app = FinetuiApp()
    assert "finetui home" in talk(app, open_chat, *"Hello", "enter", "escape", "down", "enter")


def test_what_is_not_saved_is_asked_about_before_the_app_ends(endpoint: Served) -> None:
    asked = talk(chat(endpoint), *"Hello", "enter", "f10", "f10")
    assert "The conversation is not saved." in asked
    app = chat(endpoint)
    assert "OK" in talk(app, *"Hello", "enter", "f10", "escape")
    assert app.return_value is None
    app = chat(endpoint)
    talk(app, "f10")
    assert app.return_value == 0


def test_a_refusal_is_one_line_and_the_question_can_be_asked_again(endpoint: Served) -> None:
    endpoint.status, endpoint.error = 429, "slow \x1b[1mdown"

    def mend() -> None:
        endpoint.status = 200

    async def again(pilot: Pilot[Any]) -> None:
        mend()
        await pilot.press("ctrl+r")

    refused = talk(chat(endpoint), *"Hello", "enter", size=SIZES["120x40"])
    shown = talk(chat(endpoint), again)
    assert "refused: 429 slow down" in refused
    endpoint.status = 429
    shown = talk(chat(endpoint), *"Hello", "enter", again)
    assert "OK" in shown
    assert "429" not in shown
    assert endpoint.requests[-1]["messages"] == [{"role": "user", "content": "Hello"}]


def test_an_endpoint_that_is_not_there_or_is_none_is_one_line(endpoint: Served) -> None:
    endpoint.raw = b"data: <html>\n\n"
    assert "no OpenAI-compatible" in talk(chat(endpoint), *"Hello", "enter", size=SIZES["120x40"])
    gone = Served(address="http://127.0.0.1:9/v1")
    assert "no answer from http://127.0.0.1:9/v1" in talk(chat(gone), *"Hello", "enter", size=SIZES["120x40"])


def test_a_message_that_waits_for_its_model_is_said_to(endpoint: Served) -> None:
    seat = Seat(endpoint.address, Transcript(), loading={})
    assert "sent once it is there" in state_of(seat, stopped=False, then=True).plain
    assert "sent" not in state_of(seat, stopped=False).plain


def test_of_an_address_with_several_models_one_is_chosen_from_a_list(endpoint: Served) -> None:
    endpoint.models = ["first/one", "second\x1b[1m"]
    app = FinetuiApp(first=make("chat", endpoint.address))
    shown = talk(app, "f5")
    assert "first/one @" in shown
    assert "second @" in shown
    app = FinetuiApp(first=make("chat", endpoint.address))
    talk(app, "f5", "enter", *"Hello", "enter")
    assert endpoint.requests[-1]["model"] == "first/one"


def test_an_answer_that_is_cut_in_the_middle_is_no_whole_one(endpoint: Served) -> None:
    endpoint.raw = b'data: {"choices": [{"delta": {"content": "so far"}}]}\n\n'
    shown = talk(chat(endpoint), *"Hello", "enter", size=SIZES["120x40"])
    assert "so far" in shown
    assert "the connection ended in the middle" in shown
    endpoint.raw = b"<html>hello</html>"
    assert "no OpenAI-compatible" in talk(chat(endpoint), *"Hello", "enter", size=SIZES["120x40"])
    endpoint.raw = b'data: {"error": {"message": "out of memory"}}\n\n'
    assert "refused: out of memory" in talk(chat(endpoint), *"Hello", "enter", size=SIZES["120x40"])


def test_the_only_model_of_an_address_need_not_be_named(endpoint: Served) -> None:
    assert "parrot @" in talk(FinetuiApp(first=make("chat", endpoint.address)))
    endpoint.models = ["a", "b"]
    shown = talk(FinetuiApp(first=make("chat", endpoint.address)), size=SIZES["120x40"])
    assert "does not say which model: a, b" in shown


def test_the_key_goes_to_its_own_place_alone_and_is_never_shown(
    endpoint: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    talk(chat(endpoint), *"Hello", "enter")
    assert endpoint.keys == [None]

    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.address)
    endpoint.status, endpoint.error = 401, "Incorrect API key provided: sk-secret"
    shown = talk(chat(endpoint), *"Hello", "enter", size=SIZES["120x40"])
    assert endpoint.keys[-1] == "Bearer sk-secret"
    assert "provided: ***" in shown
    assert "sk-secret" not in shown


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    shown = talk(FinetuiApp(first=make("chat", "http://me:hidden@127.0.0.1:9/v1 m")), size=SIZES["120x40"])
    assert "is no address of an endpoint" in shown
    assert "hidden" not in shown


def test_without_anybody_named_one_chooses_and_the_endpoint_at_hand_is_offered(
    endpoint: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.address)
    monkeypatch.setenv("OPENAI_MODEL", "parrot")
    app = FinetuiApp()

    offered = talk(app, "c")
    assert "Who answers" in offered
    shown = talk(FinetuiApp(), "c", *"parrot", "enter", *"Hello", "enter")
    assert "OK" in shown


def test_somebody_comes_beside_with_what_was_said_and_goes_again(endpoint: Served) -> None:
    with serving(says=["other"], models=["other"]) as other:
        beside = ["f6", *f"{other.address} other", "enter"]

        two = talk(chat(endpoint), *"Hi", "enter", *beside, *"Bye", "enter")
        assert [message["content"] for message in other.requests[0]["messages"]] == ["Hi", "OK", "Bye"]
        assert "other @" in two
        one = talk(chat(endpoint), *"Hi", "enter", *beside, "f6", "up", "enter")
        assert "other @" not in one


@pytest.mark.parametrize(
    ("seated", "first"), [("tuned", "base"), ("base", "tuned"), ("checkpoint", "tuned"), ("endpoint", "tuned")]
)
def test_beside_somebody_the_other_to_compare_with_is_offered_first(seated: str, first: str) -> None:
    run = [Who(kind, "/run", "mine") for kind in ("tuned", "checkpoint", "base")]
    found = [*run, Who("tuned", "/other", "other"), Who("endpoint", "http://h m", "m")]
    sits = next(who for who in found if who.kind == seated)
    offers = _to_compare(found, [sits])
    assert (offers[0].kind, offers[0].name) == (first, "mine")
    assert offers[-1] == sits
    assert sorted(map(str, offers)) == sorted(map(str, found))


def test_who_answers_already_is_not_the_first_that_is_offered_beside(endpoint: Served) -> None:
    endpoint.models = ["parrot", "second"]
    app = chat(endpoint)
    shown = talk(app, "f6")
    assert shown.index("second @") < shown.rindex("parrot @")
    talk(chat(endpoint), "f6", "enter", *"Hello", "enter")
    assert {request["model"] for request in endpoint.requests[-2:]} == {"parrot", "second"}


def test_a_new_conversation_forgets_and_up_brings_back_what_was_sent(endpoint: Served) -> None:
    shown = talk(chat(endpoint), *"Hello", "enter", "ctrl+n", "up")
    assert "OK" not in shown
    assert "Hello" in shown
    talk(chat(endpoint), *"First", "enter", "ctrl+n", *"Second", "enter")
    assert endpoint.requests[-1]["messages"] == [{"role": "user", "content": "Second"}]


def test_a_message_may_have_several_lines(endpoint: Served) -> None:
    talk(chat(endpoint), *"One", "alt+enter", *"Two", "enter")
    assert endpoint.requests[0]["messages"][0]["content"] == "One\nTwo"


def test_the_language_is_switched_in_the_middle_of_a_conversation(endpoint: Served) -> None:
    shown = talk(chat(endpoint), *"Hello", "enter", "f3")
    assert "自行结束" in shown
    assert isinstance(chat(endpoint).get_default_screen(), Chat)
