"""A head behind pipelines of diffusers: behind any pipeline with `with_head`, in modular ones as a block.

    pipe = with_head(DiffusionPipeline.from_pretrained(...), topcoat.Head.from_pretrained("owner/head"))
    pipe("studio portrait of an old man").images[0]  # enhanced

    blocks = insert_head(FluxAutoBlocks(), topcoat.Head.from_pretrained("owner/head"))
    blocks.init_pipeline(...)(prompt="studio portrait of an old man", head_strength=0.8, output="images")

Both work on the decoded images as floats, before they are rounded to 8 bits, and so give the bytes of
`topcoat.Pipeline`. In a modular pipeline that computes in 16 bits the decoder's images are rounded to those first.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam, SequentialPipelineBlocks
from torch import Tensor

from topcoat.errors import UsageError
from topcoat.heads.head import DTYPES, Head

Blocks = TypeVar("Blocks", bound=SequentialPipelineBlocks)
Pipe = TypeVar("Pipe")


class HeadImageProcessor:
    """A pipeline's image processor whose `postprocess` enhances; everything else is that of ``processor``."""

    def __init__(self, processor: VaeImageProcessor, head: Head, strength: float = 1.0) -> None:
        """Raises `UsageError` for a head that decodes latents, or a ``strength`` that the head does not have."""
        self.processor = processor
        """What the pipeline had before."""
        self.head = _of_images(head)
        self.strength = strength
        """Of the head in the next call: 0 gives the pipeline's own image, 1 is what was trained, at most 2."""

    def postprocess(self, image: Tensor, output_type: str = "pil", do_denormalize: list[bool] | None = None) -> Any:
        """What diffusers' `VaeImageProcessor.postprocess` gives, enhanced; ``latent`` comes back as it is."""
        if output_type == "latent":
            return image
        images: Any = self.processor.postprocess(image.float(), "pt", do_denormalize)
        return _as_type(enhanced(self.head, images, self.strength, image.dtype), output_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)


def with_head(pipeline: Pipe, head: Head, strength: float = 1.0) -> Pipe:
    """Give the images of ``pipeline``, a diffusers pipeline, to ``head`` before they leave it; returns the pipeline.

    It is called as before, with every ``output_type``. Set ``pipeline.image_processor.strength`` for another strength,
    ``pipeline.image_processor = pipeline.image_processor.processor`` to take the head off. Raises `UsageError` for a
    head that decodes latents, and for a pipeline that has no image processor, such as one of videos.
    """
    processor: Any = getattr(pipeline, "image_processor", None)
    if not hasattr(processor, "postprocess"):
        raise UsageError(
            f"{type(pipeline).__name__} has no image_processor that a head could follow; use a pipeline that makes "
            "images, or give its images to the head yourself"
        )
    if isinstance(processor, HeadImageProcessor):
        processor = processor.processor
    setattr(pipeline, "image_processor", HeadImageProcessor(processor, head, strength))  # noqa: B010 - of any class
    return pipeline


class FloatImagesStep(ModularPipelineBlocks):
    """Goes before the decoder: has it give floats, and keeps for `EnhanceStep` what the caller asked for."""

    @property
    def description(self) -> str:
        """For the pipeline's documentation."""
        return "Step that has the decoder give images as floats, for the head that follows"

    @property
    def inputs(self) -> list[InputParam]:
        """What the caller asks for."""
        return [InputParam("output_type", type_hint=str, default="pil")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """What the decoder and `EnhanceStep` read."""
        return [OutputParam("output_type", type_hint=str), OutputParam("enhanced_type", type_hint=str)]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """See `ModularPipelineBlocks`."""
        block: Any = self.get_block_state(state)
        block.enhanced_type = block.output_type
        if block.output_type != "latent":
            block.output_type = "pt"
        self.set_block_state(state, block)
        return components, state


class EnhanceStep(ModularPipelineBlocks):
    """Goes after the decoder: enhances ``images`` with a head, by ``head_strength``.

    ``images`` may be a tensor ``(N, 3, H, W)`` in [0, 1], an array ``(N, H, W, 3)`` or Pillow pictures. They leave as
    ``enhanced_type`` says (`FloatImagesStep`), without it as what they were; Pillow's were rounded to 8 bits before.
    """

    def __init__(self, head: Head) -> None:
        """Raises `UsageError` for a head that decodes latents."""
        super().__init__()
        self.head = _of_images(head)

    @property
    def description(self) -> str:
        """For the pipeline's documentation."""
        return "Step that takes the decoded images of a distilled model towards those of its baseline"

    @property
    def inputs(self) -> list[InputParam]:
        """Of the caller and the blocks before."""
        return [
            InputParam("images", required=True, description="The decoded images"),
            InputParam("head_strength", type_hint=float, default=1.0, description="0 leaves the image, 2 at most"),
            InputParam("enhanced_type", type_hint=str),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """The enhanced images, in place of the decoded ones."""
        return [OutputParam("images", description="The enhanced images")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """See `ModularPipelineBlocks`."""
        block: Any = self.get_block_state(state)
        images, given = _as_tensor(block.images)
        wanted = block.enhanced_type or given
        if wanted != "latent":
            block.images = _as_type(enhanced(self.head, images, block.head_strength, images.dtype), wanted)
        self.set_block_state(state, block)
        return components, state


def insert_head(blocks: Blocks, head: Head) -> Blocks:
    """Put ``head`` behind the block ``decode`` of ``blocks``, such as ``FluxAutoBlocks()``; returns ``blocks``.

    The pipeline then takes ``head_strength`` (1 by default) besides its own arguments. Raises `UsageError` for blocks
    without a decoder, and a head that decodes latents.
    """
    names = list(blocks.sub_blocks)
    if "decode" not in names:
        raise UsageError(
            f"{type(blocks).__name__} has no block named decode ({', '.join(names) or 'it has none'}); insert "
            "EnhanceStep(head) yourself, behind the block that gives images"
        )
    at = names.index("decode")
    blocks.sub_blocks.insert("float_images", FloatImagesStep(), at)
    blocks.sub_blocks.insert("enhance", EnhanceStep(head), at + 2)
    return blocks


def enhanced(head: Head, images: Tensor, strength: float, dtype: torch.dtype) -> Tensor:
    """``images`` ``(N, 3, H, W)`` in [0, 1] through ``head``, on their device; float32.

    As behind `topcoat.Pipeline`, a head on a GPU computes in ``dtype``, that of the generator, unless `Head.to` was
    asked for another.
    """
    if head.device != images.device:
        head.to(images.device)
    head.default_dtype = dtype if images.device.type != "cpu" and dtype in DTYPES else torch.float32
    return head(images.float(), strength=strength)


def _of_images(head: Head) -> Head:
    if head.input == "image":
        return head
    raise UsageError(
        "this head decodes latents in place of the VAE; use it with topcoat.Pipeline, or a head that takes images"
    )


def _as_tensor(images: Any) -> tuple[Tensor, str]:
    """``(N, 3, H, W)`` in [0, 1] of what a decoder's block gives, and its name in diffusers."""
    if isinstance(images, Tensor):
        return images, "pt"
    if isinstance(images, list):
        return VaeImageProcessor.numpy_to_pt(VaeImageProcessor.pil_to_numpy(images)), "pil"
    return VaeImageProcessor.numpy_to_pt(images), "np"


def _as_type(images: Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return images
    array = VaeImageProcessor.pt_to_numpy(images)
    return VaeImageProcessor.numpy_to_pil(array) if output_type == "pil" else array
