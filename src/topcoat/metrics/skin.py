"""What happens to the tone of skin: shifts of the individual typology angle (ITA), and CIEDE2000."""

from __future__ import annotations

from collections.abc import Mapping

from topcoat.metrics.base import PerImage
from topcoat.metrics.colour import ciede2000, skin_colour, skin_mask, typology_angle
from topcoat.metrics.embed import Batch
from topcoat.metrics.per_image import MeanMetric


class SkinMetric(MeanMetric):
    """Means over the images that show skin.

    ``ita_shift`` (degrees) and ``skin_difference`` (CIEDE2000) compare enhanced with distilled images on the distilled
    image's skin pixels. ``ita_to_baseline`` compares an arm with the baseline, each on its own skin pixels.
    """

    name, family = "ita_shift", "groups"
    needs = frozenset({"distilled", "pairs"})
    labels: Mapping[str, str] = {
        "ita_shift": "ITA, enhanced - distilled (degrees)",
        "skin_difference": "CIEDE2000 of skin to distilled",
        "ita_to_baseline": "ITA, own - baseline (degrees)",
    }

    def update(self, batch: Batch) -> None:
        complete = {"distilled", "enhanced", "reference"} <= set(batch)
        if not complete or len({len(images) for images in batch.values()}) != 1:
            return
        x, z, y = (batch[arm].images for arm in ("distilled", "enhanced", "reference"))
        masks = [skin_mask(part) for part in (x, z, y)]
        own = [skin_colour(part, mask) for part, mask in zip((x, z, y), masks, strict=True)]
        before, after = own[0], skin_colour(z, masks[0])  # the same pixels
        angles = [typology_angle(colour) for colour in own]
        self.add("enhanced", typology_angle(after) - typology_angle(before), "ita_shift")
        self.add("enhanced", ciede2000(before, after), "skin_difference")
        self.add("distilled", angles[0] - angles[2], "ita_to_baseline")
        self.add("enhanced", angles[1] - angles[2], "ita_to_baseline")

    def per_image(self) -> list[PerImage]:
        shift, difference = self.values("enhanced", "ita_shift"), self.values("enhanced", "skin_difference")
        if shift is None or difference is None:
            return []
        return [
            PerImage("skin tone shift (ITA degrees)", shift),
            PerImage("skin colour change (CIEDE2000)", difference, "low"),
        ]
