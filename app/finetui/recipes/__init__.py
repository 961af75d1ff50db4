"""Recipes: what a person asks for, and how it resolves to settings, each with its reason."""
