"""The dataset card (README.md) of a folder of pairs, generated or imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import resources
from typing import Any

from topcoat.pairs.manifest import Manifest


def dataset_card(manifest: Manifest) -> str:
    """The README.md text for ``manifest``: what is inside, what made it and under which licences.

    `huggingface_hub.DatasetCard` would write the same header, but its import takes longer than a build with nothing to
    do.
    """
    from jinja2 import StrictUndefined, Template

    template = resources.files("topcoat.pairs").joinpath("card.md.j2").read_text(encoding="utf-8")
    return Template(template, undefined=StrictUndefined, keep_trailing_newline=True).render(
        pair=manifest.pair,
        rows=manifest.rows,
        imported=manifest.imported,
        pairing=manifest.pairing,
        sides=manifest.sides,
        licence=_licence,
        failures=len(manifest.failures),
        dropped=sorted(Counter(item.filter for item in manifest.dropped).items()),
    )


def _licence(licence: Mapping[str, Any]) -> str:
    text = f"[{licence['name']}]({licence['url']})" if licence["url"] else licence["name"]
    return f"{text}. {licence['note']}" if licence.get("note") else text
