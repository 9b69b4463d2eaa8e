"""Stage 9: the study, and from it the embedded heads, made as a user makes them: `topcoat reproduce` on the mini pair.

The best head that takes images and the best that decodes latents go into the package. The thresholds of the filter
``same-subject`` and of the head's gates are measured on the study's pairs.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack
from pathlib import Path

from recipes.mini.assemble import write_card
from recipes.mini.meter import Meter
from recipes.mini.recipe import Recipe, Workshop
from topcoat.cli.options import HELD_OUT_FIRST_SEED
from topcoat.embedded import HEAD_FOLDERS, MINI
from topcoat.errors import DataError
from topcoat.features import load_feature_net
from topcoat.generators.base import ModelPair
from topcoat.generators.presets import model_pair
from topcoat.heads import Head, calibrate_gates
from topcoat.pairs import PairDataset
from topcoat.pairs.calibration import calibrate, write_calibration
from topcoat.pairs.reuse import open_baseline_source
from topcoat.prompts import held_out_prompts, sample_prompts
from topcoat.reproduction import Reproduction, Stage, StageResult, Study, study_runs

PAIR_PROMPTS_SEED = 0
"""What `topcoat pairs build` and `topcoat reproduce` use; the held-out prompts are of another seed and split."""
HELD_OUT_PROMPTS_SEED = 1
_OF_IMAGES = ("unet", "nafnet", "cyclegan", "esa-cyclegan")


def make_study(recipe: Recipe, shop: Workshop) -> None:
    """Run the study of the assembled pair and put its best heads into the package."""
    # Other weights are another study: each version of the mini pair has a folder of its own.
    weights = b"".join(path.read_bytes() for path in sorted(MINI.glob("*/transformer/*.safetensors")))
    folder = shop.root / f"study-{hashlib.sha256(weights).hexdigest()[:8]}"
    pair = model_pair("mini")
    runs = [
        run.with_images(recipe.study_images[run.name])
        for run in study_runs(list(recipe.study_images), pair, full_size=False)
    ]
    work = Reproduction(
        pair,
        runs,
        sample_prompts(recipe.study_pairs, PAIR_PROMPTS_SEED),
        held_out_prompts(recipe.study_subjects, HELD_OUT_PROMPTS_SEED),
        range(HELD_OUT_FIRST_SEED, HELD_OUT_FIRST_SEED + recipe.study_subjects),
        output=folder,
        baseline_from=_earlier_pairs(shop, folder, pair),
    )
    for stage in work.stages():
        print(f"{stage.name}: {_metered(stage).sentence}", flush=True)
    _embed(work.study, folder)
    write_card(recipe, shop)


def _metered(stage: Stage) -> StageResult:
    """Run a stage under a meter, which learns from the stage how much there is to do."""
    with ExitStack() as stack:
        meter: Meter | None = None

        def tell(done: int, total: int, note: str) -> None:
            nonlocal meter
            if meter is None:
                meter = stack.enter_context(Meter(stage.name, total, done))
            meter.update(done, note)

        return stage.run(tell)


def _embed(study: Study, folder: Path) -> None:
    """The best head of each sort, with gates where it has a strength to lower."""
    dataset = PairDataset.open(folder / "pairs")
    net = load_feature_net("loss")
    write_calibration(MINI / "same-subject.json", calibrate(dataset, net))
    for takes, name in HEAD_FOLDERS.items():
        run = study.best_of(("decoder",) if takes == "latent" else _OF_IMAGES)
        if run is None:
            continue
        head = Head.from_pretrained(folder / "runs" / run.run)
        if takes == "image":
            head.gates = calibrate_gates(dataset.split("train").batches(32), net, dataset_digest=dataset.digest)
        shutil.rmtree(MINI / name, ignore_errors=True)
        head.save_pretrained(MINI / name)
        print(f"{name}: {run.run}", flush=True)


def _earlier_pairs(shop: Workshop, folder: Path, pair: ModelPair) -> Path | None:
    """Pairs of an earlier version of the distilled model, whose baseline images are good still."""
    for earlier in sorted(shop.root.glob("study-*/pairs")):
        if earlier.parent == folder:
            continue
        try:
            open_baseline_source(earlier, pair.baseline)
        except DataError:
            continue
        return earlier
    return None
