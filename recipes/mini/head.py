"""Stage 9: the embedded head, made as a user makes one: `build_pairs` with the mini pair, then `train`.

The thresholds of the filter ``same-subject`` and of the head's gates are measured on the same pairs.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator

import torch
from torch import Tensor

from recipes.mini.assemble import write_card
from recipes.mini.meter import Meter
from recipes.mini.recipe import Recipe, Workshop
from topcoat.embedded import MINI
from topcoat.features import load_feature_net
from topcoat.generators.presets import model_pair
from topcoat.heads import Head, calibrate_gates
from topcoat.pairs import Painting, PairDataset, build_pairs
from topcoat.pairs.calibration import calibrate, write_calibration
from topcoat.prompts import sample_prompts
from topcoat.training import train

PAIR_PROMPTS_SEED = 0
"""What `topcoat pairs build` uses by default; the proof's prompts have other seeds and are of the test split."""


def make_head(recipe: Recipe, shop: Workshop) -> None:
    """Build the pairs, train the recipe's run on them and put the head into the package."""
    # Other weights are other pairs: each version of the mini pair has a folder of its own.
    weights = b"".join(path.read_bytes() for path in sorted(MINI.glob("*/transformer/*.safetensors")))
    version = hashlib.sha256(weights).hexdigest()[:8]
    with Meter("pairs", recipe.head_pairs) as meter:
        dataset = build_pairs(
            shop.root / f"pairs-{version}",
            sample_prompts(recipe.head_pairs, PAIR_PROMPTS_SEED),
            model_pair("mini"),
            batch_size=recipe.batch_size,
            painting=Painting(latents=True),
            on_progress=lambda done, _total: meter.update(done, "painted by both models"),
        )
    net = load_feature_net("loss")
    write_calibration(MINI / "same-subject.json", calibrate(dataset, net))
    run = shop.root / f"head-{version}"
    with Meter("head", recipe.head_images) as meter:
        for record in train(recipe.head_run, dataset, run, images=recipe.head_images):
            note = f"loss {record.loss:.4f}"
            if record.validation is not None:
                seen = record.validation
                print(
                    f"head at {record.images_seen:,}: perceptual {seen.perceptual:.4f} (do nothing "
                    f"{seen.do_nothing_perceptual:.4f}), {seen.psnr_db:.2f} dB ({seen.do_nothing_psnr_db:.2f} dB)",
                    flush=True,
                )
            meter.update(record.images_seen, note)
    shutil.rmtree(MINI / "head", ignore_errors=True)
    head = Head.from_pretrained(run)
    head.gates = calibrate_gates(_batches(dataset.split("train")), net, dataset_digest=dataset.digest)
    head.save_pretrained(MINI / "head")
    write_card(recipe, shop)


def _batches(dataset: PairDataset) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.arange(len(dataset)).split(32):
        pairs = [dataset[row] for row in rows.tolist()]
        yield torch.stack([pair.distilled for pair in pairs]), torch.stack([pair.baseline for pair in pairs])
