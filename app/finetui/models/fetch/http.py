"""HTTP for fetching: one attempt at a time, what may be tried again told from what may not, no token to strangers."""

from __future__ import annotations

import contextlib
import email.utils
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from finetui import __version__
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem
from finetui.models.fetch.sites import Site

Wait = Callable[[float], None]
_TIMEOUT = httpx.Timeout(30, connect=10, pool=None)
_MOST_REDIRECTS = 10
_TRIES = 6
_TRIES_UNREACHED = 3
_LONGEST_WAIT = 60.0
_LONGEST_ASKED_WAIT = 300.0
_ANSWER_LIMIT = 256 << 20
NO_ENTRY = "EntryNotFound"
"""The hub's code of a file that a repository has not got."""
CERTIFICATE = "certificate"
"""The code of a refusal that is ours: nothing here vouches for the server."""
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
        """The hub's X-Error-Code, such as `GatedRepo`, or one of ours."""
        self.words = words
        """The server's own words, of which nothing is known."""
        super().__init__(f"{status} {code}")


@dataclass(frozen=True)
class Pause:
    """What the next attempt waits for."""

    host: str
    words: str
    seconds: float


class Client:
    """Requests to one site, and to the hosts that it sends us on to. Used by several threads at once."""

    def __init__(self, site: Site, wait: Wait = time.sleep) -> None:
        """Raises FinetuiError (exit 3) where the environment names a proxy or certificates that cannot be used."""
        self.site = site
        self.pausing: Pause | None = None
        """Set while an attempt waits."""
        self._wait = wait
        headers = {"User-Agent": f"finetui/{__version__}", "Accept-Encoding": "identity"}
        try:
            self._http = httpx.Client(timeout=_TIMEOUT, headers=headers, follow_redirects=False)
        except OSError:
            raise FinetuiError(Problem("fetch.bad-certificates"), BAD_INPUT) from None
        except (ValueError, ImportError, httpx.InvalidURL):  # its words may hold the password of the proxy
            raise FinetuiError(Problem("fetch.bad-proxy"), BAD_INPUT) from None

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
            self._check(response)
            yield response
        finally:
            response.close()

    def json(self, address: str) -> tuple[Any, Mapping[str, str]]:
        """The JSON value at an address and the headers that came with it; broken attempts are repeated.

        Raises Broken, Refused.
        """
        patience = Patience(self)
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

    def pause(self, broken: Broken, seconds: float) -> None:
        """Wait before another attempt, where whoever asks `pausing` sees it."""
        self.pausing = Pause(broken.host, broken.words, seconds)
        try:
            self._wait(seconds)
        finally:
            self.pausing = None

    def _check(self, response: httpx.Response) -> None:
        """Raises Broken or Refused for an answer that is an error."""
        status, host = response.status_code, response.url.host
        if status < 400 and not response.is_redirect:
            return
        if status in _AGAIN:
            raise Broken(f"HTTP {status}", host=host, status=status, wait_s=_asked_wait(response.headers))
        words = response.headers.get("x-error-message", "")
        if self.site.token:
            words = words.replace(self.site.token, "…")
        raise Refused(status, host, response.headers.get("x-error-code", ""), words)

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

    def __init__(self, client: Client) -> None:
        self._client = client
        self._failures = 0
        self._tries_unreached = _TRIES_UNREACHED

    def renew(self) -> None:
        """Something has come: the attempts so far do not count, and the server is known to be there."""
        self._failures = 0
        self._tries_unreached = _TRIES

    def spend(self, broken: Broken) -> None:
        """Wait before the next attempt.

        Raises `broken` where there shall be none: after enough of them, or where the server wants a longer wait.
        """
        self._failures += 1
        tries = self._tries_unreached if broken.unreached else _TRIES
        if self._failures >= tries or (broken.wait_s or 0) > _LONGEST_ASKED_WAIT:
            raise broken
        doubled = min(2.0 ** (self._failures - 1), _LONGEST_WAIT)
        self._client.pause(broken, doubled if broken.wait_s is None else broken.wait_s)


@contextlib.contextmanager
def reading(host: str) -> Iterator[None]:
    """Let what goes wrong on the way be `Broken`; an address that cannot be followed, or not be trusted, `Refused`."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Refused(0, host, words=str(error)) from None
    except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
        root = _root(error)
        if isinstance(root, ssl.SSLCertVerificationError):
            raise Refused(0, host, CERTIFICATE, root.verify_message) from None
        raise Broken(_words_of(error, root), host=host) from None


def _root(error: BaseException) -> BaseException:
    """The first of a chain of errors."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return error


def _words_of(error: Exception, root: BaseException) -> str:
    """What happened, in words that hold no address: one may be signed."""
    words = root.strerror if isinstance(root, OSError) and root.strerror else type(error).__name__
    if isinstance(error, httpx.ProxyError):
        return str(error)
    return "time out" if isinstance(error, httpx.TimeoutException) else words


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
