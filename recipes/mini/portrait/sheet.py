"""Contact sheet of rendered portraits: ``python -m recipes.mini.portrait.sheet --count 24 --seed 0 -o sheet.png``."""

from __future__ import annotations

import argparse
import time

import torch
from PIL import Image

from recipes.mini.portrait.render import render_portrait
from recipes.mini.portrait.subject import sample_subject
from topcoat.prompts import sample_prompts, words_of


def main() -> None:
    """Render the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24, help="number of portraits")
    parser.add_argument("--seed", type=int, default=0, help="seed of prompts and portraits")
    parser.add_argument("--columns", type=int, default=6, help="portraits in a row")
    parser.add_argument("--size", type=int, default=128, help="pixels of each portrait")
    parser.add_argument("--scale", type=int, default=1, help="enlargement of the finished sheet")
    parser.add_argument("-o", "--output", required=True, help="picture file to write")
    arguments = parser.parse_args()

    size, columns = arguments.size, arguments.columns
    rows = -(-arguments.count // columns)
    sheet = torch.ones(3, rows * size, columns * size)
    seconds = []
    for number, prompt in enumerate(sample_prompts(arguments.count, arguments.seed)):
        seed = arguments.seed * 100_000 + number
        words = words_of(prompt)
        assert words is not None
        started = time.perf_counter()
        portrait = render_portrait(sample_subject(words, seed), seed, size)
        seconds.append(time.perf_counter() - started)
        top, left = number // columns * size, number % columns * size
        sheet[:, top : top + size, left : left + size] = portrait
    pixels = (sheet * 255.0 + 0.5).clamp(0.0, 255.0).to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    if arguments.scale > 1:
        picture = picture.resize(
            (picture.width * arguments.scale, picture.height * arguments.scale), Image.Resampling.BICUBIC
        )
    picture.save(arguments.output)
    later = sorted(seconds[3:]) or seconds
    print(f"{arguments.output}: {arguments.count} portraits, median {later[len(later) // 2] * 1000:.0f} ms each")


if __name__ == "__main__":
    main()
