"""An OpenAI-compatible endpoint on loopback that says what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What it does, and what it was asked."""

    address: str = ""
    says: list[str] = field(default_factory=lambda: ["O", "K"])
    """The pieces of each answer."""
    reason: str = "stop"
    waits_after: int | None = None
    """Pieces after which nothing more comes until the client goes away, or `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    status: int = 200
    error: str = ""
    models: list[str] = field(default_factory=lambda: ["parrot"])
    raw: bytes | None = None
    """What it answers instead."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    said: threading.Event = field(default_factory=threading.Event)
    """Set once the pieces before the wait are sent."""


@contextmanager
def serving(**options: Any) -> Iterator[Served]:
    """The endpoint, for as long as the context."""
    served = Served(**options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._note()
            self._send(json.dumps({"data": [{"id": name} for name in served.models]}).encode())

        def do_POST(self) -> None:
            self._note()
            served.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if served.status != 200:
                self._send(json.dumps({"error": {"message": served.error}}).encode(), served.status)
            elif served.raw is not None:
                self._send(served.raw)
            else:
                self._stream()

        def _note(self) -> None:
            served.keys.append(self.headers.get("Authorization"))

        def _send(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number, piece in enumerate(served.says):
                if number == served.waits_after:
                    served.said.set()
                    served.go_on.wait(30)
                self._event({"choices": [{"delta": {"content": piece}}]})
            self._event({"choices": [{"delta": {}, "finish_reason": served.reason}]})
            self._event({"choices": [], "usage": {"completion_tokens": len(served.says) + 1}})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, event: dict[str, Any]) -> None:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        served.go_on.set()
        server.shutdown()
        server.server_close()
