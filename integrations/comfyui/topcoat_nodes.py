"""Nodes that load a head of topcoat, enhance images with it, and say what its gates decided.

ComfyUI's IMAGE is float ``(B, H, W, C)`` in [0, 1] with 3 or 4 channels, its MASK float ``(B, H, W)``. Heads run on
ONNX Runtime or on the torch that ComfyUI has; nothing else of topcoat's needs to be installed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

from topcoat.embedded import DEFAULT_HEAD
from topcoat.errors import ModelError
from topcoat.runtime.opening import open_runtime
from topcoat.runtime.runner import MAX_STRENGTH, Runtime

FOLDER = "topcoat"
"""Heads lie in ``models/topcoat``: folders as topcoat train writes them, and files that topcoat export wrote."""
RUNTIMES = ["auto", "onnx", "torch"]
TopcoatHead = io.Custom("TOPCOAT_HEAD")
"""A `topcoat.runtime.runner.Runtime`."""

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


class LoadHead(io.ComfyNode):
    """A head by its name, or from the Hugging Face hub."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="TopcoatLoadHead",
            display_name="Load topcoat Head",
            category="topcoat",
            description="A network that takes the images of a distilled model towards those of its baseline.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=[DEFAULT_HEAD, *local_heads()],
                    default=DEFAULT_HEAD,
                    tooltip="embedded is for the mini pair; yours are folders and .onnx files in models/topcoat.",
                ),
                io.Combo.Input(
                    "runtime",
                    options=RUNTIMES,
                    default="auto",
                    tooltip="onnx: ONNX Runtime; torch: ComfyUI's torch; auto: onnx where the head has such a file.",
                ),
                io.Int.Input(
                    "tile_px",
                    default=0,
                    min=0,
                    max=8192,
                    step=64,
                    tooltip="Side of a tile for large images; 0 chooses. At least 64.",
                ),
                io.String.Input(
                    "hub_id",
                    default="",
                    optional=True,
                    tooltip="A head on the Hugging Face hub in place of the name: owner/name or owner/name@revision.",
                ),
            ],
            outputs=[TopcoatHead.Output(display_name="head")],
        )

    @classmethod
    def execute(cls, name: str, runtime: Any, tile_px: int, hub_id: str = "") -> io.NodeOutput:
        """The head, ready to run; raises topcoat's one-sentence errors."""
        repository, _, revision = hub_id.strip().partition("@")
        source = repository or str(local_heads().get(name, name))
        try:
            opened = open_runtime(source, runtime, tile_px=tile_px or None, revision=revision or None)
        except ModuleNotFoundError as error:
            raise ModelError(
                f"the head {source} needs the Python package {error.name}, which this ComfyUI lacks; use a head with "
                f"an ONNX file, or install {error.name} into ComfyUI's Python"
            ) from error
        return io.NodeOutput(opened)

    @classmethod
    def fingerprint_inputs(cls, name: str, runtime: Any, tile_px: int, hub_id: str = "") -> str:
        """Changes when the head's files do, so that ComfyUI loads it again."""
        path = local_heads().get(name)
        files = [] if path is None or hub_id.strip() else [path, *sorted(path.glob("*"))]
        return json.dumps([name, runtime, tile_px, hub_id, [(str(file), file.stat().st_mtime_ns) for file in files]])


class Enhance(io.ComfyNode):
    """A head on images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="TopcoatEnhance",
            display_name="topcoat Enhance",
            category="topcoat",
            description="Enhance the images of a distilled model.",
            inputs=_image_inputs(),
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, head: Runtime, image: Tensor, strength: float = 1.0, mask: Tensor | None = None) -> io.NodeOutput:
        """Images of the shape that was given; an alpha channel stays as it is."""
        return io.NodeOutput(with_alpha(blended(head, image, strength, mask), image))


class EnhanceGated(io.ComfyNode):
    """A head on images, as much of it as its gates allow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="TopcoatEnhanceGated",
            display_name="topcoat Enhance (gated)",
            category="topcoat",
            description="Enhance each image as far as the person stays the same and the image gets no worse.",
            inputs=[
                *_image_inputs(),
                io.Combo.Input(
                    "identity",
                    options=["calibrated", "fixed", "off"],
                    default="calibrated",
                    tooltip="Lower the strength until the person is the same: as calibrated, or by the floor below.",
                ),
                io.Float.Input(
                    "identity_floor",
                    default=0.9,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The cosine of identity that is kept, where identity is fixed.",
                ),
                io.Boolean.Input(
                    "never_worse", default=True, tooltip="Keep the image where the head's result is judged worse."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.String.Output(display_name="decisions", tooltip="JSON, one line for each image."),
                io.Float.Output(display_name="used strength", is_output_list=True),
                io.Float.Output(display_name="identity cosine", is_output_list=True),
            ],
        )

    @classmethod
    def execute(
        cls,
        head: Runtime,
        image: Tensor,
        strength: float = 1.0,
        identity: str = "calibrated",
        identity_floor: float = 0.9,
        never_worse: bool = True,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """Images as `Enhance` gives them, and what the gates decided on each."""
        from topcoat.gates import gates_for

        floor: Any = {"calibrated": "calibrated", "fixed": identity_floor, "off": None}[identity]
        gates = gates_for(head.record, floor, never_worse)
        enhanced = blended(head, image, strength, mask)
        if gates is None:
            return io.NodeOutput(with_alpha(enhanced, image), "", [strength] * len(image), [math.nan] * len(image))
        gated = gates(planes(image), enhanced.movedim(3, 1), strength)
        lines = [json.dumps(asdict(decision)) for decision in gated.decisions]
        return io.NodeOutput(
            with_alpha(gated.images.movedim(1, 3), image),
            "\n".join(lines),
            [decision.strength for decision in gated.decisions],
            [decision.identity for decision in gated.decisions],
        )


def local_heads() -> Mapping[str, Path]:
    """Name -> folder or file of each head in ComfyUI's folders for them."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    entries = [path for root in roots if root.is_dir() for path in sorted(root.iterdir())]
    return {path.name: path for path in entries if path.suffix == ".onnx" or (path / "config.json").is_file()}


def planes(image: Tensor) -> Tensor:
    """``(B, 3, H, W)`` float32 in [0, 1] on the CPU, of an IMAGE; values that left the range are cut."""
    return image[..., :3].movedim(3, 1).to("cpu", torch.float32).clamp(0, 1)


def blended(head: Runtime, image: Tensor, strength: float, mask: Tensor | None) -> Tensor:
    """``(B, H, W, 3)``: each image enhanced, where the mask is 1 alone if there is one, on the CPU."""
    images, progress = planes(image), ProgressBar(len(image))
    enhanced = torch.empty_like(images)
    for number in range(len(images)):
        one = np.ascontiguousarray(images[number : number + 1].numpy())
        enhanced[number : number + 1] = torch.from_numpy(head(one, strength))
        progress.update(1)
    if mask is not None:
        enhanced = torch.lerp(images, enhanced, mask_like(mask, images))
    return enhanced.movedim(1, 3)


def mask_like(mask: Tensor, images: Tensor) -> Tensor:
    """A MASK as ``(B or 1, 1, H, W)`` in [0, 1], scaled to the images where it has another size."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).to("cpu", torch.float32).clamp(0, 1)
    if len(mask) not in (1, len(images)):
        raise ModelError(f"there are {len(mask)} masks and {len(images)} images; give one mask, or one for each image")
    if mask.shape[-2:] == images.shape[-2:]:
        return mask
    return torch.nn.functional.interpolate(mask, size=tuple(images.shape[-2:]), mode="bilinear")


def with_alpha(enhanced: Tensor, image: Tensor) -> Tensor:
    """``(B, H, W, 3)`` with the channels that ``image`` has besides."""
    return torch.cat([enhanced, image[..., 3:].to(enhanced)], dim=3) if image.shape[3] > 3 else enhanced


def _image_inputs() -> list[Any]:
    return [
        TopcoatHead.Input("head"),
        io.Image.Input("image"),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=MAX_STRENGTH,
            step=0.05,
            display_mode=io.NumberDisplay.slider,
            tooltip="How much of the change: 0 none, 1 what was trained.",
        ),
        io.Mask.Input("mask", optional=True, tooltip="Where to enhance; everywhere without one."),
    ]


class TopcoatExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """See ComfyUI."""
        return [LoadHead, Enhance, EnhanceGated]


async def comfy_entrypoint() -> TopcoatExtension:
    """What ComfyUI calls."""
    return TopcoatExtension()
