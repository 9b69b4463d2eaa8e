"""Arms in turns: what is made when, what is timed, and that neither batch size nor order changes an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.benchmark.conftest import SharpenHead
from tests.conftest import FakeHead
from topcoat.benchmark.arms import Arm, Model, Subjects
from topcoat.benchmark.run import TIMED_BATCHES, Benchmark
from topcoat.benchmark.store import Batch, Store, to_bytes, to_floats
from topcoat.cost.measure import Spent
from topcoat.errors import UsageError
from topcoat.features import FeatureNet
from topcoat.generators.base import LatentGenerator
from topcoat.metrics.embed import embed
from topcoat.metrics.paired import gradient_energy

SUBJECTS = Subjects(tuple(f"portrait of person {number}" for number in range(40)), tuple(range(100, 140)))
DISTILLED, BASELINE = Arm("distilled", 1), Arm("baseline", 3)
HEAD, WEAK = Arm("distilled", 1, "sharpen"), Arm("distilled", 1, "sharpen", 0.5)
FLOOR = Arm("baseline", 3, other_seeds=True)


class Decoder(FakeHead):
    """Decodes latents as the generator itself does."""

    def __init__(self, generator: LatentGenerator) -> None:
        super().__init__()
        self.input = "latent"
        self.generator = generator

    def __call__(self, inputs: Tensor, strength: float = 1.0) -> Tensor:
        return self.generator.decode(inputs)


def work(generated: Any, folder: Path | None = None, subjects: Subjects = SUBJECTS, batch_size: int = 8) -> Benchmark:
    heads = {"sharpen": SharpenHead(), "decoder": Decoder(generated[0])}
    models: dict[Model, Any] = {"distilled": generated[0], "baseline": generated[1]}
    return Benchmark(models, heads, subjects, store=Store(folder), batch_size=batch_size)


def test_labels_are_short_and_all_different() -> None:
    arms = [DISTILLED, BASELINE, HEAD, WEAK, FLOOR, Arm("distilled", 4), Arm("baseline", 28)]
    assert [arm.label for arm in arms] == [
        "1 step", "baseline, 3 steps", "1 step + sharpen", "1 step + sharpen at 0.5",
        "baseline, 3 steps, other seeds", "4 steps", "baseline, 28 steps",
    ]  # fmt: skip


def test_all_arms_take_turns(generated: Any) -> None:
    order: list[str] = []
    work(generated).measure(
        [DISTILLED, HEAD, BASELINE], FeatureNet.tiny(0), on_progress=lambda done, total, arm: order.append(arm)
    )
    assert order == ["1 step", "1 step + sharpen", "baseline, 3 steps"] * 5


def test_an_arm_for_its_time_runs_on_the_first_batches(generated: Any) -> None:
    extra = Arm("baseline", 28)
    measured, seconds = work(generated).measure([DISTILLED], FeatureNet.tiny(0), timed_only=[extra])
    assert list(measured) == [DISTILLED]
    assert seconds[DISTILLED]["seconds"].runs == 5 and seconds[extra]["seconds"].runs == TIMED_BATCHES
    timings = work(generated).generate([DISTILLED], timed_only=[extra])
    assert (timings[DISTILLED].runs, timings[extra].runs) == (5, TIMED_BATCHES)


def test_a_head_costs_its_time_on_top(generated: Any) -> None:
    _, seconds = work(generated).measure([DISTILLED, HEAD], FeatureNet.tiny(0))
    alone, both = seconds[DISTILLED], seconds[HEAD]
    assert list(alone) == ["seconds"] and list(both) == ["seconds", "generator_seconds", "head_seconds"]
    whole, generator = both["seconds"], both["generator_seconds"]
    assert generator == alone["seconds"]  # the same batches, made once
    assert whole.low >= generator.low and whole.high <= generator.high + both["head_seconds"].high


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_images_and_features_do_not_depend_on_the_batch_size(generated: Any, batch_size: int) -> None:
    net = FeatureNet.tiny(0)
    one, other = work(generated), work(generated, batch_size=batch_size)
    for arm in (DISTILLED, WEAK, FLOOR):
        images = torch.cat(list(one.images(arm)))
        assert torch.equal(images, torch.cat(list(other.images(arm)))) and len(images) == 40
        assert torch.equal(other.first(arm, 11), images[:11])
    measured, _ = other.measure([WEAK], net)
    images = torch.cat(list(one.images(WEAK)))
    expected = embed(to_floats(images), net, 32)
    # the net computes in float32, and processors choose other kernels for other batches
    torch.testing.assert_close(measured[WEAK].embeddings.embedding, expected.embedding, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(measured[WEAK].embeddings.identity, expected.identity, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(measured[WEAK].gradient_energy, gradient_energy(to_floats(images)))


def test_the_noise_floor_is_the_same_prompts_at_other_seeds(generated: Any) -> None:
    images = torch.cat(list(work(generated).images(FLOOR)))
    seeds = [seed + 1_000_000_007 for seed in SUBJECTS.seeds]
    assert torch.equal(images, to_bytes(generated[1].generate(list(SUBJECTS.prompts), seeds, steps=3)))


def test_a_head_of_latents_is_given_latents_as_they_are_kept(generated: Any) -> None:
    subjects = Subjects(SUBJECTS.prompts[:4], SUBJECTS.seeds[:4])
    (images,) = work(generated, subjects=subjects).images(Arm("distilled", 1, "decoder"))
    latents = generated[0].generate_latents(list(subjects.prompts), list(subjects.seeds), steps=1)
    assert torch.equal(images, to_bytes(generated[0].decode(latents.half().float())))


def test_a_generator_without_latents_is_refused(generated: Any) -> None:
    class ImagesOnly:
        spec = generated[0].spec

        def generate(self, *_: Any, **__: Any) -> Tensor:
            raise AssertionError("not needed")

    heads = {"decoder": Decoder(generated[0])}
    only = Benchmark({"distilled": ImagesOnly()}, heads, SUBJECTS, store=Store(None))
    with pytest.raises(UsageError, match="gives no latents"):
        only.batch(Arm("distilled", 1, "decoder"), 0)


def test_every_batch_is_kept_by_what_decides_it(generated: Any, tmp_path: Path) -> None:
    first = work(generated, tmp_path)
    first.generate([DISTILLED, FLOOR, BASELINE, HEAD])
    assert len(list(tmp_path.iterdir())) == 3 * 5  # the head starts from the distilled batches
    calls = len(generated[0].calls) + len(generated[1].calls)
    again = work(generated, tmp_path)
    torch.testing.assert_close(list(again.images(HEAD)), list(first.images(HEAD)))
    assert len(generated[0].calls) + len(generated[1].calls) == calls
    list(work(generated, tmp_path).images(Arm("distilled", 2)))  # other steps are other images
    list(work(generated, tmp_path, batch_size=20).images(DISTILLED))  # and so is another batch size
    assert len(list(tmp_path.iterdir())) == 4 * 5 + 2


def test_a_store_without_a_folder_keeps_batches_in_memory() -> None:
    store, batch = Store(None), Batch(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), Spent(0.5))
    assert store.batch({"seed": 1}) is None
    store.keep_batch({"seed": 1}, batch)
    assert store.batch({"seed": 1}) == batch and store.batch({"seed": 2}) is None


def test_a_store_keeps_what_a_batch_took(tmp_path: Path) -> None:
    store, images = Store(tmp_path), torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    for spent in (Spent(0.5), Spent(0.5, 3.25, 1 << 33)):
        store.keep_batch({"seed": 1}, Batch(images, spent))
        kept = store.batch({"seed": 1})
        assert kept is not None and kept.spent == spent
    assert Spent(1, 2, 30).then(Spent(0.5, 4, 20)) == Spent(1.5, 6, 30)
    assert Spent(1, 2).then(Spent(1)) == Spent(2)


def test_subjects_are_checked_and_named_by_content() -> None:
    assert Subjects.of(["a", "b"], [1, 2], what="this") == Subjects(("a", "b"), (1, 2))
    assert Subjects(("a", "b"), (1, 2)).digest != Subjects(("a", "b"), (1, 3)).digest
    with pytest.raises(UsageError, match="this needs 2 or more subjects"):
        Subjects.of(["a"], [1], what="this")
    with pytest.raises(UsageError, match="batch size 0"):
        Benchmark({}, {}, SUBJECTS, store=Store(None), batch_size=0)
