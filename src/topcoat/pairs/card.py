"""The dataset card (README.md) of a folder of pairs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from topcoat.pairs.imported_card import imported_card
from topcoat.pairs.manifest import Manifest
from topcoat.pairs.painting import Painting, painting_of
from topcoat.pairs.records import BASELINE_LATENTS, distilled_column, latents_column

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

Each row holds two images of the same subject: `distilled` by the fast model, `baseline` by the slow one. {pairing}
Everything is synthetic: no photo of a real person and no real person's name was
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
{further}
## Known gaps

{failures}
{dropped}

Made with topcoat; `manifest.json` holds every setting, version and shard digest.
"""


_PAIRING = {
    "same-seed": "Both were painted from the same prompt and the same noise.",
    "rerender": "The slow model re-rendered the fast one's image by image-to-image, at strength {strength:g}.",
}


def dataset_card(manifest: Manifest) -> str:
    """The README.md text for ``manifest``: what is inside, what made it and under which licences."""
    if "imported" in manifest.identity:
        return imported_card(manifest)
    sides = {side: manifest.identity[side] for side in ("distilled", "baseline")}
    generators = "\n".join(f"- **{side}**: {_generator(spec)}" for side, spec in sides.items())
    licences = "\n".join(f"- {_licence(side, spec)}" for side, spec in sides.items())
    count = len(manifest.failures)
    failures = (
        f"{count} pair{'s' if count != 1 else ''} could not be made; `manifest.json` lists them with the reason."
        if count
        else "None: every planned pair was made."
    )
    painting = painting_of(manifest.identity)
    return _CARD.format(
        pairing=_PAIRING[painting.pairing].format(strength=painting.strength),
        further=_further(painting),
        dropped=_dropped(manifest),
        pair=manifest.pair,
        rows=manifest.rows,
        generators=generators,
        licences=licences,
        failures=failures,
        width=sides["distilled"]["width_px"],
        height=sides["distilled"]["height_px"],
    )


def _further(painting: Painting) -> str:
    """Table rows for the columns that not every dataset has."""
    steps = painting.distilled_steps
    rows = [f"| {distilled_column(count)} | the distilled image after {count} steps |" for count in steps]
    if painting.latents:
        rows += [f"| {latents_column(None)} | what `distilled` was decoded from, float16 |"]
        rows += [f"| {latents_column(n)} | what `{distilled_column(n)}` was decoded from, float16 |" for n in steps]
    if painting.baseline_latents:
        rows.append(f"| {BASELINE_LATENTS} | what `baseline` was decoded from, float16 |")
    return "".join(f"{row}\n" for row in rows)


def _dropped(manifest: Manifest) -> str:
    if not manifest.dropped:
        return ""
    counts = Counter(item.filter for item in manifest.dropped)
    reasons = ", ".join(f"{count} by {name}" for name, count in sorted(counts.items()))
    return (
        f"\nFilters left out {len(manifest.dropped)} ({reasons}); `manifest.json` lists them with reason and score.\n"
    )


def _generator(spec: dict[str, Any]) -> str:
    source = spec["model"]
    if spec.get("transformer") is not None:
        source += f" with the transformer of {spec['transformer']}"
    return f"{spec['name']} ({source}), {spec['steps']} steps, guidance {spec['guidance_scale']:g}, {spec['dtype']}"


def _licence(side: str, spec: dict[str, Any]) -> str:
    licence = spec["licence"]
    line = f"{spec['name']} ({side}): [{licence['name']}]({licence['url']})"
    return f"{line}. {licence['note']}" if licence.get("note") else line
