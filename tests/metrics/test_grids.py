from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from topcoat.errors import UsageError
from topcoat.metrics.grids import block_powers


def test_powers_are_those_of_scipys_cosine_transform_of_every_block() -> None:
    planes = torch.rand(2, 3, 32, 43, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = block_powers(planes)
    blocks = planes[..., :40].numpy().reshape(2, 3, 4, 8, 5, 8).transpose(0, 1, 2, 4, 3, 5)
    waves = np.asarray(dctn(blocks, axes=(-2, -1), norm="ortho"))
    power = np.square(waves).mean(axis=0)
    rows = (slice(0, 1), slice(1, -1), slice(-1, None))
    for down in range(3):
        for across in range(3):
            expected = power[:, rows[down], rows[across]].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, down, across].numpy(), expected, rtol=1e-9)


def test_white_noise_has_its_variance_at_every_frequency_and_place() -> None:
    found = block_powers(0.1 * torch.randn(200, 1, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert found.shape == (1, 3, 3, 8, 8)
    assert (found / 0.01 - 1).abs().max() < 0.5 and found.mean() == pytest.approx(0.01, rel=0.02)


def test_small_or_flat_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="24 or more pixels a side"):
        block_powers(torch.zeros(1, 1, 23, 64))
    with pytest.raises(UsageError, match=r"\(N, C, H, W\)"):
        block_powers(torch.zeros(1, 64, 64))
