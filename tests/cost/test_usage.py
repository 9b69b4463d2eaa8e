from __future__ import annotations

import itertools
import sys
import time
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from topcoat.benchmark.arms import Model
from topcoat.benchmark.usage import TimingPlan, measured_savings, time_generators, time_random_weights
from topcoat.cost.flops import components_of, pair_cost
from topcoat.cost.machine import energy_counter, free_memory_bytes
from topcoat.cost.measure import Meter, RandomWeights, check_fits, needed_bytes
from topcoat.cost.memory import RESERVE_BYTES, model_memory
from topcoat.errors import ModelError, UsageError
from topcoat.generators.base import ModelPair
from topcoat.generators.meta import Networks, build_networks
from topcoat.heads import Head, UNetConfig
from topcoat.heads.decoder import DecoderConfig
from topcoat.pipeline import Pipeline

CPU = torch.device("cpu")


def both(generators: tuple[Any, Any]) -> dict[Model, Any]:
    return {"distilled": generators[0], "baseline": generators[1]}


def test_usage_is_per_image_after_the_warm_up(fake_pair: ModelPair, fake_generators: tuple[Any, Any]) -> None:
    calls: list[int] = []

    class Slow:
        spec = fake_pair.distilled

        def generate(self, prompts: Any, seeds: Any, *, steps: int | None = None) -> torch.Tensor:
            time.sleep(0.2 if len(calls) < 2 else 0.01)  # the first run of one step, and the first round
            calls.append(len(prompts))
            return torch.zeros(len(prompts), 3, 8, 8)

    plan = TimingPlan(distilled_steps=(1,), baseline_steps=(), batch_size=2, repeats=4)
    (usage,) = time_generators(both((Slow(), fake_generators[1])), None, plan)
    assert calls == [2] * 6
    assert 0.005 <= usage.seconds.low <= usage.seconds.median_seconds < 0.1 and usage.seconds.runs == 4
    assert usage.images_per_second == pytest.approx(1 / usage.seconds.median_seconds)
    assert usage.as_dict()["kind"] == "measured" and usage.as_dict()["joules"] is None
    with pytest.raises(UsageError, match="1 or more repeats"):
        time_generators(both(fake_generators), None, TimingPlan((1,), (1,), repeats=0))


def test_peak_memory_sees_what_is_held() -> None:
    _, small = Meter(CPU).run(lambda: torch.ones(10))
    _, large = Meter(CPU).run(lambda: torch.ones(60_000_000).sum())
    assert small.peak_memory_bytes is not None and large.peak_memory_bytes is not None
    assert large.peak_memory_bytes - small.peak_memory_bytes > 150e6


def test_joules_are_the_difference_of_the_counter(
    monkeypatch: pytest.MonkeyPatch, fake_generators: tuple[Any, Any], fake_head: Any
) -> None:
    counter = iter(range(10_000, 100_000, 6_000))  # millijoules, once when the meter is made
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counter),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2"))
    joules, why_not = energy_counter(torch.device("cuda"))
    assert joules is not None and why_not == ""
    assert (joules(), joules()) == (16.0, 22.0)
    reading = itertools.count(0, 60)
    monkeypatch.setattr("topcoat.cost.measure.energy_counter", lambda device: (lambda: next(reading), ""))
    plan = TimingPlan((1,), (8,), batch_size=2, repeats=3)
    joules_per_image = [usage.joules for usage in time_generators(both(fake_generators), fake_head, plan)]
    assert joules_per_image == [60 / 2, 120 / 2, 60 / 2]  # a head's are its own and its generator's


def test_no_joules_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    joules, why_not = energy_counter(CPU)
    assert joules is None and "cpu has no energy counter" in why_not
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_counter(torch.device("cuda")) == (None, "unavailable: pip install nvidia-ml-py")

    def fail() -> None:
        raise RuntimeError("driver not loaded")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=fail))
    assert energy_counter(torch.device("cuda")) == (None, "unavailable: driver not loaded")


def test_loaded_models_are_timed_at_every_step_count(
    fake_pair: ModelPair, fake_generators: tuple[Any, Any], fake_head: Any
) -> None:
    plan = TimingPlan(distilled_steps=(1, 2), baseline_steps=(8,), batch_size=3, repeats=2)
    usages = time_generators(both(fake_generators), fake_head, plan)
    assert [(usage.name, usage.steps) for usage in usages] == [
        ("plastic", 1),
        ("plastic + head", 1),
        ("plastic", 2),
        ("plastic + head", 2),
        ("good", 8),
    ]
    assert all(usage.batch_size == 3 for usage in usages)
    assert set(fake_generators[0].calls) == {3}


def test_random_weights_of_a_tiny_pair(tiny_pair: ModelPair, fake_head: Any) -> None:
    plan = TimingPlan(distilled_steps=(2,), baseline_steps=(40, 1), repeats=3)
    usages = time_random_weights(tiny_pair, fake_head, None, CPU, plan)
    assert [(usage.name, usage.steps) for usage in usages] == [
        ("tiny distilled", 2),
        ("tiny distilled + head", 2),
        ("tiny baseline", 40),
        ("tiny baseline", 1),
    ]
    assert usages[2].seconds.median_seconds > 3 * usages[3].seconds.median_seconds
    savings = measured_savings(tiny_pair, pair_cost(tiny_pair), usages)
    assert [(one.name, one.against_steps) for one in savings] == [
        ("tiny distilled", 40),
        ("tiny distilled", 1),
        ("tiny distilled + head", 40),
        ("tiny distilled + head", 1),
    ]
    assert savings[0].share == 1 - usages[0].seconds.median_seconds / usages[2].seconds.median_seconds


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_is_timed_in_the_dtype_of_its_use(tiny_pair: ModelPair, dtype: torch.dtype) -> None:
    config = UNetConfig(channels=(4, 8))
    head = Head(config.build(), config).to(dtype)
    seen: list[torch.dtype] = []
    head.network.stem.register_forward_hook(lambda _module, _given, made: seen.append(made.dtype))  # type: ignore[operator]
    time_random_weights(tiny_pair, head, None, CPU, TimingPlan((1,), (1,), repeats=1))
    timed = len(seen)
    Pipeline(RandomWeights(tiny_pair.distilled, CPU), head)(["a portrait"], [0])
    assert timed > 0 and len(seen) == timed + 1 and set(seen) == {dtype}


def test_one_model_with_random_weights_is_in_memory_at_a_time(
    tiny_pair: ModelPair, fake_head: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier: list[Any] = []

    def build(*arguments: Any) -> Networks:
        assert all(reference() is None for reference in earlier)
        networks = build_networks(*arguments)
        earlier.append(weakref.ref(networks.denoiser))
        return networks

    monkeypatch.setattr("topcoat.cost.measure.build_networks", build)
    assert len(list(time_random_weights(tiny_pair, fake_head, None, CPU, TimingPlan((1, 2), (1,), repeats=1)))) == 5
    assert len(earlier) == 2


def test_random_weights_are_called_as_often_as_a_pipeline_calls_them(tiny_pair: ModelPair) -> None:
    model = RandomWeights(tiny_pair.distilled, CPU, (48, 32))
    calls: list[str] = []
    for name, module in model.networks.modules.items():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    assert model.generate(["a"], [0], steps=3).shape == (1, 3, 32, 48)
    assert model.generate_latents(["a"], [0]).shape == (1, 16, 4, 6)
    steps = ["transformer"] * (3 + tiny_pair.distilled.steps)
    assert [name for name in calls if name == "transformer"] == steps and calls.count("text_encoder") == 2


def test_a_head_that_takes_latents_is_timed_without_the_vae(
    tiny_pair: ModelPair, fake_pair: ModelPair, fake_generators: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DecoderConfig(channels=(8, 6, 4), blocks=(0, 0, 0))
    head = Head(config.build(), config)
    decoded: list[int] = []
    plastic = fake_generators[0]
    decode = plastic.decode
    monkeypatch.setattr(plastic, "decode", lambda latents: (decoded.append(len(latents)), decode(latents))[1])
    plan = TimingPlan(distilled_steps=(2,), baseline_steps=(8,), repeats=2)
    names = [usage.name for usage in time_generators(both(fake_generators), head, plan)]
    assert names == ["plastic", "plastic + head", "good"]
    assert len(decoded) == 4  # the first run of one step, a round that does not count and two of the first row alone
    assert len(time_random_weights(tiny_pair, head, None, CPU, plan)) == 3


def test_what_would_not_fit_is_refused_before_anything_is_built(
    tiny_pair: ModelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = needed_bytes(tiny_pair.baseline)
    assert tiny_pair.baseline.dtype == "float32"
    weights = 4 * components_of(tiny_pair.baseline).parameters
    activations = model_memory(tiny_pair.baseline).activation_bytes(1)
    buffers = needed - weights - activations - RESERVE_BYTES
    assert activations > 10_000 and 0 <= buffers < 10_000
    assert check_fits(tiny_pair.baseline, CPU) == needed
    monkeypatch.setattr("topcoat.cost.measure.free_memory_bytes", lambda device: 1 << 20)
    monkeypatch.setattr("topcoat.cost.measure.build_networks", lambda *_: pytest.fail("was built"))
    with pytest.raises(ModelError, match=r"needs 1\.0 GiB on cpu, where 0\.0 GiB are free"):
        time_random_weights(tiny_pair, None, None, CPU, TimingPlan((1,), (1,)))


def test_a_full_size_model_says_what_it_needs() -> None:
    from topcoat.generators.presets import model_pair

    needed = needed_bytes(model_pair("flux1").baseline) / 2**30
    assert 33 < needed < 35  # (11.9 B + 4.76 B + 0.2 B) weights of 2 bytes, 1.5 GiB to decode, and 1 GiB


def test_memory_that_is_free() -> None:
    free = free_memory_bytes(CPU)
    assert free is None or 0 < free < 1 << 50


def test_impossible_plans(tiny_pair: ModelPair) -> None:
    with pytest.raises(UsageError, match="0 steps are not possible"):
        time_random_weights(tiny_pair, None, None, CPU, TimingPlan((0,), (1,)))
    with pytest.raises(UsageError, match="one image at a time"):
        time_random_weights(tiny_pair, None, None, CPU, TimingPlan((1,), (1,), batch_size=2))
