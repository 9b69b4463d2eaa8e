"""From images to features: one pass of a feature net over any stream of images.

On disk vectors are named by the SHA-256 of the image's values, in safetensors shards of a folder named by the digest of
the net.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.features import FeatureNetLike, Features, whole
from topcoat.files import atomic_path
from topcoat.images import check_images

_FIRST_BYTES = 2**20


class GrowingTensor:
    """Rows ``(N, ...)`` of one shape and type, added batch by batch."""

    def __init__(self) -> None:
        self._room: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> Tensor:
        """All ``(N, ...)`` rows so far, on the CPU; there must have been some."""
        assert self._room is not None
        return self._room[: self._count]

    def add(self, rows: Tensor) -> None:
        """Copy ``(B, ...)`` rows to the end."""
        room, needed = self._room, self._count + len(rows)
        if room is None or needed > len(room):
            first = _FIRST_BYTES // max(1, rows[:1].nbytes)
            larger = rows.new_empty((max(needed, first, 2 * self._count), *rows.shape[1:]), device="cpu")
            if room is not None:
                larger[: self._count] = room[: self._count]
            self._room = room = larger
        room[self._count : needed] = rows
        self._count = needed


_SHARD_VECTORS = 1024


class FeatureCache:
    """Vectors of one net in ``folder``: embedding and identity of images, perceptual distances of pairs.

    A context: what is new is written when a shard is full and at the end. A damaged shard counts as none.
    """

    def __init__(self, folder: str | Path, net_digest: str) -> None:
        self._folder = Path(folder) / net_digest
        self._vectors: dict[int, GrowingTensor] = {}  # by length
        self._places: dict[bytes, tuple[int, int]] = {}  # length and row
        self._new: list[bytes] = []
        for shard in sorted(self._folder.glob("*.safetensors")):
            self._read(shard)

    def get(self, key: bytes) -> Tensor | None:
        """The float32 vector of ``key`` (32 bytes), or None."""
        place = self._places.get(key)
        if place is None:
            return None
        length, row = place
        return self._vectors[length].rows[row]

    def put(self, key: bytes, vector: Tensor) -> None:
        """Keep a vector; raises `DataError` where a full shard cannot be written."""
        if key in self._places:
            return
        self._add([key], vector.detach().to("cpu", torch.float32).reshape(1, -1))
        self._new.append(key)
        if len(self._new) >= _SHARD_VECTORS:
            self.write()

    def write(self) -> None:
        """Write what is new as a shard (one for each length of vector)."""
        for length in sorted({self._places[key][0] for key in self._new}):
            keys = [key for key in self._new if self._places[key][0] == length]
            vectors = self._vectors[length].rows[[self._places[key][1] for key in keys]]
            name = hashlib.sha256(b"".join(keys)).hexdigest()[:20]
            held = {"keys": torch.tensor([list(key) for key in keys], dtype=torch.uint8), "vectors": vectors}
            with atomic_path(self._folder / f"{name}.safetensors") as temporary:
                save_file(held, temporary)
        self._new.clear()

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()  # after an error too: what was computed is true

    def _read(self, shard: Path) -> None:
        try:
            held = load_file(shard)
            keys, vectors = held["keys"], held["vectors"]
        except (OSError, SafetensorError, KeyError):
            return
        if keys.ndim == 2 and keys.shape[1] == 32 and vectors.ndim == 2 and len(keys) == len(vectors):
            self._add(list(map(bytes, keys.tolist())), vectors.float())

    def _add(self, keys: list[bytes], vectors: Tensor) -> None:
        length = vectors.shape[1]
        column = self._vectors.setdefault(length, GrowingTensor())
        self._places.update((key, (length, row)) for row, key in enumerate(keys, start=len(column)))
        column.add(vectors)


def image_key(image: Tensor) -> bytes:
    """SHA-256 of the shape and float32 values of one image ``(3, H, W)``."""
    values = image.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(f"{tuple(values.shape)}".encode() + values.numpy().tobytes()).digest()


Images = Iterable[Tensor]
"""A stream of images ``(3, H, W)`` or batches ``(N, 3, H, W)`` (both may be mixed), or one ``(N, 3, H, W)`` tensor."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a feature net says of N images."""

    embedding: Tensor
    """``(N, D)`` float64, for set distances."""
    identity: Tensor
    """``(N, K)`` float64, L2-normalised, for cosines."""

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def dimensions(self) -> int:
        """D."""
        return self.embedding.shape[1]

    @classmethod
    def join(cls, parts: Sequence[Embeddings]) -> Embeddings:
        """All rows in order; 1 part or more."""
        return cls(torch.cat([part.embedding for part in parts]), torch.cat([part.identity for part in parts]))


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

    def __init__(self, images: Tensor, net: Callable[[Tensor], Features], cache: FeatureCache | None = None) -> None:
        self.images = images
        self._net = net
        self._cache = cache
        self._keys = [] if cache is None else [image_key(image) for image in images]
        self._once: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def features(self) -> Features:
        """What the net says of the images, feature maps included."""
        with torch.inference_mode():
            return self._net(self.images.to(torch.float32))

    @cached_property
    def embeddings(self) -> Embeddings:
        """Embedding and identity."""
        return Embeddings(
            self.cached("embedding of the whole", lambda: self.features.embedding),
            self.cached("identity of the whole", lambda: self.features.identity),
        )

    def once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` gives, computed at the first call with this ``name``."""
        if name not in self._once:
            self._once[name] = compute()
        return self._once[name]

    def cached(
        self, name: str | Sequence[str], compute: Callable[[], Tensor], other: ImageBatch | None = None
    ) -> Tensor:
        """``(N, D)`` float64 rows called ``name`` (or each by its own), from the cache where it holds all of them.

        ``compute`` gives them, or ``(N,)``. With ``other`` they are rows of pairs: of these images and those of another
        batch.
        """
        if self._cache is None:
            return compute().to("cpu", torch.float64).reshape(len(self), -1)
        keys = self._keys if other is None else [a + b for a, b in zip(self._keys, other._keys, strict=True)]
        called = [name] * len(keys) if isinstance(name, str) else name
        names = [hashlib.sha256(key + one.encode()).digest() for key, one in zip(keys, called, strict=True)]
        known = [row for row in map(self._cache.get, names) if row is not None]
        if len(known) == len(names):
            return torch.stack(known).to(torch.float64)
        rows = compute().to("cpu", torch.float64).reshape(len(self), -1)
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
    cache: FeatureCache | None = None,
) -> Embeddings:
    """Features of a stream of images in its order; memory is that of one batch plus the features.

    ``name`` is what errors call the images; ``cache`` (of this net) spares images that were embedded before. Raises
    `UsageError` if there are none, or as `batches` does.
    """
    parts = [ImageBatch(batch, partial(whole, net), cache).embeddings for batch in batches(images, batch_size, name)]
    if not parts:
        raise UsageError(f"{name} hold no images; give 2 or more")
    return Embeddings.join(parts)


def _px(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
