"""The model card that is saved next to a head's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from topcoat.heads.network import HeadConfig, LatentHeadConfig

_TEMPLATE = """\
---
{{ card_data }}
---

# A topcoat head ({{ kind }})

{{ what }} It was
trained on the pairs named below and is of use for images of that model and domain only.

```python
import topcoat

head = topcoat.Head.from_pretrained("this-folder")
{{ usage }}
```

| | |
|---|---|
| kind | {{ kind }} |
| input | {{ input }} |
| parameters | {{ parameters }} |
| sizes | any; padded inside to a multiple of {{ size_multiple }} px |
| digest | {{ digest }} |

## Training
{% for name, value in facts.items() %}
- {{ name.replace("_", " ") }}: {{ value | plain }}
{%- else %}
Nothing was recorded.
{%- endfor %}
{%- if licences %}

## Licences of the models that made the pairs
{% for side, terms in licences.items() %}
- {{ side }}: {{ terms | terms }}
{%- endfor %}
{%- endif %}
{%- if figures %}

## Figures

| figure | value |
|---|---|
{%- for name, value in figures.items() %}
| {{ name.replace("_", " ") }} | {{ value | plain }} |
{%- endfor %}
{%- endif %}

## Limits

- It changes texture, light and small detail, not composition. Compare faces before and after where identity matters.
- The licences of the two models that made the training pairs apply to what is done with this head.
"""

_TEXTS = {
    ("image", True): (
        "An image-to-image network that takes the output of a distilled diffusion model towards that of its baseline.",
        "enhanced = head(images, strength=1.0)  # images: (N, 3, H, W), RGB, [0, 1]",
    ),
    ("latent", False): (
        "A network that decodes the latents of a distilled diffusion model, in place of its VAE decoder, to an image "
        "like those of its baseline.",
        "images = head(latents)  # latents: (N, {channels}, h, w), as the denoiser leaves them",
    ),
    ("latent", True): (
        "A network that changes the latents of a distilled diffusion model and decodes them, with that model's own VAE "
        "decoder, to an image like those of its baseline.",
        "images = head(latents, strength=1.0)  # latents: (N, {channels}, h, w), as the denoiser leaves them",
    ),
}
"""What a head does and a line that uses it, by its input and whether it has a strength."""


def render_card(config: HeadConfig, *, parameters: int, digest: str, facts: Mapping[str, Any]) -> str:
    """The card as Markdown with a YAML front matter; ``facts`` holds JSON values (run, dataset, licences, ...).

    ``facts["licences"]`` (terms by side) and ``facts["figures"]`` (measured values by name) get sections of their own,
    the figures also as the results that the Hugging Face hub reads.
    """
    from huggingface_hub import EvalResult, ModelCardData
    from jinja2 import Environment

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
    channels = config.latent_channels if isinstance(config, LatentHeadConfig) else 3
    what, usage = _TEXTS[config.input, config.has_strength]
    environment = Environment(keep_trailing_newline=True)  # Markdown: nothing to escape
    environment.filters |= {"plain": _plain, "terms": _terms}
    return environment.from_string(_TEMPLATE).render(
        card_data=data.to_yaml(),
        kind=config.name(),
        what=what,
        usage=usage.format(channels=channels),
        input="images" if config.input == "image" else f"latents of {channels} channels",
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
