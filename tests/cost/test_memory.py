"""Computed memory against torch's own tracker, against what a CPU allocates, and what offloading changes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from topcoat.cost.flops import network_configs
from topcoat.cost.memory import RESERVE_BYTES, Memory, ModelMemory, NetworkMemory, model_memory, pair_memory, peak_bytes
from topcoat.generators.base import OFFLOADS, ModelPair
from topcoat.generators.meta import build_networks
from topcoat.generators.presets import model_pair

GIB = 2**30


def test_the_peak_is_that_of_what_is_alive() -> None:
    layer = nn.Linear(100, 100)

    def run() -> None:
        first = layer(torch.ones(10, 100))  # 4,000 bytes each
        second = first * 2
        del first
        third = second + 1
        third.mul_(2).view(-1)

    assert peak_bytes(run, [layer]) == 2 * 4000, "never more than two at once"


def test_weights_and_their_views_are_no_activations() -> None:
    layer = nn.Linear(100, 100, device="meta")
    assert peak_bytes(lambda: layer.weight.t()[0], [layer]) == 0


def test_attention_makes_no_matrix_of_scores() -> None:
    query = torch.empty(1, 2, 1000, 8, device="meta")
    attend = nn.functional.scaled_dot_product_attention
    assert peak_bytes(lambda: attend(query, query, query), []) == query.nbytes
    assert peak_bytes(lambda: attend(query=query, key=query, value=query), []) == query.nbytes


@pytest.mark.parametrize("part", ["text", "step", "decode"])
def test_the_meta_device_agrees_with_the_tracker_of_torch(tiny_pair: ModelPair, part: str) -> None:
    fake: Any = importlib.import_module("torch._subclasses.fake_tensor")
    tracker: Any = importlib.import_module("torch.distributed._tools.mem_tracker")
    spec = tiny_pair.baseline

    def measured(device: str) -> Any:
        networks = build_networks(network_configs(spec), device)
        runs = {
            "text": lambda: networks.text_encode(spec.max_sequence_length),
            "step": lambda: networks.step(spec.width_px, spec.height_px, spec.max_sequence_length),
            "decode": lambda: networks.vae_decode(spec.width_px, spec.height_px),
        }
        return networks, runs[part]()

    networks, run = measured("meta")
    computed = peak_bytes(run, networks.modules.values())
    with fake.FakeTensorMode():
        _, run = measured("cpu")
        memory = tracker.MemTracker()
        with memory, torch.no_grad():
            run()
        peak = memory.get_tracker_snapshot("peak")[torch.device("cpu")]
    activations = next(size for kind, size in peak.items() if str(kind).endswith("ACT"))
    assert computed == pytest.approx(activations, rel=0.1, abs=8192)


def test_klein_needs_what_the_tracker_says() -> None:
    """GiB of weights, and of activations to decode one image in bfloat16 at 1024 px, which were tracked once."""
    model = model_memory(model_pair("flux2-klein").distilled)
    assert model.denoiser.weight_bytes / GIB == pytest.approx(7.22, abs=0.01)
    assert model.decode_bytes / GIB == pytest.approx(1.5, abs=0.01)


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "real-models.md").read_text(encoding="utf-8")
    memory = pair_memory(model_pair("flux2-klein"))
    for offload in OFFLOADS:
        needed = memory.needed_bytes(offload) / GIB
        sizes = [memory.largest_batch(offload, gpu * GIB, 16) or "-" for gpu in (12, 16, 24, 48, 80)]
        cells = [f"{memory.weight_bytes / GIB:.1f}", f"{needed:.1f}", *map(str, sizes)]
        assert f"| `flux2-klein` | `{offload}` | {' | '.join(cells)} |" in page


@pytest.mark.slow
def test_flux_needs_what_the_tracker_says() -> None:
    """From `MemTracker` on fake tensors in bfloat16: 22.168 GiB of weights; 0.457, 1.5 and 0.09 GiB of activations."""
    memory = pair_memory(model_pair("flux1"))
    dev = memory.models[1]
    assert dev.denoiser.weight_bytes / GIB == pytest.approx(22.168, abs=0.01)
    assert dev.step_bytes / GIB == pytest.approx(0.457, abs=0.01)
    assert dev.decode_bytes / GIB == pytest.approx(1.5, abs=0.01)
    assert dev.text_bytes / GIB == pytest.approx(0.09, abs=0.01)
    assert memory.weight_bytes / GIB == pytest.approx(2 * 22.16 + 8.87 + 0.23 + 0.16, abs=0.05), "T5 and the VAE once"


def network(name: str, weights: int, layer: int) -> NetworkMemory:
    return NetworkMemory(name, f"{name} settings", weights, layer)


@pytest.fixture
def memory() -> Memory:
    """Two models of 50 that share a text encoder of 30 and a VAE of 4."""
    encoder, vae = network("text_encoder", 30, 9), network("vae", 4, 1)
    return Memory(
        tuple(
            ModelMemory(name, (encoder,), network("transformer", 50, 5), vae, 1, step, 20)
            for name, step in (("distilled", 2), ("baseline", 4))
        )
    )


@pytest.mark.parametrize(
    ("offload", "one", "ten"),
    [
        ("none", 134 + 20, 134 + 40),
        ("model", 50 + 4, 50 + 40),
        ("group", 2 * 9 + 4 + 1 + 1, 2 * 5 + 4 + 40),
        ("sequential", 1 + 20, 5 + 40),
    ],
)
def test_what_lies_on_the_device(memory: Memory, offload: Any, one: int, ten: int) -> None:
    assert memory.weight_bytes == 30 + 4 + 2 * 50
    assert memory.needed_bytes(offload, 1) - RESERVE_BYTES == max(one, 24 if offload == "group" else 0)
    assert memory.needed_bytes(offload, 10) - RESERVE_BYTES == ten
    assert memory.largest_batch(offload, RESERVE_BYTES + ten, 16) == 10
    assert memory.largest_batch(offload, RESERVE_BYTES + ten, 4) == 4
    assert memory.largest_batch(offload, RESERVE_BYTES, 16) == 0


def test_quantised_weights_count_less(tiny_pair: ModelPair) -> None:
    spec = tiny_pair.baseline.model_copy(update={"dtype": "bfloat16"})
    plain, small = (
        model_memory(spec.model_copy(update={"quantisation": kind})) for kind in ("none", "bitsandbytes-4bit")
    )
    assert small.denoiser.weight_bytes == pytest.approx(plain.denoiser.weight_bytes / 4, abs=2)
    assert (small.vae, small.encoders) == (plain.vae, plain.encoders)


def test_guidance_doubles_the_activations_of_a_step() -> None:
    sdxl = pair_memory(model_pair("sdxl"))
    assert sdxl.models[1].step_bytes == 2 * sdxl.models[0].step_bytes
    # its VAE runs in float32: 3 GiB for one image, which were tracked once
    assert sdxl.models[0].decode_bytes / GIB == pytest.approx(3.0, abs=0.01)
