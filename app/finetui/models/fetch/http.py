"""HTTP for fetching: one attempt at a time, what may be tried again told from what may not, no token to strangers."""

from __future__ import annotations

import contextlib
import email.utils
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from finetui import __version__
from finetui.models.fetch.sites import Site

Wait = Callable[[float], None]
_TIMEOUT = httpx.Timeout(30, connect=10, pool=None)
_MOST_REDIRECTS = 10
_TRIES = 6
_TRIES_UNREACHED = 3
_LONGEST_WAIT = 60.0
_LONGEST_ASKED_WAIT = 300.0
_ANSWER_LIMIT = 256 << 20
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""Statuses of a server, or of a proxy before it, that may be another in a moment."""


class Broken(Exception):
    """An attempt failed in a way that another may not: no connection, a connection that broke, a busy server."""

    def __init__(self, words: str, *, host: str, status: int | None = None, wait_s: float | None = None) -> None:
        self.words = words
        self.host = host
        self.status = status
        self.wait_s = wait_s
        super().__init__(words)

    @property
    def unreached(self) -> bool:
        """Whether there was no answer at all."""
        return self.status is None


class Refused(Exception):
    """The server has answered, and no other attempt would get another answer."""

    def __init__(self, status: int, host: str, code: str = "", words: str = "") -> None:
        self.status = status
        self.host = host
        self.code = code
        """The hub's X-Error-Code, such as `GatedRepo`."""
        self.words = words
        """The server's own words, of which nothing is known."""
        super().__init__(f"{status} {code}")


class Client:
    """Requests to one site, and to the hosts that it sends us on to. Used by several threads at once."""

    def __init__(self, site: Site, wait: Wait = time.sleep) -> None:
        self.site = site
        self.wait = wait
        headers = {"User-Agent": f"finetui/{__version__}", "Accept-Encoding": "identity"}
        self._http = httpx.Client(timeout=_TIMEOUT, headers=headers, follow_redirects=False)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    @contextlib.contextmanager
    def get(self, address: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """The answer to one GET, redirects followed, its body still to be read under `reading`.

        Raises Broken or Refused.
        """
        host = urlsplit(address).hostname or ""
        with reading(host):
            response = self._follow(httpx.URL(address), headers or {})
        try:
            _check(response)
            yield response
        finally:
            response.close()

    def json(self, address: str) -> tuple[Any, Mapping[str, str]]:
        """The JSON value at an address and the headers that came with it; broken attempts are repeated.

        Raises Broken, Refused.
        """
        patience = Patience(self.wait)
        while True:
            try:
                with self.get(address, {"Accept": "application/json"}) as response, reading(response.url.host):
                    body = bytearray()
                    for chunk in response.iter_bytes():
                        body += chunk
                        if len(body) > _ANSWER_LIMIT:
                            raise Refused(response.status_code, response.url.host, "not-json")
                try:
                    return json.loads(body), dict(response.headers)
                except (ValueError, RecursionError):
                    raise Refused(response.status_code, response.url.host, "not-json") from None
            except Broken as broken:
                patience.spend(broken)

    def _follow(self, url: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
        for _ in range(_MOST_REDIRECTS):
            request = self._http.build_request("GET", url, headers={**headers, **self._credentials(url)})
            response = self._http.send(request, stream=True)
            if not response.has_redirect_location:
                return response
            response.close()
            url = url.join(response.headers["location"])
        raise Refused(response.status_code, url.host, words="too many redirects")

    def _credentials(self, url: httpx.URL) -> dict[str, str]:
        """The token, for the site that it is of and for no other: a redirect leads to storage of somebody else."""
        own = httpx.URL(self.site.endpoint or "http://nobody.invalid")
        if not self.site.token or (url.scheme, url.host, url.port) != (own.scheme, own.host, own.port):
            return {}
        # ModelScope's older interfaces know the cookie alone
        cookie = {"Cookie": f"m_session_id={self.site.token}"} if self.site.name == "modelscope" else {}
        return {"Authorization": f"Bearer {self.site.token}", **cookie}


class Patience:
    """How many more attempts one thing gets, and how long to wait before each."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._failures = 0

    def renew(self) -> None:
        """Something has come: the attempts so far do not count."""
        self._failures = 0

    def spend(self, broken: Broken) -> None:
        """Wait before the next attempt.

        Raises `broken` where there shall be none: after enough of them, or where the server wants a longer wait.
        """
        self._failures += 1
        tries = _TRIES_UNREACHED if broken.unreached else _TRIES
        if self._failures >= tries or (broken.wait_s or 0) > _LONGEST_ASKED_WAIT:
            raise broken
        self._wait(min(2.0 ** (self._failures - 1), _LONGEST_WAIT) if broken.wait_s is None else broken.wait_s)


@contextlib.contextmanager
def reading(host: str) -> Iterator[None]:
    """Let what goes wrong on the way be `Broken`, and an address that cannot be followed `Refused`."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Refused(0, host, words=str(error)) from None
    except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
        raise Broken(_words_of(error), host=host) from None


def _words_of(error: Exception) -> str:
    """What happened, in words that hold no address: one may be signed."""
    root: BaseException = error
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    words = root.strerror if isinstance(root, OSError) and root.strerror else type(error).__name__
    return "time out" if isinstance(error, httpx.TimeoutException) else words


def _check(response: httpx.Response) -> None:
    """Raises Broken or Refused for an answer that is an error."""
    status, host = response.status_code, response.url.host
    if status < 400 and not response.is_redirect:
        return
    if status in _AGAIN:
        raise Broken(f"HTTP {status}", host=host, status=status, wait_s=_asked_wait(response.headers))
    code = response.headers.get("x-error-code", "")
    raise Refused(status, host, code, response.headers.get("x-error-message", ""))


def _asked_wait(headers: httpx.Headers) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date; None where it holds neither."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
