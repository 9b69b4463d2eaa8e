"""Computed cost: floating-point operations per image, counted on the meta device without weights.

One multiply-add is 2 FLOP. What is counted is what `torch.utils.flop_counter` counts: matrix products, convolutions
and attention; norms, activations and softmax are not (they are below 1 % of these networks).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from topcoat.cost.table import DECODE_ROW, DENOISER_ROW, HEAD_ROW, CostRow, CostTable, PipelineCost
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.generators.families import Configs, published_models
from topcoat.generators.meta import Networks, build_on_meta
from topcoat.heads.head import HeadProtocol

TERA = 1e12
EXTRA_STEPS = 28
"""The step count shown beside a baseline's default: FLUX.1-dev's users run 28 as often as the card's 50."""


def count_flops(run: Callable[[], object]) -> int:
    """FLOP of what ``run()`` does, whether its tensors are real or on the meta device."""
    # torch's own table lacks the attention kernel of the CPU
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops())


def _attention_flop(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    """Both products of attention: ``(N, heads, tokens, channels)`` each."""
    count, heads, tokens, channels = query
    return 2 * count * heads * tokens * key[2] * (channels + value[3])


def head_tflop(head: HeadProtocol, width_px: int, height_px: int) -> float:
    """TFLOP of a head on one image of ``width_px`` x ``height_px``, padded as the head pads it.

    Of a head that takes latents: of the decoding of such an image's latents.
    """
    network = copy.deepcopy(head.network).to("meta").eval()
    inputs = torch.empty(1, *head.input_shape(width_px, height_px), device="meta")
    return count_flops(lambda: network(inputs)) / TERA


def pipeline_rows(spec: GeneratorSpec, networks: Networks, width_px: int, height_px: int) -> list[CostRow]:
    """The rows of one generator per image: text encoders, denoising steps and VAE decode.

    With classifier-free guidance a step is two passes of the network, and a negative text is encoded too.
    """
    tokens = spec.max_sequence_length
    counted = (
        ("text encoders", networks.text_encode(tokens)),
        (DENOISER_ROW, networks.step(width_px, height_px, tokens)),
        (DECODE_ROW, networks.vae_decode(width_px, height_px)),
    )
    return [
        CostRow(piece, count_flops(run) / TERA, times=times, passes=passes)
        for (piece, run), (times, passes) in zip(counted, _runs(spec, networks), strict=True)
    ]


def _runs(spec: GeneratorSpec, networks: Networks) -> list[tuple[int | None, int]]:
    """Steps (None: not repeated) and passes of each row of `pipeline_rows`."""
    family = networks.family
    return [(None, family.text_passes(spec)), (spec.steps, family.passes(spec)), (None, 1)]


def pair_cost(
    pair: ModelPair,
    head: HeadProtocol | None = None,
    size_px: int | tuple[int, int] | None = None,
    *,
    baseline_steps: Sequence[int] = (EXTRA_STEPS,),
) -> CostTable:
    """Computed TFLOP per image of a model pair: distilled, distilled + head, and the baseline.

    A head that takes latents stands in the place of the VAE decode. ``size_px`` is one side or ``(width, height)``;
    None takes the distilled model's own. ``baseline_steps`` are step counts listed beside the baseline's default. No
    weights are read.

    Raises `UsageError` for a size or a step count that is not possible, `ModelError` for a model whose configs are
    neither embedded nor in a local folder.
    """
    if any(steps < 1 for steps in baseline_steps):
        raise UsageError(f"baseline steps {list(baseline_steps)} are not possible; use 1 or more")
    width_px, height_px = _size(pair.distilled, size_px)
    distilled_networks, baseline_networks = components_of(pair.distilled), components_of(pair.baseline)
    distilled = pipeline_rows(pair.distilled, distilled_networks, width_px, height_px)
    if (distilled_networks.configs, pair.distilled.max_sequence_length) == (
        baseline_networks.configs,
        pair.baseline.max_sequence_length,
    ):  # the same shapes, as of SDXL and its LoRA: counted once
        baseline = [
            dataclasses.replace(row, times=times, passes=passes)
            for row, (times, passes) in zip(distilled, _runs(pair.baseline, baseline_networks), strict=True)
        ]
    else:
        baseline = pipeline_rows(pair.baseline, baseline_networks, width_px, height_px)
    enhanced = distilled
    if head is not None:
        latents = head.input == "latent"
        if latents:
            _check_latents(head, distilled_networks, pair.distilled)
        kept = [row for row in distilled if not (latents and row.piece == DECODE_ROW)]
        enhanced = [*kept, CostRow(HEAD_ROW, head_tflop(head, width_px, height_px))]
    steps = sorted({*baseline_steps, pair.baseline.steps}, reverse=True)
    return CostTable(
        pair=pair.name,
        width_px=width_px,
        height_px=height_px,
        distilled=PipelineCost(pair.distilled.name, pair.distilled.steps, tuple(distilled)),
        enhanced=PipelineCost(f"{pair.distilled.name} + head", pair.distilled.steps, tuple(enhanced)),
        baseline=PipelineCost(pair.baseline.name, pair.baseline.steps, tuple(baseline)),
        baseline_at=tuple(
            PipelineCost(pair.baseline.name, count, tuple(row.with_times(count) for row in baseline)) for count in steps
        ),
    )


def generator_rows(spec: GeneratorSpec, width_px: int, height_px: int) -> list[CostRow]:
    """`pipeline_rows` of the model that ``spec`` names; raises like `components_of`."""
    return pipeline_rows(spec, components_of(spec), width_px, height_px)


def components_of(spec: GeneratorSpec) -> Networks:
    """A generator's networks on the meta device, from a local folder or the embedded facts.

    Raises `ModelError` if the model is neither.
    """
    return build_on_meta(network_source(spec), spec.transformer)


def network_source(spec: GeneratorSpec) -> Path | Configs:
    """Where the networks of ``spec`` are described: its folder, or the embedded facts; raises like `components_of`."""
    if Path(spec.model).is_dir():
        return Path(spec.model)
    known = published_models()
    if spec.model not in known:
        raise ModelError(
            f"the sizes of {spec.model} are not known here; give a local folder of it or one of: " + ", ".join(known)
        )
    return known[spec.model]


def _check_latents(head: HeadProtocol, networks: Networks, spec: GeneratorSpec) -> None:
    """Raise `UsageError` where a head's latents are not those of the VAE that it would replace."""
    given, wanted = networks.configs["vae"]["latent_channels"], head.latent_channels
    if given != wanted:
        raise UsageError(
            f"the head decodes latents of {wanted} channels, but the VAE of {spec.name} has {given}; use a head "
            "that was trained on this model's latents"
        )


def _size(spec: GeneratorSpec, size_px: int | tuple[int, int] | None) -> tuple[int, int]:
    if size_px is None:
        return spec.width_px, spec.height_px
    return (size_px, size_px) if isinstance(size_px, int) else size_px
