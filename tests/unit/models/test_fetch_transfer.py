"""What comes is what the site has promised, however often the line breaks and whatever stands in between."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from finetui.cli.main import run
from finetui.core.errors import FinetuiError
from finetui.models.fetch.check import check
from finetui.models.fetch.flow import fetch
from finetui.models.fetch.outcome import Request
from tests.unit.models.fetching import ID, WEIGHTS, get, problem, refused
from tests.unit.models.loopback import Loopback, files_of, serving

pytestmark = pytest.mark.unit

DATA = "/files/data/rows.jsonl"


def weights_of(hub: Loopback) -> bytes:
    return hub.models[ID][WEIGHTS]


def ranges(hub: Loopback, path: str = WEIGHTS) -> list[str]:
    return [asked.headers.get("Range", "") for asked in hub.requests_of(path) if "/api/" not in asked.path]


def test_a_broken_line_is_gone_on_with_where_it_broke(hub: Loopback) -> None:
    hub.cut_after[WEIGHTS] = 5000
    waits: list[float] = []
    fetched = get(waits=waits)
    assert files_of(fetched.path)[WEIGHTS] == weights_of(hub)
    assert ranges(hub) == ["", "bytes=5000-"]
    assert waits == [1.0]


def test_what_a_killed_fetch_left_is_gone_on_with(hub: Loopback, home: Path) -> None:
    hub.cut_after[WEIGHTS] = 5000
    hub.statuses[WEIGHTS] = []
    hub.on_file = lambda path: hub.statuses[WEIGHTS].extend([404] if ranges(hub)[-1:] == ["bytes=5000-"] else [])
    assert refused(get) == ("fetch.no-entry", 3)
    hub.on_file = lambda path: None
    hub.statuses.clear()
    hub.asked.clear()
    fetched = get()
    assert ranges(hub) == ["bytes=5000-"]
    assert fetched.resumed_bytes >= 5000
    assert fetched.fetched_bytes <= fetched.to_json()["bytes"] - 5000
    assert fetched.to_json()["resumed"] is True
    assert check(ID, on_progress=None).is_good


def test_a_server_that_ignores_ranges_gives_the_whole_file(hub: Loopback) -> None:
    hub.ranges = False
    hub.cut_after[WEIGHTS] = 5000
    assert files_of(get().path)[WEIGHTS] == weights_of(hub)
    assert ranges(hub) == ["", "bytes=5000-"]


def test_a_part_of_something_else_is_thrown_away(hub: Loopback, home: Path) -> None:
    size = len(weights_of(hub))
    for left in (b"x" * 5000, b"x" * (size - 1), b"x" * size, b"x" * (size + 1)):
        hub.cut_after[WEIGHTS] = 4000
        hub.wrong[WEIGHTS] = b"<html>no" * 4
        with pytest.raises(FinetuiError):
            get()
        hub.wrong.clear()
        part = next(path for path in (home / "models").rglob(".parts/*") if not path.name.endswith(".etag"))
        part.write_bytes(left)
        assert files_of(get().path)[WEIGHTS] == weights_of(hub)
        (home / "models" / ID / WEIGHTS).unlink()


@pytest.mark.parametrize("found", [b"\0" * 200, b"short"])
def test_other_bytes_than_promised_are_never_kept(hub: Loopback, home: Path, found: bytes) -> None:
    right = weights_of(hub)
    hub.wrong[WEIGHTS] = (found * len(right))[: len(right)] if len(found) == 200 else found
    code = "fetch.wrong-digest" if len(found) == 200 else "fetch.wrong-size"
    assert refused(get) == (code, 4)
    assert not (home / "models" / ID).exists()
    assert not list(home.rglob(WEIGHTS))


def test_a_spoilt_file_is_asked_for_once_more(hub: Loopback) -> None:
    hub.wrong[WEIGHTS] = bytes(len(weights_of(hub)))
    hub.on_file = lambda path: hub.wrong.clear() if len(ranges(hub)) == 2 else None
    assert files_of(get().path)[WEIGHTS] == weights_of(hub)


def test_small_files_are_held_against_the_id_of_their_blob(hub: Loopback) -> None:
    hub.wrong["README.md"] = b"# evil"
    hub.models[ID]["README.md"] = b"# tiny"
    one = problem(get)
    assert (one.code, one.facts["name"]) == ("fetch.wrong-digest", "README.md")


def test_modelscope_is_held_against_its_digests(hub: Loopback) -> None:
    hub.wrong["config.json"] = b"x" * len(hub.models[ID]["config.json"])
    assert refused(lambda: get(f"modelscope:{ID}")) == ("fetch.wrong-digest", 4)


def test_a_web_page_is_no_file(hub: Loopback) -> None:
    hub.html.add("config.json")
    assert refused(get) == ("fetch.html", 4)


def test_servers_that_are_busy_are_asked_again_and_not_for_ever(hub: Loopback) -> None:
    hub.statuses[WEIGHTS] = [429, 503, 502]
    waits: list[float] = []
    get(waits=waits)
    assert waits == [7.0, 2.0, 4.0]
    hub.models["owner/other"] = hub.models[ID]
    hub.statuses[WEIGHTS] = [500] * 20
    assert refused(lambda: get("owner/other")) == ("fetch.broken-off", 5)
    assert len(hub.statuses[WEIGHTS]) == 20 - 6


def test_a_server_that_wants_an_hour_is_left_alone(hub: Loopback) -> None:
    hub.statuses[WEIGHTS] = [429]
    hub.retry_after = "3600"
    waits: list[float] = []
    one = problem(lambda: get(waits=waits))
    assert (one.code, one.facts["wait"], waits) == ("fetch.too-many-requests", 3600, [])
    assert one.next("en") == f"finetui fetch {ID}"


def test_a_date_of_patience_is_understood(hub: Loopback) -> None:
    hub.statuses[WEIGHTS] = [429, 429, 429]
    hub.retry_after = "Thu, 01 Jan 2015 00:00:00 GMT"
    waits: list[float] = []
    get(waits=waits)
    assert waits == [0.0, 0.0, 0.0]


def test_a_pause_is_told(hub: Loopback) -> None:
    hub.statuses[WEIGHTS] = [429]
    told = threading.Event()
    seen: list[tuple[str, float]] = []

    def tell(facts: Mapping[str, Any]) -> None:
        if (pause := facts.get("pause")) is not None:
            seen.append((pause.words, pause.seconds))
            told.set()

    fetch(Request(ID), tell, wait=lambda seconds: None if told.wait(30) else pytest.fail("nothing told"))
    assert seen[0] == ("HTTP 429", 7.0)


def test_a_file_that_changes_on_the_way_is_fetched_anew(hub: Loopback, home: Path) -> None:
    """Nothing but its ETag tells of a plain file that it is another one."""
    old, new = b'{"text": "old"}\n' * 900, b'{"text": "new"}\n' * 900
    hub.pages[DATA] = old
    hub.cut_after[DATA] = 5000

    def change(path: str) -> None:
        if ranges(hub, DATA).count("bytes=5000-"):
            hub.pages[DATA], hub.etag = new, '"v2"'

    hub.on_file = change
    hub.statuses = {}
    fetched = get(hub.address + DATA)
    content = (fetched.path / "rows.jsonl").read_bytes()
    assert content in (old, new)
    assert fetched.files["rows.jsonl"].sha256 == hashlib.sha256(content).hexdigest()


def test_without_anything_that_marks_its_version_a_plain_file_is_fetched_anew(hub: Loopback) -> None:
    hub.pages[DATA] = b"row\n" * 5000
    hub.cut_after[DATA] = 5000
    hub.etag = 'W/"weak"'
    assert (get(hub.address + DATA).path / "rows.jsonl").read_bytes() == hub.pages[DATA]
    assert set(ranges(hub, DATA)) == {""}


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_0123456789"
    monkeypatch.setenv("HF_TOKEN", f"{hub.token}\n")
    pages = {f"/stored/{path}": content for path, content in hub.models[ID].items()}
    with serving(Loopback(pages=pages)) as storage:
        hub.storage = storage.address
        get()
        assert all(asked.headers["Authorization"] == f"Bearer {hub.token}" for asked in hub.asked)
        assert storage.asked
        for asked in storage.asked:
            assert "hf_0123456789" not in str(asked.headers) + asked.path
            assert not {"Authorization", "Cookie", "Referer"} & set(asked.headers)


def test_the_token_is_shown_nowhere(
    hub: Loopback, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.token = "hf_0123456789"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    hub.gated = True
    hub.words = f"token {hub.token} may not"
    assert run(["fetch", ID]) == 3
    assert run(["fetch", ID, "--json"]) == 3
    hub.gated = False
    assert run(["fetch", ID, "--json"]) == 0
    said = "".join(capsys.readouterr()) + "".join(
        path.read_text(errors="replace") for path in home.rglob("*") if path.is_file()
    )
    assert hub.token not in said


def test_no_redirect_without_end(hub: Loopback) -> None:
    hub.storage = f"{hub.address}/{ID}/resolve/{hub.commit}"
    hub.models[ID] = {"config.json": b"{}", **{f"stored/{WEIGHTS}": b"x"}}
    assert refused(lambda: get(files=(WEIGHTS,)))[1] == 3


def test_an_empty_file_is_no_request(hub: Loopback) -> None:
    hub.models[ID]["empty.txt"] = b""
    assert (get().path / "empty.txt").read_bytes() == b""
    assert hub.requests_of("empty.txt") == []
