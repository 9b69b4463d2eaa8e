"""The renders as the networks read them: small AVIF pictures with words and landmarks in Parquet, one file a shard.

The files of `PACKED_PX` are part of the repository, so that the mini pair can be trained without Blender. At 128 px
AVIF keeps the renders at 46 dB, ten decibels above what the autoencoder has to reach, in a third of the bytes of
lossless WebP.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from recipes.mini.meter import Meter
from recipes.mini.portrait.shards import SHARD_RENDERS, Renders, load_shard
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, Words
from recipes.mini.recipe import Recipe, WorkFolder
from topcoat.files import atomic_path

PACKED_PX = 128
AVIF_QUALITY = 95
VECTORS = ("landmarks", "identity", "scene")


@dataclass(frozen=True)
class Portraits:
    """N renders: ``images`` uint8 (N, 3, H, W), ``identity`` (N, I), ``scene`` (N, S), ``landmarks`` (N, L, 2) px."""

    images: Tensor
    identity: Tensor
    scene: Tensor
    landmarks: Tensor
    words: list[Words]


def portraits_folder(recipe: Recipe, work: WorkFolder) -> Path:
    """Where packed portraits of the recipe's size lie: in the repository, or in the work folder for another size."""
    if recipe.size_px == PACKED_PX:
        return Path(__file__).parent / "renders_128px"
    return work.root / f"renders_{recipe.size_px}px"


def pack_renders(recipe: Recipe, work: WorkFolder) -> None:
    """Reduce every finished shard of renders that is not packed yet to the recipe's size."""
    folder = portraits_folder(recipe, work)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [
        path for path in sorted(work.renders.glob("*.safetensors")) if not (folder / f"{path.stem}.parquet").exists()
    ]
    with Meter("pack", SHARD_RENDERS * len(waiting)) as meter:
        for number, path in enumerate(waiting, 1):
            table = _packed(load_shard(path, recipe.size_px))
            with atomic_path(folder / f"{path.stem}.parquet") as temporary:
                pq.write_table(table, temporary, compression="zstd")
            meter.update(SHARD_RENDERS * number, "packed")


def load_portraits(recipe: Recipe, work: WorkFolder) -> Portraits:
    """Every packed portrait, up to the recipe's count."""
    paths = sorted(portraits_folder(recipe, work).glob("*.parquet"))
    if not paths:
        raise SystemExit(
            f"no portraits of {recipe.size_px} px in {portraits_folder(recipe, work)}; "
            "run `python -m recipes.mini.renders`, then `python -m recipes.mini pack`"
        )
    table = pa.concat_tables([pq.read_table(path) for path in paths]).slice(0, recipe.renders)
    images = np.stack([_decoded(image) for image in table["image"].to_pylist()])
    vectors = {name: torch.tensor(np.stack(table[name].to_numpy()), dtype=torch.float32) for name in VECTORS}
    columns = table.select(list(PORTRAIT_VOCABULARY)).to_pylist()
    return Portraits(
        images=torch.from_numpy(images),
        identity=vectors["identity"],
        scene=vectors["scene"],
        landmarks=vectors["landmarks"].reshape(len(images), -1, 2),
        words=[Words(**row) for row in columns],
    )


def _packed(renders: Renders) -> pa.Table:
    columns: dict[str, list[object]] = {
        "index": renders.index.tolist(),
        "image": [_encoded(image) for image in renders.images],
    }
    for name in VECTORS:
        columns[name] = list(getattr(renders, name).reshape(len(renders.index), -1).astype(np.float32))
    for name in PORTRAIT_VOCABULARY:
        columns[name] = [asdict(words)[name] for words in renders.words]
    return pa.table(columns)


def _encoded(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image.transpose(1, 2, 0))
    picture.save(buffer, "AVIF", quality=AVIF_QUALITY, subsampling="4:4:4", speed=4)
    return buffer.getvalue()


def _decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
