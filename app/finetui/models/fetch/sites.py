"""The two hubs: where they are, and the token that each of them, and nobody else, is sent."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from finetui.core.caches import hf_home
from finetui.core.errors import BAD_INPUT, FinetuiError, Problem

HUB, MODELSCOPE, URL = "hub", "modelscope", "url"
HUB_ENDPOINT = "https://huggingface.co"
MODELSCOPE_ENDPOINT = "https://modelscope.cn"
MIRROR = "https://hf-mirror.com"
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


@dataclass(frozen=True)
class Site:
    """A server that models and datasets are fetched from."""

    name: str
    """`hub`, `modelscope` or `url`."""
    endpoint: str
    """Scheme and host, without a slash at the end; empty for `url`."""
    token: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The host, as shown to people."""
        return urlsplit(self.endpoint).hostname or self.endpoint


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbid the network, by huggingface_hub's rules."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


def hub_site(endpoint: str | None = None) -> Site:
    """The hub by HF_ENDPOINT, else huggingface.co, with the token of HF_TOKEN or of the file that a login wrote.

    Another `endpoint`, such as that of a pasted address, is sent no token: it was given to the hub and not to it.
    Raises FinetuiError (exit 3) where endpoint or token cannot be one.
    """
    configured = _address("HF_ENDPOINT", os.environ.get("HF_ENDPOINT") or HUB_ENDPOINT)
    if endpoint is not None and endpoint not in (configured, HUB_ENDPOINT):
        return Site(HUB, endpoint)
    return Site(HUB, configured, _hub_token())


def modelscope_site() -> Site:
    """ModelScope by MODELSCOPE_ENDPOINT or MODELSCOPE_DOMAIN, else modelscope.cn; the token of MODELSCOPE_API_TOKEN.

    Raises FinetuiError (exit 3) where endpoint or token cannot be one.
    """
    for variable in ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"):
        if given := os.environ.get(variable, "").strip():
            endpoint = _address(variable, given if "://" in given else f"https://{given}")
            break
    else:
        endpoint = MODELSCOPE_ENDPOINT
    return Site(MODELSCOPE, endpoint, _clean("MODELSCOPE_API_TOKEN", os.environ.get("MODELSCOPE_API_TOKEN")))


def _address(variable: str, value: str) -> str:
    try:
        parts = urlsplit(value.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.password)
    except ValueError:
        usable = False
    if not usable:
        raise FinetuiError(Problem("fetch.bad-endpoint", {"variable": variable}), BAD_INPUT)
    return value.strip().rstrip("/")


def _hub_token() -> str | None:
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return None
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := _clean(variable, os.environ.get(variable)):
            return token
    path = Path(os.environ.get("HF_TOKEN_PATH") or hf_home() / "token").expanduser()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not logged in
        return None
    return _clean(str(path), text)


def _clean(place: str, token: str | None) -> str | None:
    """The token without the line end that it was pasted with.

    Raises FinetuiError (exit 3), without the token, where it holds what no header can carry.
    """
    token = (token or "").strip()
    if not all("!" <= sign <= "~" for sign in token):
        raise FinetuiError(Problem("fetch.bad-token-text", {"place": place}), BAD_INPUT)
    return token or None
