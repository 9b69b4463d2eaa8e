"""The model card that is saved next to a head's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from topcoat.files import text_template
from topcoat.heads.network import HeadConfig, LatentHeadConfig


def render_card(
    config: HeadConfig, *, parameters: int, digest: str, facts: Mapping[str, Any], source: str = "this-folder"
) -> str:
    """The card as Markdown with a YAML front matter; ``facts`` holds JSON values (run, dataset, licences, ...).

    ``source`` is what its example loads. ``facts["licences"]`` (terms by side) and ``facts["figures"]`` (measured
    values by name) get sections of their own, the figures also as the results that the Hugging Face hub reads.
    """
    from huggingface_hub import EvalResult, ModelCardData

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
    licence = licence_of(facts.get("licences"))
    data = ModelCardData(
        library_name="topcoat",
        pipeline_tag="image-to-image",
        tags=["topcoat", "image-to-image"],
        license=licence,
        license_name="see-below" if licence == "other" else None,
        model_name=f"topcoat {config.name()}" if results else None,
        eval_results=results or None,
    )
    return text_template("topcoat.heads", "card.md.j2", {"plain": _plain, "terms": _terms}).render(
        card_data=data.to_yaml(),
        source=source,
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


def licence_of(licences: Any) -> str | None:
    """What the hub is told of terms by side: ``apache-2.0`` if all are that, else ``other``; None without any."""
    if not isinstance(licences, Mapping) or not licences:
        return None
    names = {terms.get("name") if isinstance(terms, Mapping) else terms for terms in licences.values()}
    return "apache-2.0" if names == {"Apache-2.0"} else "other"


def _terms(terms: Any) -> str:
    if not isinstance(terms, Mapping):
        return _plain(terms)
    return ". ".join(str(terms[key]) for key in ("name", "url", "note") if terms.get(key))


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False)}`"
