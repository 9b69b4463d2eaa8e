"""The model card that is saved beside a head's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TEMPLATE = """\
---
library_name: topcoat
pipeline_tag: image-to-image
tags:
- topcoat
- image-to-image
---

# A topcoat head ({kind})

An image-to-image network that takes the output of a distilled diffusion model towards that of its baseline. It was
trained on the pairs named below and is of use for images of that model and domain only.

```python
import topcoat

head = topcoat.Head.from_pretrained("this-folder")
enhanced = head(images, strength=1.0)  # images: (N, 3, H, W), RGB, [0, 1]
```

| | |
|---|---|
| kind | {kind} |
| parameters | {parameters:,} |
| sizes | any; padded inside to a multiple of {size_multiple} px |
| digest | {digest} |

## Training

{facts}

## Limits

- It changes texture, light and small detail, not composition. Compare faces before and after where identity matters.
- The licences of the two models that made the training pairs apply to what is done with this head.
"""


def render_card(*, kind: str, parameters: int, size_multiple: int, digest: str, facts: Mapping[str, Any]) -> str:
    """The card as Markdown with a YAML front matter; ``facts`` holds JSON values (run, dataset, licences, ...)."""
    rows = "\n".join(f"- {name.replace('_', ' ')}: {_plain(value)}" for name, value in facts.items())
    return _TEMPLATE.format(
        kind=kind,
        parameters=parameters,
        size_multiple=size_multiple,
        digest=digest,
        facts=rows or "Nothing was recorded.",
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False)}`"
