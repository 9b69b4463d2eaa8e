"""Make pairs: the same subjects from the distilled model and from the baseline.

Run: python examples/01_make_pairs.py --count 40
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import topcoat


def main(argv: Sequence[str] | None = None) -> None:
    """Build a small dataset and say what it holds; the same command goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", default="mini")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--output", default="out/examples/pairs")
    options = parser.parse_args(argv)

    pair = topcoat.model_pair(options.pair)
    for spec in (pair.distilled, pair.baseline):
        print(f"{spec.name}: {spec.steps} steps, licence {spec.licence.name}")

    prompts = topcoat.sample_prompts(options.count, seed=0)
    dataset = topcoat.build_pairs(
        options.output, prompts, pair, on_progress=lambda done, total: print(f"{done}/{total} pairs")
    )

    first = dataset[0]
    print(f"{len(dataset)} pairs, {len(dataset.split('train'))} of them for training")
    print(f"the first: {first.record.prompt!r}, seed {first.record.seed}, {tuple(first.distilled.shape)}")


if __name__ == "__main__":
    main()
