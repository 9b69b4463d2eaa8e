"""The dataset card (README.md) of a folder of pairs, generated or imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib import resources
from typing import Any

from topcoat.pairs.manifest import Manifest


def dataset_card(manifest: Manifest) -> str:
    """The README.md text for ``manifest``: what is inside, what made it and under which licences."""
    from huggingface_hub import DatasetCard, DatasetCardData

    imported = manifest.imported is not None
    data = DatasetCardData(
        pretty_name=f"{manifest.pair} {'pairs' if imported else 'portrait pairs'}",
        license="other",
        license_name="see-below",
        task_categories=["image-to-image"],
        tags=["topcoat"] if imported else ["synthetic", "topcoat"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    )
    card = DatasetCard.from_template(
        data,
        template_str=resources.files("topcoat.pairs").joinpath("card.md.j2").read_text(encoding="utf-8"),
        pair=manifest.pair,
        rows=manifest.rows,
        imported=manifest.imported,
        pairing=manifest.pairing,
        sides=manifest.sides,
        licence=_licence,
        failures=len(manifest.failures),
        dropped=sorted(Counter(item.filter for item in manifest.dropped).items()),
    )
    return f"{str(card).rstrip()}\n"


def _licence(licence: Mapping[str, Any]) -> str:
    text = f"[{licence['name']}]({licence['url']})" if licence["url"] else licence["name"]
    return f"{text}. {licence['note']}" if licence.get("note") else text
