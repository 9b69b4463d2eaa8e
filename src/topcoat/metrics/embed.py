"""From images to features: one pass of a feature net over any stream of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import Features, QualityNet
from topcoat.images import check_images
from topcoat.metrics.cache import FeatureCache, image_key, named_key
from topcoat.metrics.paired import perceptual_distance
from topcoat.metrics.spectrum import radial_spectrum

Images = Iterable[Tensor]
"""A stream of images ``(3, H, W)`` or batches ``(N, 3, H, W)`` (both may be mixed), or one ``(N, 3, H, W)`` tensor."""

Progress = Callable[[int], None]
"""Called with the number of images done so far."""


class FeatureNetLike(Protocol):
    """What evaluation asks of a feature net; `topcoat.features.FeatureNet` is one."""

    digest: str

    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a feature net says of N images."""

    embedding: Tensor
    """``(N, D)`` float64, for set distances."""
    identity: Tensor
    """``(N, K)`` float64, L2-normalised, for cosines."""

    def __len__(self) -> int:
        return len(self.embedding)


def batches(images: Images, batch_size: int, name: str = "images") -> Iterator[Tensor]:
    """Checked batches ``(batch_size, 3, H, W)`` (the last may be smaller) from any stream of images.

    However the stream is cut, the batches are the same. Raises `UsageError` for anything that is not an image in
    [0, 1], and where the stream mixes sizes.
    """
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
    waiting: list[Tensor] = []
    size: tuple[int, ...] | None = None
    for item in images:
        batch = check_images(item.unsqueeze(0) if isinstance(item, Tensor) and item.ndim == 3 else item, name)
        if size is not None and tuple(batch.shape[-2:]) != size:
            found = tuple(batch.shape[-2:])
            raise UsageError(f"{name} mix sizes {_px(size)} and {_px(found)}; resize them to one size first")
        size = tuple(batch.shape[-2:])
        waiting.extend(batch.unbind())
        while len(waiting) >= batch_size:
            yield torch.stack(waiting[:batch_size])
            del waiting[:batch_size]
    if waiting:
        yield torch.stack(waiting)


class SeenBatch:
    """One checked batch ``(N, 3, H, W)`` as a net sees it; the net runs at most once, and not at all if ``cache`` can.

    What is computed is put into the cache.
    """

    def __init__(self, images: Tensor, net: FeatureNetLike, cache: FeatureCache | None = None) -> None:
        self.images = images
        self._net = net
        self._cache = cache
        self._features: Features | None = None
        self.keys = [] if cache is None else [image_key(image) for image in images]

    def features(self) -> Features:
        """What the net says, feature maps included."""
        if self._features is None:
            with torch.inference_mode():
                self._features = self._net(self.images.to(torch.float32))
        return self._features

    @cached_property
    def spectrum(self) -> Tensor:
        """``(N, rings)`` radial power spectra."""
        return radial_spectrum(self.images).nan_to_num(0.0)

    def embeddings(self) -> Embeddings:
        """Embedding and identity, from the cache where it holds all of them."""
        return Embeddings(
            self._kept("embedding", lambda: self.features().embedding),
            self._kept("identity", lambda: self.features().identity),
        )

    def quality(self, net: QualityNet) -> Tensor:
        """``(N,)`` qualities without a reference, from the cache where it holds all of them."""
        rows = self._kept(f"quality {net.digest}", lambda: net(self.images).unsqueeze(1))
        return rows.squeeze(1)

    def _kept(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """``(N, D)`` float64 rows called ``name``."""
        if self._cache is None:
            return compute().to("cpu", torch.float64)
        keys = [named_key(key, name) for key in self.keys]
        known = [self._cache.get(key) for key in keys]
        found = [one for one in known if one is not None]
        if len(found) == len(keys):
            return torch.stack(found).to(torch.float64)
        rows = compute().to("cpu", torch.float64)
        for key, row in zip(keys, rows, strict=True):
            self._cache.put(key, row)
        return rows


def perceptual(a: SeenBatch, b: SeenBatch, count: int, cache: FeatureCache | None = None) -> Tensor:
    """``(count,)`` perceptual distances of the first images of two batches, from the cache where it holds all of them.

    Raises `UsageError` for a net without feature maps.
    """
    keys = [named_key(one + other, "perceptual") for one, other in zip(a.keys[:count], b.keys[:count], strict=True)]
    if cache is not None:
        known = [cache.get(key) for key in keys]
        found = [one for one in known if one is not None]
        if len(found) == count:
            return torch.cat(found).to(torch.float64)
    stages = [[stage[:count] for stage in part.features().stages] for part in (a, b)]
    distances = perceptual_distance(stages[0], stages[1])
    if cache is not None:
        for key, distance in zip(keys, distances, strict=True):
            cache.put(key, distance)
    return distances


def embed(
    images: Images,
    net: FeatureNetLike,
    batch_size: int = 32,
    *,
    name: str = "images",
    on_progress: Progress | None = None,
    cache: FeatureCache | None = None,
) -> Embeddings:
    """Features of a stream of images in its order; memory is that of one batch plus the features.

    ``name`` is what errors call the images; ``cache`` (of this net) spares images that were seen before. Raises
    `UsageError` if there are none, or as `batches` does.
    """
    parts: list[Embeddings] = []
    done = 0
    for batch in batches(images, batch_size, name):
        parts.append(SeenBatch(batch, net, cache).embeddings())
        done += len(batch)
        if on_progress is not None:
            on_progress(done)
    return join(parts, name)


def join(parts: list[Embeddings], name: str = "images") -> Embeddings:
    """One `Embeddings` from those of batches; raises `UsageError` if there are none."""
    if not parts:
        raise UsageError(f"{name} hold no images; give 2 or more")
    return Embeddings(torch.cat([part.embedding for part in parts]), torch.cat([part.identity for part in parts]))


def _px(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
