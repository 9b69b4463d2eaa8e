"""The model card that is saved next to a head's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from topcoat.heads.network import HeadConfig, LatentHeadConfig


def render_card(config: HeadConfig, *, parameters: int, digest: str, facts: Mapping[str, Any]) -> str:
    """The card as Markdown with a YAML front matter; ``facts`` holds JSON values (run, dataset, licences, ...).

    ``facts["licences"]`` (terms by side) and ``facts["figures"]`` (measured values by name) get sections of their own,
    the figures also as the results that the Hugging Face hub reads.
    """
    from huggingface_hub import EvalResult, ModelCardData
    from jinja2 import Environment, StrictUndefined

    figures: Mapping[str, Any] = facts.get("figures") or {}
    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type="topcoat-pairs",
            dataset_name=str(facts.get("pair", "pairs")),
            metric_type=name,
            metric_value=value,
        )
        for name, value in figures.items()
        if isinstance(value, float) and "without_head" not in name
    ]
    data = ModelCardData(
        library_name="topcoat",
        pipeline_tag="image-to-image",
        tags=["topcoat", "image-to-image"],
        model_name=f"topcoat {config.name()}" if results else None,
        eval_results=results or None,
    )
    environment = Environment(keep_trailing_newline=True, undefined=StrictUndefined)  # Markdown: nothing to escape
    environment.filters |= {"plain": _plain, "terms": _terms}
    template = resources.files("topcoat.heads").joinpath("card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        card_data=data.to_yaml(),
        kind=config.name(),
        input=config.input,
        has_strength=config.has_strength,
        channels=config.latent_channels if isinstance(config, LatentHeadConfig) else 3,
        parameters=f"{parameters:,}",
        size_multiple=config.size_multiple,
        digest=digest,
        facts={name: value for name, value in facts.items() if name not in ("licences", "figures")},
        licences=facts.get("licences"),
        figures=figures,
    )


def _terms(terms: Any) -> str:
    if not isinstance(terms, Mapping):
        return _plain(terms)
    return ". ".join(str(terms[key]) for key in ("name", "url", "note") if terms.get(key))


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False)}`"
