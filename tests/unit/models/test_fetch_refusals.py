"""What a site does not give is explained: where to ask, how to log in, what to try in its place."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest

from finetui.cli.main import run
from finetui.models.fetch.flow import fetch
from finetui.models.fetch.http import Client
from finetui.models.fetch.outcome import Request
from finetui.models.fetch.sites import Site, hub_site
from tests.unit.models.fetching import ID, WEIGHTS, get, problem, refused
from tests.unit.models.loopback import CERTIFICATE, Loopback, files_of, serving

pytestmark = pytest.mark.unit

TOKEN = "hf_0123456789"


def test_a_gated_model_says_where_to_ask_and_how_to_log_in(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    one = problem(get)
    assert one.code == "fetch.gated-login"
    assert f"{hub.address}/{ID}" in (one.expected("en") or "")
    assert one.next("en") == "hf auth login"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    one = problem(get)
    assert (one.code, one.next("en")) == ("fetch.gated", "hf auth whoami")
    assert f"{hub.address}/{ID}" in (one.expected("en") or "")


def test_absent_and_private_are_not_told_apart_but_both_said(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    one = problem(lambda: get("owner/tiny-caht"))
    assert one.code == "fetch.no-repository-login"
    assert "HF_TOKEN" in (one.expected("en") or "")
    hub.token = TOKEN
    assert problem(get).code == "fetch.no-repository-login"
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert problem(get).code == "fetch.no-repository"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert not get().already


def test_the_token_of_a_login_is_used(hub: Loopback, tmp_path: Path) -> None:
    hub.token = TOKEN
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(f"{TOKEN}\n")
    assert get().fetched_bytes


def test_a_token_that_no_header_can_carry_is_not_shown(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_geheim\nX-Evil: 1")
    one = problem(get)
    assert one.code == "fetch.bad-token-text"
    assert "geheim" not in json.dumps(one.to_json())
    monkeypatch.setenv("HF_TOKEN", "hf_пароль")
    assert problem(get).code == "fetch.bad-token-text"


def test_a_server_that_refuses_speaks_no_terminal_codes(hub: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    hub.models["owner/x"] = {}
    hub.gated = True
    hub.words = "\x9b31m\x9d52;c;ZXZpbA==\x9c"
    assert refused(get)[1] == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "")
        assert run(["fetch", ID]) == 3
    said = "".join(capsys.readouterr())
    assert said.isprintable() or all(sign.isprintable() or sign == "\n" for sign in said)


def test_a_mirror_is_asked_in_place_of_the_hub_and_its_pages_are_understood(
    hub: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Loopback(models={"owner/mirrored": hub.models[ID]})) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", f"{mirror.address}/")
        assert get("owner/mirrored").source == "owner/mirrored"
    assert hub.asked == []
    for wrong in ("ftp://x", "no address", "https://user:geheim@host", "http://[::1"):
        monkeypatch.setenv("HF_ENDPOINT", wrong)
        one = problem(get)
        assert (one.code, one.facts["variable"]) == ("fetch.bad-endpoint", "HF_ENDPOINT")
        assert "geheim" not in json.dumps(one.to_json())


def test_what_answers_like_no_hub_is_said_to_be_none(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {f"/api/models/{ID}/revision/main": b"<html>please log in</html>", "/list": b"[]"}
    with serving(Loopback(pages=pages)) as portal:
        monkeypatch.setenv("HF_ENDPOINT", portal.address)
        assert problem(get).code == "fetch.not-the-api"
        for answer in (b"[]", b"{}", b'{"sha": 7}', b'{"sha": "' + b"a" * 40 + b'", "siblings": [7]}', b"[" * 100_000):
            portal.pages[f"/api/models/{ID}/revision/main"] = answer
            assert problem(get).code == "fetch.not-the-api"


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_without_a_network_the_ways_around_are_named(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", nobody())
    waits: list[float] = []
    one = problem(lambda: get(waits=waits))
    assert one.code == "fetch.unreachable"
    assert "HF_ENDPOINT" in (one.expected("en") or "")
    assert "ModelScope" in (one.expected("en") or "")
    assert waits == [1.0, 2.0]
    assert refused(get)[1] == 5


def test_without_a_network_what_is_here_is_named(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    here = get().path
    monkeypatch.setenv("HF_ENDPOINT", nobody())
    one = problem(get)
    assert (one.code, one.facts["first"]) == ("fetch.unreachable-here", str(here))


def test_offline_what_was_fetched_whole_is_enough(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    get(weights=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused(get) == ("fetch.offline-here", 5)
    assert get(weights=False).already
    monkeypatch.delenv("HF_HUB_OFFLINE")
    path = get().path
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetched = get()
    assert (fetched.path, fetched.already, fetched.fetched_bytes) == (path, True, 0)
    assert [note.code for note in fetched.notes] == ["fetch.note-offline"]
    (path / WEIGHTS).write_bytes(b"x")
    assert refused(get) == ("fetch.offline-here", 5)
    assert refused(lambda: get("owner/nowhere")) == ("fetch.offline", 5)
    assert hub.asked == []


def test_a_proxy_carries_what_is_asked_for(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback server is the proxy: it is sent whole addresses."""
    with serving(Loopback(pages={"/rows.jsonl": b"row\n" * 500})) as proxy:
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        fetched = get("http://data.invalid/rows.jsonl")
    assert files_of(fetched.path)["rows.jsonl"] == b"row\n" * 500
    assert {asked.path for asked in proxy.asked} == {"http://data.invalid/rows.jsonl"}


@pytest.mark.parametrize("proxy", ["nonsense://user:geheim@host:1", "http://user:geheim@[::1"])
def test_a_proxy_that_cannot_be_one_is_named_without_its_password(
    hub: Loopback, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    one = problem(get)
    assert one.code == "fetch.bad-proxy"
    assert "geheim" not in json.dumps(one.to_json())


def test_certificates_that_are_not_there_are_named(
    hub: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "nowhere.pem", tmp_path / "empty.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert problem(get).code == "fetch.bad-certificates"


def test_a_server_for_whom_nobody_vouches(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Loopback(models=hub.models), tls=True) as walled:
        monkeypatch.setenv("HF_ENDPOINT", walled.address)
        waits: list[float] = []
        one = problem(lambda: get(waits=waits))
        assert (one.code, waits) == ("fetch.certificate", [])
        assert "SSL_CERT_FILE=" in (one.next("en") or "")
        assert refused(get)[1] == 5
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert get().fetched_bytes


def test_the_token_is_for_one_server() -> None:
    """Not for another port, another scheme, or a host that begins with the same letters."""
    client = Client(Site("hub", "https://hub.invalid", "geheim"))
    own = [client._credentials(httpx.URL(address)) for address in ("https://hub.invalid/x", "https://hub.invalid:443/")]
    assert all(own)
    strangers = ("http://hub.invalid/", "https://hub.invalid:8443/", "https://hub.invalid.evil/", "https://x/")
    assert not any(client._credentials(httpx.URL(address)) for address in strangers)
    client.close()


def test_a_pasted_page_of_another_hub_is_sent_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "geheim")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.invalid")
    assert hub_site("https://elsewhere.invalid").token is None
    assert "geheim" not in repr(hub_site())


@pytest.mark.parametrize("words", ["", "a/b/c", "../x", "owner/", "-rf", "ftp://x/y", "http://", "a b", "modelscope:x"])
def test_words_that_name_nothing(alone: None, words: str) -> None:
    assert refused(lambda: fetch(Request(words))) == ("fetch.bad-reference", 2)
