"""Silence for the notices of diffusers and transformers, which speak to their own users and not to ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' notices and loading bars off the terminal; the hub's download bars stay."""
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    verbosity = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars = diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()
    downloads = not are_progress_bars_disabled()
    try:
        diffusers_logging.set_verbosity_error()
        diffusers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        if downloads:  # transformers has just switched these off too
            enable_progress_bars()
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity[0])
        transformers_logging.set_verbosity(verbosity[1])
        if bars[0]:
            diffusers_logging.enable_progress_bar()
        if bars[1] and downloads:
            transformers_logging.enable_progress_bar()
