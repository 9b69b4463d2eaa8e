"""Recipes: complete, runnable uses of `topcoat`."""
