"""`topcoat export`: a head as an ONNX file, which is kept only if ONNX Runtime gives what torch gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from topcoat.errors import ModelError
from topcoat.files import atomic_path
from topcoat.runtime.graph import graph_record, write_graph, write_record
from topcoat.runtime.onnx_session import OnnxSession
from topcoat.runtime.quantise import QuantisationLoss, quantise
from topcoat.runtime.record import HeadRecord, Precision
from topcoat.runtime.tiles import tiles

if TYPE_CHECKING:
    from topcoat.heads.head import Head
    from topcoat.pairs.dataset import PairDataset

LIMITS: dict[Precision, float] = {"float32": 1e-4, "float16": 1 / 255}
"""Largest difference to torch in float32 that is allowed, of the value range."""
SIZES_PX = ((96, 96), (160, 224), (320, 144))
"""Of the images that are compared: within a window of attention, and beyond it."""
TILE_LIMIT = 1 / 255
"""Largest difference between tiles and the whole picture that is allowed."""
_CHECK_SEED = 2026
_CHECK_PX = 128


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what was measured before."""

    path: Path
    record: HeadRecord
    differences: dict[str, float]
    """The largest difference to torch by kind and size of image, of the value range."""
    loss: QuantisationLoss | None
    """What int8 costs; None for floats."""


def export_head(
    head: Head,
    path: Path,
    *,
    name: str,
    precision: Precision = "float32",
    pairs: PairDataset | None = None,
    weights_sha256: str | None = None,
) -> Exported:
    """Write ``head`` as ONNX to ``path``, atomically; ``name`` is what a person calls it.

    Random inputs and real ones (the distilled images of ``pairs``, else the mini pair's) at three sizes go through both
    libraries, and tiles are compared with the whole. ``int8`` is calibrated on ``pairs``. Raises `ModelError`, with
    nothing written, where the difference is above `LIMITS`, or int8 loses too much; `UsageError` for too few pairs.
    """
    record = graph_record(head, name).model_copy(update={"precision": precision, "weights_sha256": weights_sha256})
    loss = None
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        if precision == "int8":
            assert pairs is not None
            with TemporaryDirectory() as folder:
                plain = Path(folder) / "float32.onnx"
                write_graph(head, record, plain)
                loss = quantise(plain, temporary, record, pairs)
        else:
            write_graph(head, record, temporary)
        session = OnnxSession(temporary)
        real = _real_inputs(record, pairs)
        differences = _differences(head, session, real)
        worst = max(differences.values())
        limit = LIMITS.get(precision)
        if limit is not None and worst > limit:
            raise ModelError(
                f"the exported head differs from torch by {worst:.2g}, in {precision} at most {limit:.2g} is allowed; "
                "nothing was written" + ("" if precision == "float32" else ", export it in float32")
            )
        tiled = None if record.halo_px is None else _tile_difference(session, record.halo_px, real)
        measured = {
            "largest_difference": worst,
            "largest_tile_difference": tiled,
            "halo_px": None if tiled is None or tiled > TILE_LIMIT else record.halo_px,
        }
        record = record.model_copy(update=measured)
        write_record(temporary, record)
    return Exported(path, record, differences, loss)


def _differences(head: Head, session: OnnxSession, real: Tensor) -> dict[str, float]:
    found: dict[str, float] = {}
    record, noise = session.record, torch.Generator().manual_seed(_CHECK_SEED)
    for height_px, width_px in SIZES_PX:
        size = [
            max(record.smallest, -(-side // record.scale // record.size_multiple) * record.size_multiple)
            for side in (height_px, width_px)
        ]
        draw = torch.rand if record.input == "image" else torch.randn
        random = draw(2, record.channels, *size, generator=noise)
        for kind, inputs in (("random", random), ("real", _resized(real, size))):
            expected = head(inputs).numpy()
            difference = np.abs(session.run(inputs.numpy(), 1.0) - expected).max()
            found[f"{kind}, {width_px} x {height_px} px"] = float(difference)
    return found


def _tile_difference(session: OnnxSession, halo_px: int, real: Tensor) -> float:
    """The largest difference of a tile in the middle of a wide picture to the same part of the whole."""
    multiple = session.record.size_multiple
    height, width = (-(-side // multiple) * multiple for side in (_CHECK_PX, 4 * halo_px + _CHECK_PX))
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(_CHECK_SEED))
    worst = 0.0
    for images in (noise.numpy(), _resized(real[:1], [height, width]).numpy()):
        whole = session.run(images, 1.0)
        for tile in tiles(height, width, 2 * halo_px, halo_px, multiple):
            part = tile.of_result(
                session.run(np.ascontiguousarray(images[(slice(None), slice(None), *tile.seen)]), 1.0)
            )
            worst = max(worst, float(np.abs(part - whole[(slice(None), slice(None), *tile.kept)]).max()))
    return worst


def _resized(inputs: Tensor, size: Sequence[int]) -> Tensor:
    resized = F.interpolate(inputs, size=list(size), mode="bilinear", antialias=True)
    return resized.clamp(0, 1) if inputs.shape[1] == 3 else resized


def _real_inputs(record: HeadRecord, pairs: PairDataset | None) -> Tensor:
    """Two distilled images, or latents; of another latent space than the mini pair's, random ones must do."""
    if pairs is not None and record.input == "image":
        return torch.stack([_resized(pairs.image(index, "distilled")[None], [256, 256])[0] for index in (0, 1)])
    from topcoat.generators.diffusers import load_generator
    from topcoat.generators.presets import model_pair
    from topcoat.prompts import sample_style

    generator = load_generator(model_pair("mini").distilled)
    texts = [prompt.text for prompt in sample_style("mini", 2, _CHECK_SEED)]
    latents = generator.generate_latents(texts, [1, 2])
    if record.input == "image":
        return generator.decode(latents).float()
    if latents.shape[1] == record.channels:
        return latents.float()
    return torch.randn(2, record.channels, 16, 16, generator=torch.Generator().manual_seed(_CHECK_SEED))
