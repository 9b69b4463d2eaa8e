"""Stages 9 to 11: the studies, and from them the embedded heads, made as a user makes them: `topcoat reproduce`.

The best U-Net and the best decoder go into the package, and the refiner. The thresholds of the filter ``same-subject``
and of the heads' gates are measured on the studies' pairs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from recipes.mini.assemble import write_card
from recipes.mini.meter import Meter
from recipes.mini.recipe import Recipe, WorkFolder
from recipes.mini.weights import halve
from topcoat.benchmark.study import Stage, Study
from topcoat.benchmark.study_plan import study_runs
from topcoat.embedded import EMBEDDED_HEADS, MINI
from topcoat.errors import DataError
from topcoat.features import FeatureNet, load_feature_net
from topcoat.gates import calibrate_gates
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.heads import Head
from topcoat.heads.head import WEIGHTS_NAME
from topcoat.pairs import PairDataset
from topcoat.pairs.reuse import check_baseline_source
from topcoat.pairs.schema import PairingConfig
from topcoat.pairs.similarity import calibrate, write_calibration
from topcoat.prompts import held_out_prompts, sample_prompts
from topcoat.reports.benchmark import write_benchmark
from topcoat.seeds import noise_seeds

PAIR_PROMPTS_SEED = 0
"""What `topcoat pairs build` and `topcoat reproduce` use; the held-out prompts are of another seed and split."""
HELD_OUT_PROMPTS_SEED = 1
_OF_IMAGES = ("unet", "nafnet", "cyclegan", "esa-cyclegan")


def make_study(recipe: Recipe, work: WorkFolder) -> None:
    """Run the study of the assembled pair and put its best heads into the package."""
    study = _studied(recipe, work, "study", recipe.study_images, recipe.study_pairs)
    dataset, net = PairDataset.open(study.folder / "pairs"), load_feature_net("loss")
    write_calibration(MINI / "same-subject.json", calibrate(dataset, net))
    kinds: Mapping[str, Collection[str]] = {"embedded": _OF_IMAGES, "embedded-decoder": ("decoder",)}
    for name, of_kind in kinds.items():
        best = study.result.best_head(of_kind)
        if best is not None:
            _embed(study, name, best, dataset, net)
    write_card(recipe, work)


def make_latent_study(recipe: Recipe, work: WorkFolder) -> None:
    """The same for heads that change the distilled model's latents, which the embedded head of images teaches first.

    A study of its own with fewer pairs, so that it fits by itself into two hours of a slow machine. The baseline images
    of the other study are used again. None of these heads is embedded.
    """
    _studied(recipe, work, "latent", recipe.latent_images, recipe.latent_pairs, heads={"unet": Head.default()})


def make_refiner_study(recipe: Recipe, work: WorkFolder) -> None:
    """The same for the refiner, for which the embedded head of images paints; embeds it.

    It compares its latents with the baseline's own, so all its pairs are painted here: those of the other studies have
    none.
    """
    study = _studied(
        recipe,
        work,
        "refiner",
        {"refiner": (recipe.refiner_images,)},
        recipe.refiner_pairs,
        heads={"unet": Head.default()},
        reuse=False,
    )
    dataset = PairDataset.open(study.folder / "pairs")
    _embed(study, "embedded-refiner", "refiner", dataset, load_feature_net("loss"))
    write_card(recipe, work)


def _studied(
    recipe: Recipe,
    work: WorkFolder,
    name: str,
    images: Mapping[str, tuple[int, ...]],
    pairs: int,
    *,
    heads: Mapping[str, Head] | None = None,
    reuse: bool = True,
) -> Study:
    """A study in a folder of ``name``, of runs whose stages see so many ``images``; goes on where it stopped.

    ``reuse`` takes the baseline images of other studies where they are the same.
    """
    # Other weights are another study: each version of the mini pair has a folder of its own.
    weights = b"".join(path.read_bytes() for path in sorted(MINI.glob("*/transformer/*.safetensors")))
    folder = work.root / f"{name}-{hashlib.sha256(weights).hexdigest()[:8]}"
    pair = model_pair("mini")
    runs = study_runs(list(images), pair, full_size=False, known=list(heads or ()))
    study = Study(
        pair,
        [run.model_copy(update={"config": run.config.with_images(images[run.name])}) for run in runs],
        sample_prompts(pairs, PAIR_PROMPTS_SEED),
        held_out_prompts(recipe.study_subjects, HELD_OUT_PROMPTS_SEED),
        noise_seeds("held-out", recipe.study_subjects),
        output=folder,
        pair_batch_size=recipe.pair_batch_size,
        baseline_from=_earlier_pairs(work, folder, pair) if reuse else None,
        heads=heads,
    )
    for stage in study.stages():
        print(f"{stage.name}: {_metered(stage)}", flush=True)
    write_benchmark(folder, study.result)
    return study


def _metered(stage: Stage) -> str:
    """Run a stage under a meter, which learns from the stage how much there is to do."""
    with ExitStack() as stack:
        meters: dict[int, Meter] = {}  # by what they count to: a stage may count one thing after another

        def tell(done: int, total: int, note: str) -> None:
            if total not in meters:
                stack.close()
                meters[total] = stack.enter_context(Meter(stage.name, total, done))
            meters[total].update(done, note)

        return stage.run(tell)


def _embed(study: Study, name: str, run: str, dataset: PairDataset, net: FeatureNet) -> None:
    """The head of a run, with gates where it has a strength to lower."""
    head = Head.from_pretrained(study.folder / "runs" / run)
    if head.has_strength:
        rules = calibrate_gates(dataset.split("train").batches(32), net, dataset_digest=dataset.digest)
        head.gates = rules.model_dump(mode="json")
    folder = MINI / EMBEDDED_HEADS[name]
    shutil.rmtree(folder, ignore_errors=True)
    head.network.half().float()  # rounded to what the file will hold, so that its card says the digest that is loaded
    head.save_pretrained(folder)
    halve(folder / WEIGHTS_NAME)
    print(f"{folder.name}: {run}", flush=True)


def _earlier_pairs(work: WorkFolder, folder: Path, pair: ModelPair) -> Path | None:
    """Pairs of another study, or of an earlier version of the distilled model: their baseline images are good still."""
    for earlier in sorted([*work.root.glob("study-*/pairs"), *work.root.glob("latent-*/pairs")]):
        if earlier.parent == folder:
            continue
        try:
            check_baseline_source(earlier, pair.baseline, PairingConfig())
        except DataError:
            continue
        return earlier
    return None
