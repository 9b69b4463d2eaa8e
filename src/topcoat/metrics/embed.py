"""From images to features: one pass of a feature net over any stream of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import Features
from topcoat.images import check_images
from topcoat.metrics.cache import FeatureCache, image_key, named_key

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
        before, size = size, tuple(batch.shape[-2:])
        if before not in (None, size):
            raise UsageError(f"{name} mix sizes {_px(before)} and {_px(size)}; resize them to one size first")
        waiting.extend(batch.unbind())
        while len(waiting) >= batch_size:
            yield torch.stack(waiting[:batch_size])
            del waiting[:batch_size]
    if waiting:
        yield torch.stack(waiting)


class ImageBatch:
    """One checked batch ``(N, 3, H, W)`` and what the net says of it.

    The net runs at most once, and not at all where the cache holds what is asked for.
    """

    def __init__(self, images: Tensor, net: FeatureNetLike, cache: FeatureCache | None = None) -> None:
        self.images = images
        self._net = net
        self._cache = cache
        self._keys = [] if cache is None else [image_key(image) for image in images]
        self._once: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def features(self) -> Features:
        """What the net says, feature maps included."""
        with torch.inference_mode():
            return self._net(self.images.to(torch.float32))

    @cached_property
    def embeddings(self) -> Embeddings:
        """Embedding and identity."""
        return Embeddings(
            self.cached("embedding", lambda: self.features.embedding),
            self.cached("identity", lambda: self.features.identity),
        )

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` gives, computed at the first call with this ``name``."""
        if name not in self._once:
            self._once[name] = compute()
        return self._once[name]

    def cached(self, name: str, compute: Callable[[], Tensor], other: ImageBatch | None = None) -> Tensor:
        """``(N, D)`` float64 rows called ``name``, from the cache where it holds all of them.

        With ``other`` they are rows of pairs: of these images and those of another batch.
        """
        if self._cache is None:
            return compute().to("cpu", torch.float64)
        keys = self._keys if other is None else [a + b for a, b in zip(self._keys, other._keys, strict=True)]
        names = [named_key(key, name) for key in keys]
        known = [row for row in map(self._cache.get, names) if row is not None]
        if len(known) == len(names):
            return torch.stack(known).to(torch.float64)
        rows = compute().to("cpu", torch.float64)
        for key, row in zip(names, rows, strict=True):
            self._cache.put(key, row)
        return rows


Batch = Mapping[str, ImageBatch]
"""The next images of the same subjects, by arm; the reference is ``reference``."""


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

    ``name`` is what errors call the images; ``cache`` (of this net) spares images that were embedded before. Raises
    `UsageError` if there are none, or as `batches` does.
    """
    parts: list[Embeddings] = []
    done = 0
    for batch in batches(images, batch_size, name):
        parts.append(ImageBatch(batch, net, cache).embeddings)
        done += len(batch)
        if on_progress is not None:
            on_progress(done)
    if not parts:
        raise UsageError(f"{name} hold no images; give 2 or more")
    return Embeddings(torch.cat([part.embedding for part in parts]), torch.cat([part.identity for part in parts]))


def _px(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
