"""Computed cost: floating-point operations per image, counted on the meta device without weights.

One multiply-add is 2 FLOP. What is counted is what `torch.utils.flop_counter` counts: matrix products, convolutions
and attention; norms, activations and softmax are not (they are below 1 % of these networks).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from topcoat.cost.architectures import ARCHITECTURES
from topcoat.cost.table import CostRow, CostTable, PipelineCost
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.generators.meta import MetaComponents, build_on_meta

TERA = 1e12
BASELINE_STEPS_BESIDE = 28
"""The step count shown beside a baseline's default: FLUX.1-dev's users run 28 as often as the card's 50."""


class _Described(Protocol):
    @property
    def size_multiple(self) -> int:
        """The granularity in pixels to which images are padded."""
        ...


class HeadLike(Protocol):
    """What costing asks of a head; `topcoat.heads.Head` is one."""

    @property
    def network(self) -> nn.Module:
        """Maps ``(N, 3, H, W)`` to a change of the same shape."""
        ...

    @property
    def descriptor(self) -> _Described:
        """What a caller may know of it."""
        ...


def count_flops(run: Callable[[], object]) -> int:
    """FLOP of what ``run()`` does, whether its tensors are real or on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops())


def head_tflop(head: HeadLike, width_px: int, height_px: int) -> float:
    """TFLOP of a head on one image of ``width_px`` x ``height_px``, padded as the head pads it."""
    multiple = head.descriptor.size_multiple
    network = copy.deepcopy(head.network).to("meta").eval()
    image = torch.empty(1, 3, _up(height_px, multiple), _up(width_px, multiple), device="meta")
    return count_flops(lambda: network(image)) / TERA


def pipeline_rows(spec: GeneratorSpec, components: MetaComponents, width_px: int, height_px: int) -> list[CostRow]:
    """The rows of one generator per image: text encoders, transformer steps (one pass each) and VAE decode."""
    tokens = spec.max_sequence_length
    step = count_flops(components.transformer_step(width_px, height_px, tokens)) / TERA
    text = (count_flops(components.clip_encode()) + count_flops(components.t5_encode(tokens))) / TERA
    return [
        CostRow("text encoders", text),
        # FLUX.1's guidance is an input of the network (or none), never a second pass, so a step is one pass.
        CostRow("transformer", step, times=spec.steps),
        CostRow("VAE decode", count_flops(components.vae_decode(width_px, height_px)) / TERA),
    ]


def pair_cost(
    pair: ModelPair,
    head: HeadLike | None = None,
    size_px: int | tuple[int, int] | None = None,
    *,
    baseline_steps: Sequence[int] = (BASELINE_STEPS_BESIDE,),
) -> CostTable:
    """Computed TFLOP per image of a model pair: distilled, distilled + head, and the baseline.

    ``size_px`` is one side or ``(width, height)``; None takes the distilled model's own. ``baseline_steps`` are step
    counts listed beside the baseline's default. No weights are read.

    Raises `UsageError` for a size or a step count that is not possible, `ModelError` for a model whose configs are
    neither embedded nor in a local folder.
    """
    if any(steps < 1 for steps in baseline_steps):
        raise UsageError(f"baseline steps {list(baseline_steps)} are not possible; use 1 or more")
    width_px, height_px = _size(pair.distilled, size_px)
    distilled = pipeline_rows(pair.distilled, components_of(pair.distilled), width_px, height_px)
    baseline = pipeline_rows(pair.baseline, components_of(pair.baseline), width_px, height_px)
    extra = [] if head is None else [CostRow("head", head_tflop(head, width_px, height_px))]
    steps = sorted({*baseline_steps, pair.baseline.steps}, reverse=True)
    return CostTable(
        pair=pair.name,
        width_px=width_px,
        height_px=height_px,
        distilled=PipelineCost(pair.distilled.name, pair.distilled.steps, tuple(distilled)),
        enhanced=PipelineCost(f"{pair.distilled.name} + head", pair.distilled.steps, (*distilled, *extra)),
        baseline=PipelineCost(pair.baseline.name, pair.baseline.steps, tuple(baseline)),
        baseline_at=tuple(
            PipelineCost(pair.baseline.name, count, tuple(row.with_times(count) for row in baseline)) for count in steps
        ),
    )


def components_of(spec: GeneratorSpec) -> MetaComponents:
    """A generator's networks on the meta device, from a local folder or the embedded facts.

    Raises `ModelError` if the model is neither.
    """
    if Path(spec.model).is_dir():
        return build_on_meta(Path(spec.model), spec.transformer)
    known = ARCHITECTURES.get(spec.model)
    if known is None:
        raise ModelError(
            f"the sizes of {spec.model} are not known here; give a local folder of it or one of: "
            + ", ".join(ARCHITECTURES)
        )
    return build_on_meta(known.components, spec.transformer)


def _size(spec: GeneratorSpec, size_px: int | tuple[int, int] | None) -> tuple[int, int]:
    if size_px is None:
        return spec.width_px, spec.height_px
    return (size_px, size_px) if isinstance(size_px, int) else size_px


def _up(side_px: int, multiple: int) -> int:
    return -(-side_px // multiple) * multiple
