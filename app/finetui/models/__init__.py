"""Base models: which they are, by content, and where they are found."""

from finetui.models.demo import fetch_demo
from finetui.models.find import find_by_identity, find_model, matches
from finetui.models.identify import ModelFacts, identify

__all__ = ["ModelFacts", "fetch_demo", "find_by_identity", "find_model", "identify", "matches"]
