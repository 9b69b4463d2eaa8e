"""The recipe's reader: landmarks land where heat is, and a face that fits no shape stands out."""

from __future__ import annotations

from pathlib import Path

import torch

from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, sample_words
from recipes.mini.reader import PortraitReader, ShapeModel, word_indices


def _faces(count: int) -> torch.Tensor:
    """Landmarks (N, 5, 2) of a face that grows, shifts and turns: few degrees of freedom."""
    generator = torch.Generator().manual_seed(3)
    shape = torch.tensor([[40.0, 55.0], [88.0, 55.0], [64.0, 75.0], [50.0, 95.0], [78.0, 95.0]])
    size, shift = torch.randn(count, 1, 1, generator=generator), torch.randn(count, 1, 2, generator=generator)
    return shape + 0.05 * size * (shape - 64) + 2 * shift


def test_a_moved_landmark_is_a_deformed_face(tmp_path: Path) -> None:
    faces = _faces(400)
    model = ShapeModel.of(faces[:300], faces[300:] + 0.1)
    model.save(tmp_path)
    loaded = ShapeModel.load(tmp_path)
    assert loaded.limit_px == model.limit_px > 0
    bent = faces[300:].clone()
    bent[:, 0, 1] += 8
    assert bool((loaded.residual_px(bent) > loaded.limit_px).all())
    share = (loaded.residual_px(faces[300:]) > loaded.limit_px).float().mean()
    assert float(share) <= 0.02


def test_landmarks_are_in_pixels_of_the_image() -> None:
    torch.manual_seed(0)
    reader = PortraitReader(landmarks=3, width=8).eval()
    with torch.no_grad():
        reader.heatmaps.weight.zero_()
        assert reader.heatmaps.bias is not None
        reader.heatmaps.bias.zero_()
        reading = reader(torch.rand(2, 3, 64, 48))
    torch.testing.assert_close(reading.landmarks, torch.tensor([23.5, 31.5]).expand(2, 3, 2))
    assert [logits.shape for logits in reading.logits] == [(2, len(values)) for values in PORTRAIT_VOCABULARY.values()]


def test_word_indices_name_the_words() -> None:
    portraits = [sample_words(index) for index in range(20)]
    for words, row in zip(portraits, word_indices(portraits).tolist(), strict=True):
        for (name, values), index in zip(PORTRAIT_VOCABULARY.items(), row, strict=True):
            assert values[index] == getattr(words, name)
