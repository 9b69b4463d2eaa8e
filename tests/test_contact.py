from __future__ import annotations

import pytest
import torch

from topcoat.contact import contact_sheet
from topcoat.errors import UsageError
from topcoat.images import from_pil


def test_every_image_is_on_the_sheet_at_full_size() -> None:
    red, blue = torch.zeros(3, 3, 20, 30), torch.zeros(2, 3, 20, 30)
    red[:, 0], blue[:, 2] = 1, 1
    sheet = from_pil(contact_sheet([("first", red), ("second", blue)]))
    is_red = (sheet == torch.tensor([1.0, 0, 0])[:, None, None]).all(0)
    is_blue = (sheet == torch.tensor([0.0, 0, 1])[:, None, None]).all(0)
    assert int(is_red.sum()) == 3 * 20 * 30 and int(is_blue.sum()) == 2 * 20 * 30
    assert is_red.nonzero()[:, 0].max() < is_blue.nonzero()[:, 0].min()
    assert (sheet[:, :, :20] < 0.5).any(), "the label is drawn at the left"


def test_scale_resizes_images() -> None:
    rows = [("x", torch.zeros(1, 3, 40, 40))]
    pixels = [int((from_pil(contact_sheet(rows, scale)) == 0).all(0).sum()) for scale in (0.5, 1, 2)]
    assert pixels == [20 * 20, 40 * 40, 80 * 80]


def test_rows_of_other_sizes_and_odd_labels_fit() -> None:
    sheet = contact_sheet([("", torch.zeros(1, 3, 8, 8)), ("long label ü " * 5, torch.ones(4, 3, 16, 24))])
    assert sheet.width > 4 * 24 and sheet.height > 8 + 16


@pytest.mark.parametrize(
    ("rows", "scale", "words"),
    [
        ([], 1, "at least one row"),
        ([("x", torch.zeros(1, 3, 8, 8))], 0, "cannot be scaled"),
        ([("x", torch.zeros(3, 8, 8))], 1, "row 'x' has shape"),
    ],
)
def test_wrong_use(rows: list[tuple[str, torch.Tensor]], scale: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        contact_sheet(rows, scale)
