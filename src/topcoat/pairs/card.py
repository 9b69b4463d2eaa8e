"""The dataset card (README.md) of a folder of pairs."""

from __future__ import annotations

from typing import Any

from topcoat.pairs.manifest import Manifest

_CARD = """---
pretty_name: {pair} portrait pairs
license: other
license_name: see-the-licences-of-both-generators
task_categories:
- image-to-image
tags:
- synthetic
- topcoat
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

# {rows} portrait pairs of {pair}

Each row holds two images of the same subject, painted from the same prompt and the same noise: `distilled` by the fast
model, `baseline` by the slow one. Everything is synthetic: no photo of a real person and no real person's name was
used by topcoat to make it.

The column `split` (train, val, test) follows the prompt, so a subject is in one split only.

## The two generators

{generators}

## Licences

Both licences below bear on what may be done with these images, also on training with them.

{licences}

## Columns

| column | what |
|---|---|
| id | unique name of the pair |
| prompt, seed | what both images were painted from |
| split | train, val or test |
| attributes | what the prompt says of the subject, as JSON; `{{}}` for a prompt written by hand |
| distilled, baseline | PNG images, {width} x {height} |

## Known gaps

{failures}

Made with topcoat; `manifest.json` holds every setting, version and shard digest.
"""


def dataset_card(manifest: Manifest) -> str:
    """The README.md text for ``manifest``: what is inside, what made it and under which licences."""
    sides = {side: manifest.identity[side] for side in ("distilled", "baseline")}
    generators = "\n".join(f"- **{side}**: {_generator(spec)}" for side, spec in sides.items())
    licences = "\n".join(f"- {_licence(side, spec)}" for side, spec in sides.items())
    count = len(manifest.failures)
    failures = (
        f"{count} pair{'s' if count != 1 else ''} could not be made; `manifest.json` lists them with the reason."
        if count
        else "None: every planned pair was made."
    )
    return _CARD.format(
        pair=manifest.pair,
        rows=manifest.rows,
        generators=generators,
        licences=licences,
        failures=failures,
        width=sides["distilled"]["width_px"],
        height=sides["distilled"]["height_px"],
    )


def _generator(spec: dict[str, Any]) -> str:
    source = spec["model"]
    if spec["transformer"] is not None:
        source += f" with the transformer of {spec['transformer']}"
    return f"{spec['name']} ({source}), {spec['steps']} steps, guidance {spec['guidance_scale']:g}, {spec['dtype']}"


def _licence(side: str, spec: dict[str, Any]) -> str:
    licence = spec["licence"]
    line = f"{spec['name']} ({side}): [{licence['name']}]({licence['url']})"
    return f"{line}. {licence['note']}" if licence["note"] else line
