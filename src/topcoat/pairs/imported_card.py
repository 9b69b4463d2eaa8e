"""The dataset card (README.md) of pairs that were imported: nothing is said of generators that nobody named."""

from __future__ import annotations

from topcoat.pairs.manifest import Manifest

_CARD = """---
pretty_name: {pair} pairs
license: other
license_name: see-below
task_categories:
- image-to-image
tags:
- topcoat
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

# {rows} pairs of {pair}

Each row holds two images of one subject: `distilled`, what a head is given, and `baseline`, what it is taught to
reach. They were imported with topcoat from {source}; topcoat did not paint them and knows nothing of how they were
made.

The column `split` (train, val, test) follows the prompt, or the item's name where it has none.

## Licence

{licence}

## Columns

| column | what |
|---|---|
| id | unique name of the pair |
| prompt | the text that came with the pair; may be empty |
| seed | the item's position in the import; no noise seed is known |
| split | train, val or test |
| attributes | `{{}}`: none are known |
| distilled, baseline | PNG images, {width} x {height} |

## Known gaps

{failures}

`manifest.json` holds every shard's digest.
"""


def imported_card(manifest: Manifest) -> str:
    """The README.md text for a dataset of `topcoat pairs import`."""
    side = manifest.identity["distilled"]
    licence = side["licence"]
    words = f"[{licence['name']}]({licence['url']})" if licence["url"] else licence["name"]
    count, dropped = len(manifest.failures), len(manifest.dropped)
    failures = (
        f"{count} item{'s' if count != 1 else ''} could not be used; `manifest.json` lists them with the reason."
        if count
        else "None: every item could be used."
    )
    if dropped:
        failures += f" Filters left out {dropped}; `manifest.json` lists them with reason and score."
    return _CARD.format(
        pair=manifest.pair,
        rows=manifest.rows,
        source=manifest.identity["imported"],
        licence=f"{words}. {licence['note']}" if licence["note"] else words,
        width=side["width_px"],
        height=side["height_px"],
        failures=failures,
    )
