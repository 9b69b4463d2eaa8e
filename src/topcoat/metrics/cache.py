"""Features on disk by content, so that no image passes a net twice.

A vector is named by the SHA-256 of the image's values and lies in a folder named by the digest of the net, so
neither a renamed file nor a new net can bring up a wrong one. Vectors are appended as safetensors shards.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from topcoat.files import atomic_path
from topcoat.metrics.growing import GrowingTensor

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
        self.hits = 0
        """Vectors that were read since the cache was opened."""
        for shard in sorted(self._folder.glob("*.safetensors")):
            self._read(shard)

    def get(self, key: bytes) -> Tensor | None:
        """The float32 vector of ``key`` (32 bytes), or None."""
        place = self._places.get(key)
        if place is None:
            return None
        self.hits += 1
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


def named_key(key: bytes, name: str) -> bytes:
    """The key of what is called ``name`` about the image or images of ``key``."""
    return hashlib.sha256(key + name.encode()).digest()
