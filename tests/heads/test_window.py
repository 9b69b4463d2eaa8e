"""Pooling over windows, against a plain loop, and what it gives a head: a part that equals the whole's part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from topcoat.heads import Head, NAFNetConfig, UNetConfig
from topcoat.heads.network import HeadConfig
from topcoat.heads.window import WINDOW_PX, Window


def _windows(hidden: Tensor, window: Window) -> list[list[Tensor]]:
    """The values ``(N, C, P)`` in the window of each cell, by rows and columns of cells."""
    side = 2 * window.reach + 1

    def span(cell: int, cells: int) -> slice:
        first = min(max(0, cell - window.reach), max(0, cells - side))
        return slice(first * window.cell, min(first + side, cells) * window.cell)

    rows, columns = (length // window.cell for length in hidden.shape[-2:])
    return [
        [hidden[..., span(row, rows), span(column, columns)].flatten(2) for column in range(columns)]
        for row in range(rows)
    ]


@pytest.mark.parametrize("size", [(24, 36), (4, 40), (60, 12), (8, 8)])
@pytest.mark.parametrize("window", [Window(cell=4, reach=1), Window(cell=1, reach=2), Window(cell=2, reach=9)])
def test_statistics_are_those_of_the_window_around_each_cell(size: tuple[int, int], window: Window) -> None:
    hidden = torch.randn(2, 3, *size)
    expected = _windows(hidden, window)
    mean = torch.stack([torch.stack([values.mean(2) for values in row], 2) for row in expected], 2)
    largest = torch.stack([torch.stack([values.amax(2) for values in row], 2) for row in expected], 2)
    torch.testing.assert_close(window.mean(hidden), mean)
    torch.testing.assert_close(window.largest(hidden), largest, rtol=0, atol=0)


def test_values_are_interpolated_between_the_centres_of_cells() -> None:
    cells = torch.tensor([[0.0, 4.0, 4.0]])[None, None]
    spread = Window(cell=4, reach=1).spread(cells)
    assert spread.shape == (1, 1, 4, 12)
    assert spread[0, 0, 0].tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    "config", [UNetConfig(channels=(8, 8, 16)), NAFNetConfig(width=8, encoder=(1, 1), decoder=(1, 1))]
)
def test_a_picture_of_one_window_is_pooled_as_a_whole(config: HeadConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    head, images = _awake(config), torch.rand(2, 3, WINDOW_PX, WINDOW_PX)
    enhanced = head(images)
    monkeypatch.setattr(Window, "covers", lambda *_: False)
    torch.testing.assert_close(head(images), enhanced, rtol=0, atol=1e-5)  # the general way ends at the same numbers


@pytest.mark.parametrize("kind", ["embedded", "nafnet"])
def test_a_part_with_its_halo_gives_what_the_whole_gives(kind: str) -> None:
    head = Head.default() if kind == "embedded" else _awake(NAFNetConfig())
    config = head.config
    images = torch.rand(1, 3, 128, 720)
    images[..., 300:310] = 1
    assert config.halo_px is not None
    start, stop = 320, 336 + config.halo_px  # the whole goes on by more than the halo on either side
    first = start - config.halo_px
    part = head(images[..., first : stop + config.halo_px])[..., start - first : stop - first]
    whole = head(images)[..., start:stop]
    assert float((whole - images[..., start:stop]).abs().mean()) > 0.01
    torch.testing.assert_close(part, whole, rtol=0, atol=0.25 / 255)


def test_the_window_is_in_a_record_only_where_it_is_not_the_default() -> None:
    assert "attention_window_px" not in UNetConfig().model_dump(mode="json")
    assert UNetConfig(attention_window_px=384).model_dump(mode="json")["attention_window_px"] == 384
    assert UNetConfig(attention_window_px=384).halo_px == 576 and UNetConfig().halo_px == 192


def test_mirrored_pictures_have_mirrored_windows() -> None:
    hidden, window = torch.randn(1, 2, 20, 32), Window(cell=4, reach=1)
    for pooled in (window.mean, window.largest):
        torch.testing.assert_close(pooled(hidden.flip(3)), pooled(hidden).flip(3))


def _awake(config: HeadConfig) -> Head:
    """A head whose weights, all of them, have moved from their start."""
    torch.manual_seed(3)
    network = config.build()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.03)
    return Head(network, config)
