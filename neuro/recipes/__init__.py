"""Recipes: TOML files, read by :mod:`neuro.recipe`."""
