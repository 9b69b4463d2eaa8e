"""Features kept on disk by content: an image that a net has seen once is not shown to it again.

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

_SHARD_VECTORS = 1024


class FeatureCache:
    """Vectors of one net in ``folder``: embedding and identity of images, perceptual distances of pairs.

    A context: what is new is written when a shard is full and at the end. A damaged shard counts as none.
    """

    def __init__(self, folder: str | Path, net_digest: str) -> None:
        self._folder = Path(folder) / net_digest
        self._known: dict[bytes, Tensor] = {}
        self._new: dict[bytes, Tensor] = {}
        self.hits = 0
        """Vectors found since the cache was opened."""
        for shard in sorted(self._folder.glob("*.safetensors")):
            self._read(shard)

    def get(self, key: bytes) -> Tensor | None:
        """The float32 vector of ``key`` (32 bytes), or None."""
        found = self._known.get(key)
        self.hits += found is not None
        return found

    def put(self, key: bytes, vector: Tensor) -> None:
        """Keep a vector; raises `DataError` where a full shard cannot be written."""
        kept = vector.detach().to("cpu", torch.float32).flatten().clone()
        self._known[key] = self._new[key] = kept
        if len(self._new) >= _SHARD_VECTORS:
            self.write()

    def write(self) -> None:
        """Write what is new as a shard (one for each length of vector)."""
        for length in sorted({len(vector) for vector in self._new.values()}):
            rows = {key: vector for key, vector in self._new.items() if len(vector) == length}
            keys = torch.tensor([list(key) for key in rows], dtype=torch.uint8)
            name = hashlib.sha256(b"".join(rows)).hexdigest()[:20]
            with atomic_path(self._folder / f"{name}.safetensors") as temporary:
                save_file({"keys": keys, "vectors": torch.stack(list(rows.values()))}, temporary)
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
            self._known.update(zip(map(bytes, keys.tolist()), vectors, strict=True))


def image_key(image: Tensor) -> bytes:
    """SHA-256 of the shape and float32 values of one image ``(3, H, W)``."""
    values = image.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(f"{tuple(values.shape)}".encode() + values.numpy().tobytes()).digest()


def named_key(key: bytes, name: str) -> bytes:
    """The key of what is called ``name`` about the image or images of ``key``."""
    return hashlib.sha256(key + name.encode()).digest()
