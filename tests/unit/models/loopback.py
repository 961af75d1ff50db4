"""Hubs on loopback: real sockets, interfaces of Hugging Face and ModelScope, servers that misbehave as asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
CERTIFICATE = Path(__file__).with_suffix(".pem")
"""A throw-away key and a certificate of 127.0.0.1 that it has signed itself."""
LFS_FROM = 1000
"""Files from this size on are told with a SHA-256, smaller ones with the id of a git blob, as the hub does."""


@dataclass
class Asked:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]


@dataclass
class Loopback:
    """What the server has, what it shall do wrong, and what it was asked."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    """Plain addresses."""
    commit: str = COMMIT
    token: str = ""
    """Asked for where it is set."""
    gated: bool = False
    storage: str = ""
    """Another server, which files are got from by redirect."""
    ranges: bool = True
    etag: str = '"v1"'
    cut_after: dict[str, int] = field(default_factory=dict)
    """Path to the number of bytes after which the connection is closed, once."""
    wrong: dict[str, bytes] = field(default_factory=dict)
    """Path to what is sent in place of the file; its length is told as it is."""
    listed: dict[str, bytes] = field(default_factory=dict)
    """Path to the bytes that the list speaks of, where they are not those of the file."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Path to the size that the list tells, where it is not that of the file."""
    digests: bool = True
    """Whether the list tells sizes and digests, which not every mirror does."""
    html: set[str] = field(default_factory=set)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """Path to what it is answered with before it is given."""
    retry_after: str = "7"
    words: str = ""
    """What refusals say."""
    on_file: Callable[[str], None] = lambda path: None
    """Called before a file is answered, to change any of this."""
    held: threading.Event | None = None
    """What files wait for before their last half is sent."""
    asked: list[Asked] = field(default_factory=list)
    address: str = ""

    def requests_of(self, part: str) -> list[Asked]:
        """The requests whose path has this in it."""
        return [asked for asked in self.asked if part in unquote(asked.path)]


@contextlib.contextmanager
def serving(state: Loopback, *, tls: bool = False) -> Iterator[Loopback]:
    """Serve until the end of the block; over TLS with a certificate that nobody vouches for."""

    class Handler(_Handler):
        has = state

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def git_sha1(content: bytes) -> str:
    """The id of a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away in the middle."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    has: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        self.has.asked.append(Asked(self.path, dict(self.headers)))
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        if path in self.has.pages:
            self._file(path, self.has.pages[path])
            return
        for pattern, answer in self._routes().items():
            if found := re.fullmatch(pattern, path):
                answer(query, *found.groups())
                return
        self._error(404)

    def _routes(self) -> dict[str, Callable[..., None]]:
        return {
            r"/api/(models|datasets)/(.+)/revision/(.+)": self._hub_list,
            r"/api/v1/(models|datasets)/(.+?/.+?)/repo/(?:files|tree)": self._modelscope_list,
            r"/api/v1/(models|datasets)/(.+?/.+?)/repo": self._modelscope_file,
            r"/(datasets/|)([^/]+/[^/]+|[^/]+)/resolve/([^/]+)/(.+)": self._hub_file,
        }

    def _hub_list(self, _: object, kind: str, name: str, revision: str) -> None:
        files = getattr(self.has, kind).get(name)
        if files is None or not self._allowed():
            self._error(401, "RepoNotFound")
        elif revision not in ("main", "v2", self.has.commit):
            self._error(404, "RevisionNotFound")
        else:
            siblings = [self._sibling(path, self.has.listed.get(path, content)) for path, content in files.items()]
            self._json({"id": name, "sha": self.has.commit, "siblings": siblings})

    def _sibling(self, path: str, content: bytes) -> dict[str, object]:
        if not self.has.digests:
            return {"rfilename": path}
        size = self.has.sizes.get(path, len(content))
        told: dict[str, object] = {"rfilename": path, "size": size, "blobId": git_sha1(content)}
        if len(content) >= LFS_FROM:
            told["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
        return told

    def _hub_file(self, _: object, folder: str, name: str, revision: str, path: str) -> None:
        repositories = self.has.datasets if folder else self.has.models
        if self.has.gated or not self._allowed():
            self._error(403 if self._token() else 401, "GatedRepo")
        elif path not in repositories.get(name, {}):
            self._error(404, "EntryNotFound")
        elif self.has.storage:
            self._send(302, b"", {"Location": f"{self.has.storage}/stored/{path}?Signature=sEcReT"})
        else:
            self._file(path, repositories[name][path])

    def _modelscope_list(self, query: dict[str, list[str]], kind: str, name: str) -> None:
        files = getattr(self.has, kind).get(name)
        if files is None or not self._allowed():
            self._json({"Code": 10010205001, "Success": False, "Message": "record not found"}, 404)
            return
        entries: list[dict[str, object]] = [{"Path": "data", "Type": "tree", "Size": 0}]
        for path, content in files.items():
            digest = hashlib.sha256(self.has.listed.get(path, content)).hexdigest()
            entries.append({"Path": path, "Type": "blob", "Size": len(content), "Sha256": digest})
        if "PageNumber" in query:
            number, size = int(query["PageNumber"][0]), int(query["PageSize"][0])
            entries = entries[(number - 1) * size : number * size]
        self._json({"Code": 200, "Success": True, "Data": {"Files": entries}})

    def _modelscope_file(self, query: dict[str, list[str]], kind: str, name: str) -> None:
        path = query["FilePath"][0]
        if not self._allowed():
            self._error(403)
        elif path in getattr(self.has, kind).get(name, {}):
            self._file(path, getattr(self.has, kind)[name][path])
        else:
            self._error(404)

    def _allowed(self) -> bool:
        return not self.has.token or self._token() == self.has.token

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _file(self, path: str, content: bytes) -> None:
        self.has.on_file(path)
        if statuses := self.has.statuses.get(path):
            headers = {"Retry-After": self.has.retry_after} if statuses[0] == 429 else {}
            self._send(statuses.pop(0), b"not now", headers)
            return
        if path in self.has.html:
            self._send(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"})
            return
        content = self.has.wrong.get(path, content)
        headers = {"ETag": self.has.etag, "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(wanted[1]) if wanted and self.has.ranges else 0
        if self.headers.get("If-Range", self.has.etag) != self.has.etag:
            begin = 0
        if begin >= len(content) > 0:
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._send(206 if begin else 200, content[begin:], headers, self.has.cut_after.pop(path, None))

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str = "") -> None:
        told = {"X-Error-Code": code, "Content-Type": "application/json"} if code else {}
        self._send(status, b"{}", {**told, **({"X-Error-Message": self.has.words} if self.has.words else {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if cut is not None:
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            half = len(body) // 2
            self.wfile.write(body[:half])
            if self.has.held is not None and half > LFS_FROM and "ETag" in headers:
                self.wfile.flush()
                self.has.held.wait(60)
            self.wfile.write(body[half:])
