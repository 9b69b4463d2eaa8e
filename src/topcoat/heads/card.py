"""The model card that is saved beside a head's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from topcoat.heads.descriptor import HeadDescriptor

_TEMPLATE = """\
---
library_name: topcoat
pipeline_tag: image-to-image
tags:
- topcoat
- image-to-image
---

# A topcoat head ({kind})

{what}It was
trained on the pairs named below and is of use for images of that model and domain only.

```python
import topcoat

head = topcoat.Head.from_pretrained("this-folder")
{usage}
```

| | |
|---|---|
| kind | {kind} |
| takes | {takes} |
| parameters | {parameters:,} |
| sizes | any; padded inside to a multiple of {size_multiple} px |
| digest | {digest} |

## Training

{facts}
{licences}{figures}
## Limits

- It changes texture, light and small detail, not composition. Compare faces before and after where identity matters.
- The licences of the two models that made the training pairs apply to what is done with this head.
"""

_IMAGES = (
    "An image-to-image network that takes the output of a distilled diffusion model towards that of its baseline. ",
    "enhanced = head(images, strength=1.0)  # images: (N, 3, H, W), RGB, [0, 1]",
)
_LATENTS = (
    "A network that decodes the latents of a distilled diffusion model, in place of its VAE decoder, to an image like "
    "those of its baseline. ",
    "images = head(latents)  # latents: (N, {channels}, h, w), as the denoiser leaves them",
)
_CHANGED_LATENTS = (
    "A network that changes the latents of a distilled diffusion model and decodes them, with that model's own VAE "
    "decoder, to an image like those of its baseline. ",
    "images = head(latents, strength=1.0)  # latents: (N, {channels}, h, w), as the denoiser leaves them",
)
_APART = ("licences", "figures")
"""Facts that have a section of their own."""


def render_card(described: HeadDescriptor, *, digest: str, facts: Mapping[str, Any]) -> str:
    """The card as Markdown with a YAML front matter; ``facts`` holds JSON values (run, dataset, licences, ...).

    ``facts["licences"]`` (terms by side) and ``facts["figures"]`` (measured values by name) get sections of their own.
    """
    rows = "\n".join(
        f"- {name.replace('_', ' ')}: {_plain(value)}" for name, value in facts.items() if name not in _APART
    )
    what, usage = _text_of(described)
    return _TEMPLATE.format(
        kind=described.name,
        what=what,
        usage=usage.format(channels=described.latent_channels),
        takes=described.takes if described.takes == "image" else f"latents of {described.latent_channels} channels",
        parameters=described.parameters,
        size_multiple=described.size_multiple,
        digest=digest,
        facts=rows or "Nothing was recorded.",
        licences=_licences(facts.get("licences")),
        figures=_figures(facts.get("figures")),
    )


def _text_of(described: HeadDescriptor) -> tuple[str, str]:
    """What the head does, and a line that uses it."""
    if described.takes == "image":
        return _IMAGES
    return _CHANGED_LATENTS if described.has_strength else _LATENTS


def _licences(licences: Any) -> str:
    if not isinstance(licences, Mapping) or not licences:
        return ""
    lines = [f"- {side}: {_terms(terms)}" for side, terms in licences.items()]
    return "\n## Licences of the models that made the pairs\n\n" + "\n".join(lines) + "\n"


def _terms(terms: Any) -> str:
    if not isinstance(terms, Mapping):
        return _plain(terms)
    return ". ".join(str(terms[key]) for key in ("name", "url", "note") if terms.get(key))


def _figures(figures: Any) -> str:
    if not isinstance(figures, Mapping) or not figures:
        return ""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {_figure(value)} |" for name, value in figures.items())
    return f"\n## Figures\n\n| figure | value |\n|---|---|\n{rows}\n"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False)}`"
