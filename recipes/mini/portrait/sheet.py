"""Contact sheet of rendered portraits: ``python -m recipes.mini.portrait.sheet --count 16 -o sheet.png``."""

from __future__ import annotations

import argparse
import time

import numpy as np
from PIL import Image

from recipes.mini.portrait.render import SIZE_PX, render_portrait
from recipes.mini.portrait.words import Words, sample_words


def main() -> None:
    """Render the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="index of the first portrait")
    parser.add_argument("--count", type=int, default=16, help="number of portraits")
    parser.add_argument("--seed", type=int, default=0, help="seed of the words")
    parser.add_argument("--columns", type=int, default=8, help="portraits in a row")
    parser.add_argument("--size", type=int, default=SIZE_PX, help="pixels of each portrait")
    parser.add_argument("--scale", type=int, default=1, help="enlargement of the finished sheet")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=WORD", help="words fixed for all portraits")
    parser.add_argument("-o", "--output", required=True, help="picture file to write")
    arguments = parser.parse_args()

    fixed = dict(pair.split("=", 1) for pair in arguments.set)
    size, columns = arguments.size, arguments.columns
    rows = -(-arguments.count // columns)
    sheet = np.full((rows * size, columns * size, 3), 255, np.uint8)
    seconds = []
    for place, index in enumerate(range(arguments.first, arguments.first + arguments.count)):
        words = sample_words(index, arguments.seed)
        words = Words(**(vars(words) | fixed))
        started = time.process_time()
        picture = render_portrait(words, index, size).image
        seconds.append(time.process_time() - started)
        top, left = place // columns * size, place % columns * size
        sheet[top : top + size, left : left + size] = picture
    image = Image.fromarray(sheet)
    if arguments.scale > 1:
        grown = (image.width * arguments.scale, image.height * arguments.scale)
        image = image.resize(grown, Image.Resampling.BICUBIC)
    image.save(arguments.output)
    later = sorted(seconds[1:]) or seconds
    print(f"{arguments.output}: {arguments.count} portraits, median {later[len(later) // 2]:.2f} CPU s each")


if __name__ == "__main__":
    main()
