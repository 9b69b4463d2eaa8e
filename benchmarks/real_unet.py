"""What the run ``real-unet`` costs: FLOP and memory of a step, hours on GPUs, and a crop against the whole picture.

    python benchmarks/real_unet.py

Nothing is trained. FLOP and memory are computed from the run's own networks on tensors without data: every pass of a
step, forward and backward, with DINOv2-small in its published shape. Hours follow from the FLOP, a GPU's published
peak and a stated utilisation: they are computed, never measured. The difference between a crop and the whole picture
is measured here, on noise like a photograph's whose right third is dark, with untrained weights that change it by 0.05
(rms).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from loader import photograph
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from topcoat.files import write_json
from topcoat.heads import UNetConfig
from topcoat.training import PairedObjective, TrainConfig
from topcoat.training.adversarial import build_discriminator, feature_matching_loss, generator_loss, view_of
from topcoat.training.losses import perceptual_loss
from topcoat.training.perceptual import DinoStages
from topcoat.training.runs import real_unet

ROOT = Path(__file__).resolve().parent.parent
TERA = 1e12
WHOLE_PX = 1024
SURROUNDINGS_PX = 320
PEAKS = {
    "RTX 4090": (165.2, "NVIDIA Ada GPU architecture whitepaper, v2.1: dense bfloat16 with float32 accumulation"),
    "A100 SXM": (312.0, "NVIDIA A100 Tensor Core GPU datasheet: dense bfloat16"),
    "H100 SXM": (989.4, "NVIDIA H100 Tensor Core GPU datasheet: dense bfloat16"),
}
"""TFLOP/s and where they are published."""
UTILISATION = {"RTX 4090": (0.15, 0.30), "A100 SXM": (0.10, 0.25), "H100 SXM": (0.05, 0.15)}
"""Assumed, not measured: narrow convolutions are held up by memory, and more so the faster the card computes."""


@dataclass(frozen=True)
class StepCost:
    """Computed of one image in a stage: FLOP, and bytes that are saved for the backward pass in a micro-batch."""

    stage: str
    images: int
    side_px: int
    micro_batch: int
    tflop_per_image: float
    saved_gibibytes: float


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "real_unet.json", help="figures")
    parser.add_argument("--no-images", action="store_true", help="leave out what is measured")
    given = parser.parse_args(arguments)
    run = real_unet()
    head = run.last.head
    assert isinstance(head, UNetConfig)
    tflop = head.flops(WHOLE_PX, WHOLE_PX) / TERA
    print(f"head: {head.parameters() / 1e6:.2f} M parameters, {tflop:.3f} TFLOP at {WHOLE_PX} px")
    costs = [step_cost(stage) for stage in run.stages]
    for cost in costs:
        print(
            f"{cost.stage}: {cost.images:,} images of {cost.side_px} px, {cost.tflop_per_image:.2f} TFLOP each; a "
            f"micro-batch of {cost.micro_batch} saves {cost.saved_gibibytes:.1f} GiB for its backward pass"
        )
    total = sum(cost.images * cost.tflop_per_image for cost in costs)
    hours = {
        gpu: [total / (peak * share) / 3600 for share in UTILISATION[gpu][::-1]] for gpu, (peak, _) in PEAKS.items()
    }
    for gpu, (least, most) in hours.items():
        low, high = UTILISATION[gpu]
        how = f"{total:,.0f} TFLOP at {low:.0%} to {high:.0%} of {PEAKS[gpu][0]} TFLOP/s"
        print(f"{gpu}: {least:.1f} to {most:.1f} hours, computed: {how}")
    differences = {} if given.no_images else {name: difference(config) for name, config in variants(head).items()}
    for name, (alone, surrounded) in differences.items():
        print(f"{name}: the middle of a crop of 384 px differs from the whole picture's by {alone:.5f} (rms),")
        print(f"    with {SURROUNDINGS_PX} px around it by {surrounded:.6f}")
    write_json(
        given.json,
        {
            "head": head.model_dump(mode="json"),
            "whole_px_tflop": tflop,
            "stages": [asdict(cost) for cost in costs],
            "total_tflop": total,
            "peaks": {gpu: {"tflop_per_second": peak, "source": source} for gpu, (peak, source) in PEAKS.items()},
            "assumed_utilisation": {gpu: list(shares) for gpu, shares in UTILISATION.items()},
            "computed_hours": hours,
            "crop_against_whole_rms": {name: list(pair) for name, pair in differences.items()},
        },
    )
    print(f"written to {given.json}")
    return 0


def step_cost(config: TrainConfig) -> StepCost:
    """Computed of one stage, with the discriminator at work."""
    micro = config.batch_size // config.gradient_accumulation_steps
    side = config.crop_px or WHOLE_PX
    with FlopCounterMode(display=False) as counter:
        saved = passes(config, side, micro)
    return StepCost(config.name, config.images, side, micro, counter.get_total_flops() / micro / TERA, saved / 2**30)


def passes(config: TrainConfig, side: int, count: int) -> int:
    """Every pass of a step on ``count`` images without data; gives the bytes that are saved for the backward pass."""
    from transformers import Dinov2Config, Dinov2Model

    objective = config.objective
    assert isinstance(objective, PairedObjective)
    storages: dict[int, int] = {}

    def saved(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        kept.append(tensor)
        return tensor

    kept: list[Tensor] = []  # so that no storage is freed and its place used again
    head = config.head.build()
    shape: Any = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518)
    dino = DinoStages(Dinov2Model(shape)).eval().requires_grad_(False)
    discriminator = build_discriminator(objective.discriminator, dino, torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, y = torch.empty(2, count, 3, side, side).unbind()
        lower: Callable[[], Any] = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
        with saved_tensors_hooks(saved, lambda tensor: tensor):
            with lower():
                z = head.enhance(x).float()
                with torch.no_grad():
                    of_y = dino(y)
                loss = perceptual_loss(dino(z), of_y).float()
            view_z, view_y = (view_of(objective.discriminator, images, None) for images in (z, y))
            with lower():
                real = discriminator(view_y)
                fake = discriminator(tuple(part.detach() for part in view_z))
            torch.stack([score.float().mean() for score in (*real.scores, *fake.scores)]).sum().backward()
            discriminator.requires_grad_(False)
            with lower():
                seen = discriminator(view_z)
                with torch.no_grad():
                    real = discriminator(view_y)
            loss = loss + generator_loss(seen.scores, objective.discriminator.loss)
            loss = loss + feature_matching_loss(seen.features, real.features)
            (loss + 0 * z.sum()).backward()
    return sum(storages.values())


def variants(head: UNetConfig) -> dict[str, UNetConfig]:
    """The run's head, and the same with attention over the whole picture and with none."""
    return {
        f"window of {head.attention_window_px} px": head,
        "global pooling": head.model_copy(update={"attention_window_px": 65_536}),
        "no attention": head.model_copy(update={"cbam": False}),
    }


@torch.no_grad()
def difference(config: UNetConfig) -> tuple[float, float]:
    """RMS between the change of 128 px in the middle of a crop and the same in the whole picture of 1024 px.

    For a crop of 384 px, which has 128 px around the middle, and for one with `SURROUNDINGS_PX`.
    """
    import numpy as np

    image = torch.from_numpy(photograph(np.random.default_rng(0)))[None]
    image[..., 704:] *= 0.3  # a picture is not everywhere alike
    torch.manual_seed(0)
    network = config.build().eval()
    for name, parameter in network.named_parameters():
        if name.startswith("out") or "attention" in name:
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    change = network(image)
    scale = 0.05 / float(change.square().mean().sqrt())
    found = []
    for margin in (128, SURROUNDINGS_PX):
        first, last = 448 - margin, 576 + margin
        crop = network(image[..., first:last, first:last])[..., margin : margin + 128, margin : margin + 128]
        found.append(scale * float((crop - change[..., 448:576, 448:576]).square().mean().sqrt()))
    return found[0], found[1]


if __name__ == "__main__":
    sys.exit(main())
