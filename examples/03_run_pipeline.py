"""Run distilled -> head, and write each portrait with what made it.

Run: python examples/03_run_pipeline.py --count 8
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import topcoat


def main(argv: Sequence[str] | None = None) -> None:
    """Paint portraits batch by batch; memory does not grow with their number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", default="mini")
    parser.add_argument("--head", help="a head folder; the embedded head by default")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--output", default="out/examples/portraits")
    options = parser.parse_args(argv)

    pair = topcoat.model_pair(options.pair)
    head = topcoat.Head.from_pretrained(options.head) if options.head else topcoat.Head.default()
    pipe = topcoat.Pipeline(pair.distilled, head)
    prompts = topcoat.sample_prompts(options.count, seed=1)

    for batch in pipe.stream(prompts, range(options.count), strength=options.strength, batch_size=4):
        for prompt, seed, image in zip(batch.prompts, batch.seeds, batch.enhanced, strict=True):
            path = Path(options.output) / f"{seed:05d}.png"
            topcoat.write_image(path, image, {"prompt": prompt, "seed": str(seed), "head": head.digest})
            print(path)
        share = batch.head_seconds / (batch.generator_seconds + batch.head_seconds)
        print(f"the head took {share:.1%} of the time")


if __name__ == "__main__":
    main()
