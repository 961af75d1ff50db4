"""Fetching: models and datasets from hubs and addresses, resumed where they broke off, held against their digests."""

from finetui.models.fetch.check import Checked, check
from finetui.models.fetch.flow import fetch
from finetui.models.fetch.outcome import Fetched, Request

__all__ = ["Checked", "Fetched", "Request", "check", "fetch"]
