"""Measure how near a head brings distilled images to the baseline's, compared with the identity baseline (no head).

Run: python examples/04_evaluate.py (after the first two examples)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import topcoat


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a head on pairs that it was not trained on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="out/examples/pairs")
    parser.add_argument("--head", help="a head folder; the embedded head by default")
    parser.add_argument("--split", choices=("train", "val", "test"), help="all pairs by default: examples have few")
    options = parser.parse_args(argv)

    head = topcoat.Head.from_pretrained(options.head) if options.head else topcoat.Head.default()
    dataset = topcoat.PairDataset.open(options.data)
    if options.split:
        dataset = dataset.split(options.split)

    # Any iterable of images will do, so nothing needs to be in memory at once.
    enhanced = (head(image[None])[0] for image in dataset.distilled)
    report = topcoat.evaluate(enhanced, reference=dataset.baseline, distilled=dataset.distilled)
    print(report.summary())


if __name__ == "__main__":
    main()
