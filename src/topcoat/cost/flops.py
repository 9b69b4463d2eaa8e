"""Computed cost: floating-point operations per image, counted on the meta device without weights.

One multiply-add is 2 FLOP. What is counted is what `torch.utils.flop_counter` counts: matrix products, convolutions
and attention; norms, activations and softmax are not (they are below 1 % of these networks).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from topcoat.cost.table import DECODE_ROW, DENOISER_ROW, HEAD_ROW, CostRow, CostTable, PipelineCost
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import GeneratorSpec, ModelPair
from topcoat.generators.families import Configs, family_of, published_models
from topcoat.generators.meta import Networks, build_networks, config_of, configs_of
from topcoat.generators.vae import channels_of
from topcoat.heads.head import Head

TERA = 1e12
EXTRA_STEPS = 28
"""The step count shown besides a baseline's default: FLUX.1-dev's users run 28 as often as the card's 50."""


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


def head_tflop(head: Head, width_px: int, height_px: int) -> float:
    """TFLOP of a head on one image of ``width_px`` x ``height_px``, padded as the head pads it.

    For a head that takes latents: of decoding such an image's latents.
    """
    network = copy.deepcopy(head.network).to("meta").eval()
    inputs = torch.empty(1, *head.input_shape(width_px, height_px), device="meta")
    return count_flops(lambda: network(inputs)) / TERA


def generator_rows(spec: GeneratorSpec, width_px: int, height_px: int) -> list[CostRow]:
    """The rows of one generator per image: text encoders, denoising steps and VAE decode; raises like `components_of`.

    With classifier-free guidance a step is two passes of the network, and a negative text is encoded too.
    """
    configs = network_configs(spec)
    family = family_of(configs)
    text, step, decode = _tflop(_as_key(configs), width_px, height_px, spec.max_sequence_length)
    return [
        CostRow("text encoders", text, passes=family.text_passes(spec)),
        CostRow(DENOISER_ROW, step, times=spec.steps, passes=family.passes(spec)),
        CostRow(DECODE_ROW, decode),
    ]


# Networks without weights follow from their configs alone, and full-size ones take seconds to build and to count.
@functools.lru_cache
def _tflop(configs: str, width_px: int, height_px: int, tokens: int) -> tuple[float, float, float]:
    """TFLOP of one pass of the text encoders, of the denoiser and of the VAE's decoder."""
    networks = _networks(configs)
    text, step = networks.text_encode(tokens), networks.step(width_px, height_px, tokens)
    decode = networks.vae_decode(width_px, height_px)
    return count_flops(text) / TERA, count_flops(step) / TERA, count_flops(decode) / TERA


@functools.lru_cache(maxsize=4)
def _networks(configs: str) -> Networks:
    return build_networks(json.loads(configs))


def _as_key(configs: Configs) -> str:
    return json.dumps(configs, sort_keys=True)


def pair_cost(
    pair: ModelPair,
    head: Head | None = None,
    size_px: int | tuple[int, int] | None = None,
    *,
    baseline_steps: Sequence[int] = (EXTRA_STEPS,),
) -> CostTable:
    """Computed TFLOP per image of a model pair: distilled, distilled + head, and the baseline.

    A head that takes latents stands in the place of the VAE decode. ``size_px`` is one side or ``(width, height)``;
    None takes the distilled model's own. ``baseline_steps`` are step counts listed besides the baseline's default. No
    weights are read.

    Raises `UsageError` for a size or a step count that is not possible, `ModelError` for a model whose configs are
    neither embedded nor in a local folder.
    """
    if isinstance(size_px, int):
        size_px = (size_px, size_px)
    width_px, height_px = size_px or (pair.distilled.width_px, pair.distilled.height_px)
    distilled, baseline = (
        PipelineCost(spec.name, spec.steps, tuple(generator_rows(spec, width_px, height_px)))
        for spec in pair.sides.values()
    )
    enhanced = dataclasses.replace(distilled, name=f"{distilled.name} + head")
    if head is not None:
        rows = distilled.rows
        if head.input == "latent":
            _check_latents(head, pair.distilled)
            rows = tuple(row for row in rows if row.piece != DECODE_ROW)
        added = CostRow(HEAD_ROW, head_tflop(head, width_px, height_px))
        enhanced = dataclasses.replace(enhanced, rows=(*rows, added))
    steps = sorted({*baseline_steps, baseline.steps}, reverse=True)
    baseline_at = tuple(baseline.at_steps(count) for count in steps)
    return CostTable(pair.name, width_px, height_px, distilled, enhanced, baseline, baseline_at)


def components_of(spec: GeneratorSpec) -> Networks:
    """A generator's networks on the meta device, from a local folder or the embedded facts.

    Raises `ModelError` if the model is neither.
    """
    return _networks(_as_key(network_configs(spec)))


def network_configs(spec: GeneratorSpec) -> Configs:
    """The configs of a generator's networks, from its folder or the embedded facts; raises like `components_of`."""
    known, source = published_models(), Path(spec.model)
    if not source.is_dir() and spec.model not in known:
        raise ModelError(
            f"the sizes of {spec.model} are not known here; give a local folder of it or one of: " + ", ".join(known)
        )
    own = {name: config_of(name, weights) for name, weights in spec.replaced.items()}
    configs = configs_of(source) if source.is_dir() else known[spec.model]
    return {**configs, **{name: config for name, config in own.items() if config is not None}}


def _check_latents(head: Head, spec: GeneratorSpec) -> None:
    """Raise `UsageError` where a head's latents are not those of the VAE that it would replace."""
    given, wanted = channels_of(network_configs(spec)["vae"]), head.latent_channels
    if given != wanted:
        raise UsageError(
            f"the head decodes latents of {wanted} channels, but the VAE of {spec.name} has {given}; use a head "
            "that was trained on this model's latents"
        )
