"""Rows that grow in one piece."""

from __future__ import annotations

import pytest
import torch

from topcoat.metrics.growing import GrowingTensor


@pytest.mark.parametrize("batch", [1, 7, 700, 5000])
def test_rows_are_those_that_were_added(batch: int) -> None:
    values = torch.randn(5000, 3, dtype=torch.float64)
    column = GrowingTensor()
    for part in values.split(batch):
        column.add(part)
    assert len(column) == 5000 and torch.equal(column.rows, values)


def test_keeps_the_type_and_none_of_what_it_was_given() -> None:
    column, images = GrowingTensor(), torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)
    column.add(images[:, :1])
    images.zero_()
    assert column.rows.dtype == torch.uint8 and column.rows.shape == (2, 1, 4, 4) and bool((column.rows == 7).all())


@pytest.mark.parametrize(
    ("count", "width", "most"), [(3000, 2, 2**20), (40, 3 * 128 * 128, 2 * 40 * 3 * 128 * 128 * 4)]
)
def test_lies_in_one_piece_of_memory_whose_size_follows_the_rows(count: int, width: int, most: int) -> None:
    column = GrowingTensor()
    for _ in range(count):
        column.add(torch.zeros(1, width))
    assert column.rows.untyped_storage().nbytes() <= most
