"""What the doctor says of hubs and trackers: whether there is a login and whether it holds, never what it is."""

from __future__ import annotations

import contextlib
import email.utils
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from finetui.cli.main import run
from finetui.doctor.logins import read_logins
from finetui.doctor.online import Answer, Network, ask_network
from finetui.models.fetch.sites import HUB, HUB_ENDPOINT, Site
from tests.unit.doctor.situations import findings, interpreter, only, situation, troubles

pytestmark = pytest.mark.unit

SECRET = "hf_veryverysecret"
WANDB = "a1b2" * 10


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who is logged in nowhere and has no proxy; the folder of this user."""
    for variable in (
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE"),
        *("TRANSFORMERS_OFFLINE", "MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN", "MODELSCOPE_ENDPOINT"),
        *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "NETRC", "HTTP_PROXY", "http_proxy", "ALL_PROXY"),
        *("all_proxy", "HTTPS_PROXY", "https_proxy"),
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


@dataclass
class Server:
    """A hub that knows one token, and what time it says that it is."""

    token: str = SECRET
    ahead_s: float = 0.0
    status: int = 200
    address: str = ""


@contextlib.contextmanager
def serving(state: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def date_time_string(self, timestamp: float | None = None) -> str:
            return email.utils.formatdate(time.time() + state.ahead_s, usegmt=True)

        def do_GET(self) -> None:
            asks_who = self.path == "/api/whoami-v2"
            known = self.headers.get("Authorization") == f"Bearer {state.token}"
            self.send_response(401 if asks_who and not known else state.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def test_without_a_login_gated_models_alone_are_out_of_reach() -> None:
    where = situation(logins={"hub": Site(HUB, HUB_ENDPOINT)})
    assert troubles(where) == {}
    assert only(where, "hub-no-login").level == "note"


@pytest.mark.parametrize(
    ("programs", "command"),
    [
        (("hf",), "hf auth login"),
        ((), "/opt/train/bin/python -c 'import huggingface_hub; huggingface_hub.login()'"),
    ],
)
def test_the_login_is_one_that_is_there(programs: tuple[str, ...], command: str) -> None:
    where = situation(logins={"hub": Site(HUB, HUB_ENDPOINT)}, programs=programs)
    assert only(where, "hub-no-login").problem.next() == command
    bare = situation("fetch", logins={"hub": Site(HUB, HUB_ENDPOINT)}, programs=(), interpreter=None)
    assert only(bare, "hub-no-login").problem.next() == "read -rs HF_TOKEN && export HF_TOKEN"


def test_a_login_is_found_in_the_environment_and_in_the_file_of_a_login(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = read_logins({}).hub
    assert hub is not None
    assert hub.token is None
    (nobody / "hf").mkdir()
    (nobody / "hf/token").write_text(f"{SECRET}\n")
    hub = read_logins({}).hub
    assert hub is not None
    assert hub.token == SECRET


@pytest.mark.parametrize(
    ("environment", "netrc", "has", "malformed"),
    [
        ({}, "", False, False),
        ({"WANDB_API_KEY": WANDB}, "", True, False),
        ({"WANDB_API_KEY": f"wandb_v1_{WANDB}_{WANDB}"}, "", True, False),
        ({"WANDB_API_KEY": f" {WANDB}\n"}, "", True, False),
        ({"WANDB_API_KEY": "short"}, "", True, True),
        ({"WANDB_API_KEY": "wandb login " + WANDB}, "", True, True),
        ({}, f"machine api.wandb.ai login user password {WANDB}\n", True, False),
        ({}, "machine api.wandb.ai login user password oops\n", True, True),
        ({}, f"machine other.example login user password {WANDB}\n", False, False),
        ({"WANDB_BASE_URL": "https://w.example:8080/"}, f"machine w.example login u password {WANDB}\n", True, False),
        ({}, "this is { no netrc", False, False),
    ],
)
def test_a_wandb_login_is_told_by_its_form(
    nobody: Path, environment: dict[str, str], netrc: str, has: bool, malformed: bool
) -> None:
    (nobody / ".netrc").write_text(netrc)
    logins = read_logins(environment)
    assert (logins.wandb, logins.wandb_malformed) == (has, malformed)


def test_wandb_is_spoken_of_where_it_is_installed_and_wanted_online() -> None:
    there = interpreter(None, versions={"wandb": "0.31.0"})
    without = {"wandb": False}
    assert "wandb-no-login" not in findings(situation(logins=without))
    finding = only(situation(interpreter=there, logins=without), "wandb-no-login")
    assert (finding.level, finding.problem.next()) == ("note", "/opt/train/bin/python -m wandb login")
    offline = situation(interpreter=there, logins=without, environment={"WANDB_MODE": "offline"})
    assert "wandb-no-login" not in findings(offline)
    wrong = situation(interpreter=there, logins={"wandb_malformed": True})
    assert only(wrong, "wandb-malformed").level == "warning"


@pytest.mark.parametrize(("names", "level"), [(("fetch",), "missing"), ((), "note")])
def test_a_forbidden_network_keeps_from_fetching_alone(names: tuple[str, ...], level: str) -> None:
    finding = only(situation(*names, logins={"is_offline": True}), "offline")
    assert (finding.level, finding.problem.next()) == (level, "unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE")


@pytest.mark.parametrize(
    ("token", "status", "code", "level"),
    [
        (SECRET, 200, "hub-known", "ok"),
        ("hf_revoked", 200, "hub-token-refused", "warning"),
        (None, 200, "hub-reached", "ok"),
    ],
)
def test_a_token_is_asked_of_the_hub_that_it_is_for(token: str | None, status: int, code: str, level: str) -> None:
    with serving(Server(status=status)) as server:
        site = Site(HUB, server.address, token)
        where = situation("fetch", logins={"hub": site, "modelscope": None}, network=ask_network(site, None))
    finding = only(where, code)
    assert finding.level == level
    assert "127.0.0.1" in finding.problem.message()


def test_a_hub_that_cannot_be_reached_names_the_mirror_or_the_variable() -> None:
    network = Network(Answer(False, "Connection refused"), Answer(False, "time out"))
    finding = only(situation("fetch", network=network), "hub-unreached")
    assert (finding.level, finding.problem.next()) == ("missing", "export HF_ENDPOINT=https://hf-mirror.com")
    assert only(situation(network=network), "hub-unreached").level == "warning"
    mirrored = situation("fetch", logins={"hub": Site(HUB, "https://mirror.example")}, network=network)
    assert only(mirrored, "hub-mirror-unreached").problem.next() == "unset HF_ENDPOINT"
    assert only(mirrored, "modelscope-unreached").level == "note"


def test_a_silent_hub_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = Site(HUB, f"http://127.0.0.1:{listener.getsockname()[1]}")
        network = ask_network(silent, None, limit_s=0.05)
    assert network.hub == Answer(False, "time out")


@pytest.mark.parametrize(("ahead", "word"), [(-7200.0, "2 hours ahead"), (86400.0 * 3, "3 days behind")])
def test_a_clock_that_is_far_off_is_found_by_the_hubs(ahead: float, word: str) -> None:
    with serving(Server(ahead_s=ahead)) as server:
        network = ask_network(Site(HUB, server.address), None)
    finding = only(situation("fetch", network=network), "clock-off")
    assert finding.level == "warning"
    assert word in finding.problem.message()
    assert finding.problem.next() == "sudo timedatectl set-ntp true"
    inside = situation("fetch", network=network, host={"is_container": True})
    assert "only the host" in only(inside, "clock-off-container").problem.message()


def test_a_clock_from_before_finetui_was_installed_is_found_without_asking_anybody() -> None:
    said = only(situation(clock_behind_s=86400.0 * 400), "clock-off").problem
    assert "400 days behind" in said.message("en")
    assert "慢了 400 天" in said.message("zh")
    assert "clock-off" not in findings(situation(network=Network(Answer(True, clock_ahead_s=20.0), None)))


@pytest.mark.parametrize("online", [(), ("--online",)])
@pytest.mark.parametrize("form", ["--json", "--lang=en", "--lang=zh"])
@pytest.mark.parametrize(
    "environment",
    [
        {"HF_TOKEN": SECRET, "WANDB_API_KEY": WANDB, "MODELSCOPE_API_TOKEN": SECRET},
        {"HF_TOKEN": f"{SECRET} with blanks", "MODELSCOPE_API_TOKEN": f"{SECRET}\x1b[31m"},
        {"HF_TOKEN": SECRET, "HF_ENDPOINT": f"https://user:{SECRET}@hub.invalid"},
    ],
)
def test_no_token_is_ever_shown(
    environment: dict[str, str],
    form: str,
    online: tuple[str, ...],
    nobody: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (nobody / ".netrc").write_text(f"machine api.wandb.ai login user password {SECRET}{WANDB}\n")
    with serving(Server(token="another")) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        status = run(["doctor", "--for", "fetch", form, *online])
    shown = capsys.readouterr()
    assert status == (0 if "WANDB_API_KEY" in environment else 5)
    assert SECRET not in shown.out + shown.err
    assert WANDB not in shown.out + shown.err
    if form == "--json":
        assert json.loads(shown.out)["ok"] is (status == 0)
