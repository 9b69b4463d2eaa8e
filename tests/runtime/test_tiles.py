"""Tiles cover a picture once, and join as the whole does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from topcoat import images
from topcoat.runtime.tiles import pad_to_multiple, tiles


@pytest.mark.parametrize("size", [(100, 260), (64, 64), (1, 500), (257, 129)])
@pytest.mark.parametrize(("tile", "halo", "multiple"), [(64, 32, 16), (50, 20, 8), (1024, 192, 16)])
def test_every_pixel_is_of_one_tile_and_tiles_start_at_multiples(
    size: tuple[int, int], tile: int, halo: int, multiple: int
) -> None:
    count = np.zeros(size, dtype=int)
    for part in tiles(*size, tile, halo, multiple):
        count[part.kept] += 1
        for seen, kept, length in zip(part.seen, part.kept, size, strict=True):
            assert seen.start % multiple == 0 and kept.start % multiple == 0
            assert seen.start == 0 or seen.start <= kept.start - halo
            assert seen.stop == length or seen.stop >= kept.stop + halo
    assert (count == 1).all()


def test_joined_tiles_of_a_blur_are_the_blur_of_the_whole() -> None:
    def blur(picture: np.ndarray) -> np.ndarray:  # reaches 3 px
        return np.stack([np.roll(picture, shift, axis) for axis in (2, 3) for shift in range(-3, 4)]).mean(0)

    picture = np.random.default_rng(0).random((1, 3, 70, 90))
    joined = np.empty_like(picture)
    for tile in tiles(70, 90, 16, 8, 8):
        joined[(slice(None), slice(None), *tile.kept)] = tile.of_result(
            blur(picture[(slice(None), slice(None), *tile.seen)])
        )
    np.testing.assert_allclose(joined[..., 3:-3, 3:-3], blur(picture)[..., 3:-3, 3:-3])


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (3, 50), (1, 1)])
def test_padding_is_that_of_torch_heads(size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size)
    expected, _ = images.pad_to_multiple(picture, 16)
    np.testing.assert_array_equal(pad_to_multiple(picture.numpy(), 16), expected.numpy())
    assert pad_to_multiple(picture.numpy(), 4, 20).shape == (2, 3, *(max(20, -(-side // 4) * 4) for side in size))
