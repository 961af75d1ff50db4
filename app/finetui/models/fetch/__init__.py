"""Fetching: models and datasets from hubs and addresses, resumed where they broke off, held against their digests."""
