"""Train a head on the pairs of the first example.

Run: python examples/02_train_head.py --images 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import topcoat


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print as it goes, and load what came out; the same command goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="out/examples/pairs")
    parser.add_argument("--run", default="unet", help="unet, paper-unet, debug, or a YAML file of your own")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--output", default="out/examples/head")
    options = parser.parse_args(argv)

    dataset = topcoat.PairDataset.open(options.data)
    for step in topcoat.train(options.run, dataset, options.output, images=options.images):
        # The loop yields after every step, so the caller decides what to log and when to stop.
        if step.step % 20 == 0:
            print(f"{step.images_seen} images, loss {step.loss:.4f}, {step.images_per_second:.0f} images/s")

    head = topcoat.Head.from_pretrained(options.output)
    print(f"head {head.digest}: {head.parameters:,} parameters, in {options.output}")


if __name__ == "__main__":
    main()
