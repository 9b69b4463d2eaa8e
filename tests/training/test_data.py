from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fake_pairs import FakeDataset, fake_pair
from tests.training.conftest import make_pair, with_latents
from topcoat.errors import DataError
from topcoat.pairs.dataset import Side
from topcoat.training import data as module
from topcoat.training import decoded
from topcoat.training.crop_cache import CropCache
from topcoat.training.data import Batch, Batches
from topcoat.training.decoded import CachedPairs


def batches(dataset: FakeDataset, *, seed: int = 0, crop_px: int | None = 16, flip: bool = True) -> Batches:
    return Batches(CachedPairs(dataset, 100), seed=seed, crop_px=crop_px, flip=flip, size_multiple=4)


def numbered(count: int, size: int = 8) -> FakeDataset:
    """Pairs that can be told by their colour: image i is i/255 everywhere."""
    images = [torch.full((3, size, size), index / 255) for index in range(count)]
    return FakeDataset([fake_pair(image, image) for image in images])


def test_every_pass_sees_every_pair_once_in_another_order():
    source = batches(numbered(7), crop_px=8)
    seen = (source.batch(0, 21).x[:, 0, 0, 0] * 255).round().int().tolist()
    passes = [seen[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    other = (batches(numbered(7), crop_px=8, seed=1).batch(0, 7).x[:, 0, 0, 0] * 255).round().int().tolist()
    assert other != passes[0]


def test_an_image_depends_on_its_number_alone(dataset: FakeDataset):
    source = batches(dataset)
    whole = source.batch(0, 24)
    fresh = batches(dataset)
    later = fresh.batch(17, 5)  # as after a resume
    assert torch.equal(later.x, whole.x[17:22]) and torch.equal(later.y, whole.y[17:22])
    parts = [fresh.batch(start, size).x for start, size in ((0, 3), (3, 8), (11, 13))]
    assert torch.equal(torch.cat(parts), whole.x)


def test_both_halves_get_the_same_cut(dataset: FakeDataset):
    twins = FakeDataset([fake_pair(dataset[i].baseline, dataset[i].baseline) for i in range(len(dataset))])
    batch = batches(twins).batch(0, 30)
    assert torch.equal(batch.x, batch.y)


def test_cuts_come_from_everywhere_and_half_are_mirrored():
    ramp = torch.arange(64).repeat(1, 1)[None].repeat(3, 64, 1) / 255  # columns tell where a cut is
    source = batches(FakeDataset([fake_pair(ramp, ramp)]))
    cuts = source.batch(0, 300).x[:, 0, 0, :]
    assert cuts.shape == (300, 16)
    mirrored = cuts[:, 0] > cuts[:, 1]
    assert 110 < int(mirrored.sum()) < 190
    left = (torch.minimum(cuts[:, 0], cuts[:, -1]) * 255).round().int().tolist()
    counts = Counter(left)
    assert min(counts) == 0 and max(counts) == 48 and len(counts) > 40
    never = batches(FakeDataset([fake_pair(ramp, ramp)]), flip=False).batch(0, 50).x[:, 0, 0, :]
    assert bool((never[:, 0] < never[:, 1]).all())


def test_pixels_are_exact(dataset: FakeDataset):
    batch = batches(dataset, crop_px=24, flip=False).batch(0, 10)
    originals = [dataset[index].distilled for index in range(10)]
    assert all(any(torch.equal(image, original) for original in originals) for image in batch.x)


def test_whole_images_are_cut_to_the_multiple():
    dataset = FakeDataset([make_pair(0, 22, 27)])
    assert batches(dataset, crop_px=None).batch(0, 2).x.shape == (2, 3, 20, 24)


class Counting(FakeDataset):
    """Knows which pairs were read, and how far."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.read: list[int] = []

    def encoded(self, index: int, side: Side) -> tuple[bytes, str]:
        if side == "distilled":
            self.read.append(index)
        return super().encoded(index, side)


@pytest.mark.parametrize(("cache_mebibytes", "reads"), [(100, 5), (0, 21)])
def test_pairs_are_decoded_once_if_they_fit(cache_mebibytes: int, reads: int):
    dataset = Counting([make_pair(seed) for seed in range(5)])
    source = Batches(CachedPairs(dataset, cache_mebibytes), seed=0, crop_px=16, flip=True, size_multiple=4)
    source.batch(0, 20)
    assert len(dataset.read) == reads


def test_unusable_pairs_are_named():
    with pytest.raises(DataError, match="no training pairs"):
        CachedPairs(FakeDataset([]), 1)
    small = FakeDataset([make_pair(0, 12, 40)])
    with pytest.raises(DataError, match="40x12 px, less than the 16 px"):
        batches(small).batch(0, 1)
    unequal = FakeDataset([make_pair(0), fake_pair(make_pair(0).distilled, make_pair(1, 20, 24).baseline)])
    with pytest.raises(DataError, match="pair 1 has images of 24x24 and 24x20"):
        batches(unequal).batch(0, 2)
    mixed = FakeDataset([make_pair(0, 24, 24), make_pair(1, 32, 24)])
    assert batches(mixed).batch(0, 4).x.shape == (4, 3, 16, 16)
    with pytest.raises(DataError, match="several sizes"):
        batches(mixed, crop_px=None).batch(0, 4)


def test_kept_pairs_are_read_once_and_with_their_neighbours():
    dataset = Counting(list(numbered(120)))
    read = dataset.read
    pairs = CachedPairs(dataset, 100)
    assert read == [0]
    assert int(pairs[63].pixels[0, 0, 0, 0]) == 63
    assert read == [0, *range(50, 100)]
    assert [int(pairs[index].pixels[0, 0, 0, 0]) for index in (119, 0, 7, 50)] == [119, 0, 7, 50]
    assert Counter(read) == Counter(range(120))


@pytest.mark.parametrize("kept", [True, False])
def test_targets_are_the_latents_that_the_pair_holds(kept: bool):
    image, latents = torch.rand(3, 8, 8), torch.rand(4, 1, 1)
    pair = replace(fake_pair(image, image, latents), baseline_latents=latents + 1 if kept else None)
    found = CachedPairs([pair], 100, 4, lambda baseline: latents + baseline.mean())
    rounded = image.mul(255).round().div(255)
    expected = latents + 1 if kept else latents + rounded.mean()
    targets = found[0].targets
    assert targets is not None and torch.allclose(targets, expected)


def test_latents_of_two_vaes_are_refused():
    image, latents = torch.rand(3, 8, 8), torch.rand(4, 1, 1)
    pair = replace(fake_pair(image, image, latents), baseline_latents=torch.rand(16, 1, 1))
    with pytest.raises(DataError, match=r"\(16, 1, 1\) and distilled ones of \(4, 1, 1\): two VAEs, .*train a head of"):
        CachedPairs([pair], 100, 4, lambda baseline: latents)
    assert CachedPairs([pair], 100)[0].latents is None  # a head of images has no use for them


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [part for part in (batch.x, batch.y, batch.latents, batch.targets) if part is not None]


def streamed(dataset: Any, workers: int, count: int = 9, *, start: int = 0, **options: Any) -> list[torch.Tensor]:
    """All batches from number ``start`` on, of pairs that are not kept in memory."""
    latents, size = options.pop("latents", None), options.get("batch_size", 4)
    settings: dict[str, Any] = {"seed": 3, "crop_px": 16, "flip": latents is None, "size_multiple": 4, "batch_size": 4}
    source = Batches(CachedPairs(dataset, 0, latents), workers=workers, **(settings | options))
    found = [part for number in range(start, count) for part in tensors(source.batch(size * number, size))]
    source.close()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop_px": None},
        {"paired": False},
        {"crops_per_decode": 3},
        {"crops_per_decode": 3, "paired": False},
        {"latents": 6, "crops_per_decode": 2},
    ],
    ids=str,
)
def test_batches_do_not_depend_on_workers(options: dict[str, Any]):
    pairs = [make_pair(seed) for seed in range(7)]
    dataset = FakeDataset([with_latents(pair) for pair in pairs] if "latents" in options else pairs)
    expected = streamed(dataset, 0, **options)
    for workers in (1, 4):
        assert equal(streamed(dataset, workers, **options), expected)
    resumed = streamed(dataset, 2, start=5, **options)
    assert equal(resumed, expected[-len(resumed) :])


@pytest.mark.parametrize("workers", [0, 4])
def test_a_decoded_pair_serves_batches_in_a_row(workers: int):
    ramp = torch.arange(64)[None].repeat(64, 1)  # the left column tells the cut, another channel the pair
    images = [torch.stack([ramp, ramp.mT, torch.full((64, 64), index)]) / 255 for index in range(8)]
    dataset = Counting([fake_pair(image, image) for image in images])
    pairs = CachedPairs(dataset, 0)
    options: dict[str, Any] = {"seed": 0, "crop_px": 16, "flip": True, "size_multiple": 4, "batch_size": 4}
    source = Batches(pairs, crops_per_decode=3, workers=workers, **options)
    dataset.read.clear()
    found = [source.batch(4 * number, 4).x.mul(255).round().int() for number in range(12)]
    numbers = [batch[:, 2, 0, 0].tolist() for batch in found]
    assert all(len(set(batch)) == 4 for batch in numbers)  # of four pairs each
    assert all(len({tuple(numbers[block + turn]) for turn in range(3)}) == 1 for block in range(0, 12, 3))
    seen = [number for block in range(0, 12, 3) for number in numbers[block]]
    assert Counter(seen) == Counter(2 * list(range(8)))  # two whole passes in 48 images
    cuts = {(int(image[2, 0, 0]), int(image[0].min()), int(image[1].min())) for batch in found for image in batch}
    assert len(cuts) > 44
    source.close()
    assert workers or len(dataset.read) == 16  # for 48 images
    plain = Batches(pairs, workers=workers, **options)
    assert len({tuple(plain.batch(4 * turn, 4).x[:, 2, 0, 0].tolist()) for turn in range(3)}) == 3
    plain.close()


def test_processes_take_their_shares_of_the_same_batches():
    dataset = FakeDataset([make_pair(seed) for seed in range(7)])
    options: dict[str, Any] = {"seed": 0, "crop_px": 16, "flip": True, "size_multiple": 4, "batch_size": 6}
    alone, *shares = (Batches(CachedPairs(dataset, 0), crops_per_decode=2, **options) for _ in range(3))
    for start in range(0, 36, 6):
        parts = [share.batch(start + 3 * rank, 3).x for rank, share in enumerate(shares)]
        assert torch.equal(torch.cat(parts), alone.batch(start, 6).x)


def test_no_more_is_decoded_than_a_cut_needs(monkeypatch: pytest.MonkeyPatch):
    asked: list[int | None] = []
    original = decoded.decode_pixels

    def noted(data: bytes, name: str, rows: int | None = None) -> Any:
        asked.append(rows)
        return original(data, name, rows)

    dataset = FakeDataset([make_pair(seed, 64, 64) for seed in range(5)])
    pairs = CachedPairs(dataset, 0)
    monkeypatch.setattr(decoded, "decode_pixels", noted)
    options: dict[str, Any] = {"seed": 0, "crop_px": 16, "flip": False, "size_multiple": 4}
    few = Batches(pairs, **options).batch(0, 20)
    lowest = [rows for rows in asked if rows is not None]
    assert len(lowest) == 40 and min(lowest) < 30 and max(lowest) <= 64
    asked.clear()
    Batches(pairs, paired=False, **options).batch(0, 20)
    assert len(asked) == 40  # one side of a pair each
    whole = Batches(CachedPairs(dataset, 100), **options).batch(0, 20)
    assert torch.equal(few.x, whole.x) and torch.equal(few.y, whole.y)


@pytest.mark.parametrize("paired", [True, False])
def test_cached_crops_are_cut_once(tmp_path: Path, paired: bool):
    dataset = Counting([make_pair(seed, 64, 64) for seed in range(6)])
    cache = CropCache(tmp_path / "crops.u8", 6, 3, 16)
    cache.open()
    options: dict[str, Any] = {"paired": paired, "cache": cache, "batch_size": 6}
    first = streamed(dataset, 2, 6, **options)
    assert equal(streamed(dataset, 0, 6, **options), first)
    if paired:
        passes = [{_unmirrored(image) for image in first[2 * turn]} for turn in range(6)]
        assert passes[0] == passes[3] and passes[2] == passes[5] and not passes[0] & passes[1]
        assert any(not torch.equal(a, b) for a, b in zip(first[0], first[6], strict=True))
    dataset.read.clear()
    again = CropCache(cache.path, 6, 3, 16)  # as after a resume
    again.open()
    assert equal(streamed(dataset, 4, 6, **dict(options, cache=again)), first)
    assert dataset.read == [0]  # by the constructor
    content = bytearray(cache.path.read_bytes())
    content[100] ^= 1  # a cut that was not wholly written is cut again
    cache.path.write_bytes(content)
    damaged = CropCache(cache.path, 6, 3, 16)
    damaged.open()
    assert damaged.get(0, 0) is None and damaged.get(0, 1) is not None
    assert equal(streamed(dataset, 0, 6, **dict(options, cache=damaged)), first)
    assert damaged.get(0, 0) is not None
    damaged.remove()
    assert not cache.path.exists()


def _unmirrored(image: torch.Tensor) -> bytes:
    return min(side.contiguous().numpy().tobytes() for side in (image, image.flip(-1)))


def test_a_crop_cache_larger_than_the_disk_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"cached crops need .* GB, and .*lower cached_crops"):
        CropCache(tmp_path / "deep" / "crops.u8", 10**9, 100, 384).open()
    assert not (tmp_path / "deep" / "crops.u8").exists()


def test_a_damaged_pair_is_named_by_the_batch_that_needs_it():
    class Damaged(FakeDataset):
        def encoded(self, index: int, side: Side) -> tuple[bytes, str]:
            return (b"", f"{side} image of pair {index}") if index == 3 else super().encoded(index, side)

    source = Batches(
        CachedPairs(Damaged([make_pair(seed) for seed in range(8)]), 0),
        seed=0, crop_px=16, flip=True, size_multiple=4, batch_size=1, workers=2,
    )  # fmt: skip
    order = module._shuffled(8, 0, 0, 0)
    for number, index in enumerate(order):
        if index == 3:
            with pytest.raises(DataError, match="image of pair 3 is not a readable picture"):
                source.batch(number, 1)
        else:
            source.batch(number, 1)
    source.close()
