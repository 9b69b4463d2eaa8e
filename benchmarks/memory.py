"""Count what every preset pair and every run takes, without weights or a GPU.

    python benchmarks/memory.py

Writes the table of docs/real-models.md between its two marker lines, and src/topcoat/cost/presets.json, which
`topcoat presets` shows. `topcoat doctor --pair NAME --vram GIB` says the same for one pair. Takes minutes.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from sections import write_section
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from topcoat.cost.memory import Memory, pair_memory
from topcoat.cost.presets import PRESET_FIGURES, RunFigures, pair_figures
from topcoat.cost.pricing import TRAINING_PASSES
from topcoat.errors import UsageError
from topcoat.files import write_json
from topcoat.generators.base import OFFLOADS
from topcoat.generators.presets import PRESETS, model_pair
from topcoat.pairs.build import DEFAULT_BATCH_SIZE
from topcoat.training.config import TrainConfig
from topcoat.training.runs import RUNS

ON_THE_PAGE = ("flux1", "flux2-klein", "sdxl", "z-image")
GPUS_GIB = (12, 16, 24, 48, 80)
GIB = 2**30
BEGIN, END = "<!-- memory: begin (benchmarks/memory.py) -->", "<!-- memory: end -->"
SIDE_PX = {"real-unet": 1024}
"""Side of whole images in a run; those of the mini pair by default."""
MINI_PX = 128
STATE_BYTES = 5 * 4
"""Of a parameter: weight, gradient, Adam's two moments and the average, in float32."""
PAGE = Path(__file__).parent.parent / "docs" / "real-models.md"


def rows_of(name: str, memory: Memory) -> list[str]:
    """A line of the table for each way of offloading."""
    lines = []
    for offload in OFFLOADS:
        batches = [memory.largest_batch(offload, gpu * GIB, DEFAULT_BATCH_SIZE) for gpu in GPUS_GIB]
        cells = [f"{memory.weight_bytes / GIB:.1f}", f"{memory.needed_bytes(offload) / GIB:.1f}"]
        lines.append(f"| `{name}` | `{offload}` | {' | '.join([*cells, *(str(size or '-') for size in batches)])} |")
    return lines


def run_figures(name: str) -> RunFigures:
    """Of a named run; parts that depend on a pair's VAE are left out."""
    stages, side = RUNS[name]().stages, SIDE_PX.get(name, MINI_PX)
    try:
        parameters = stages[-1].head.parameters()
        flop = sum(one.images * one.head.flops(*[one.crop_px or side] * 2) for one in stages)
        saved = max(saved_bytes(one, one.crop_px or side) for one in stages)
    except UsageError:
        return RunFigures(side, None, None, None)
    return RunFigures(side, parameters, TRAINING_PASSES * flop / 1e12, saved + parameters * STATE_BYTES)


def saved_bytes(config: TrainConfig, side: int) -> int:
    """What the head saves for the backward pass of one micro-batch, in the stage's precision."""
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no storage is freed and its place used again

    def saved(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
        kept.append(tensor)
        return tensor

    network = config.head.build()
    lower = torch.autocast("cpu", torch.bfloat16) if config.precision == "bfloat16" else nullcontext()
    micro = config.batch_size // config.gradient_accumulation_steps
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        lower,
        saved_tensors_hooks(saved, lambda tensor: tensor),
    ):
        network.enhance(torch.empty(micro, *config.head.input_shape(side, side)))
    return sum(storages.values())


def main() -> None:
    """Compute the table and write it."""
    pairs = [model_pair(name) for name in ON_THE_PAGE]
    header = " | ".join(f"{gpu} GiB" for gpu in GPUS_GIB)
    lines = [
        f"| pair | offload | weights, GiB | one image, GiB | {header} |",
        f"|---|---|{'---:|' * (2 + len(GPUS_GIB))}",
        *(line for pair in pairs for line in rows_of(pair.name, pair_memory(pair))),
    ]
    write_section(PAGE, BEGIN, END, "\n".join(lines), title="# Real models")
    figures = {
        "pairs": {name: asdict(pair_figures(model_pair(name))) for name in PRESETS},
        "runs": {name: asdict(run_figures(name)) for name in RUNS},
    }
    write_json(PRESET_FIGURES, figures)
    print("\n".join(lines), f"written to {PRESET_FIGURES}", sep="\n")


if __name__ == "__main__":
    main()
