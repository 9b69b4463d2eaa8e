"""One side of a pair is a function of your own: any model, service or renderer that makes an image of prompt and seed.

    python examples/own_model.py --output out/own-pairs

Here the fast side is a few lines of numpy, and the good side the baseline of the embedded mini pair.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import topcoat

SIZE_PX = 128


def portrait(prompt: str, seed: int) -> np.ndarray:
    """``(H, W, 3)`` uint8: a soft oval in a colour of the prompt; the same prompt and seed give the same picture."""
    noise = np.random.default_rng([seed, *prompt.encode()])
    rows, columns = np.mgrid[-1 : 1 : SIZE_PX * 1j, -1 : 1 : SIZE_PX * 1j]
    oval = np.exp(-3 * (rows**2 + (1.4 * columns) ** 2))[..., None]
    colour, ground = noise.uniform(0.4, 0.9, 3), noise.uniform(0.1, 0.5, 3)
    return (255 * (oval * colour + (1 - oval) * ground)).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pair as a file and build pairs of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="out/own-pairs")
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args(argv)

    mini = topcoat.model_pair("mini").model_dump(mode="json")
    own = {
        "name": "ovals",
        "model": "own_model:portrait",  # module:function, where others name a folder or a hub id
        "steps": 1,
        "licence": {"name": "MIT", "url": "https://opensource.org/license/mit"},
    }
    unused = {"guidance_scale": 0.0, "max_sequence_length": 1, "dtype": "float32", "width_px": 128, "height_px": 128}
    pair = Path(options.output).with_suffix(".json")
    pair.parent.mkdir(parents=True, exist_ok=True)
    pair.write_text(json.dumps({"name": "own", "distilled": own | unused, "baseline": mini["baseline"]}))
    prompts = topcoat.sample_prompts(options.count, seed=0)
    dataset = topcoat.build_pairs(options.output, prompts, str(pair))
    print(f"{len(dataset)} pairs in {options.output}; every command takes the same file as --pair {pair}")


if __name__ == "__main__":
    main()
