"""Procedural portraits: a `Subject` drawn from a prompt's words, rendered by sphere tracing on the CPU."""

from recipes.mini.portrait.render import render_portrait
from recipes.mini.portrait.subject import IDENTITY_FIELDS, SCENE_FIELDS, Subject, sample_subject

__all__ = ["IDENTITY_FIELDS", "SCENE_FIELDS", "Subject", "render_portrait", "sample_subject"]
