"""``python -m recipes.mini STAGE --work FOLDER``: make the embedded mini pair, one resumable stage at a time."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from recipes.mini.recipe import Recipe, Workshop
from topcoat.config import load_config

MODELS = ("renders", "features", "vae", "text", "baseline", "guide", "distill", "assemble")
STAGES = (*MODELS, "study", "latent", "refiner")


def main() -> None:
    """Run one stage (or all, in order); the same command goes on where it stopped."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini", description=__doc__)
    parser.add_argument("stage", choices=("restore", "gap", *STAGES, "all"))
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="folder of everything in the making")
    parser.add_argument("--recipe", type=Path, help="YAML file with other numbers than the default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    recipe = load_config(arguments.recipe, Recipe) if arguments.recipe else Recipe()
    shop = Workshop(arguments.work)
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        _run(stage, recipe, shop, arguments.threads)


def _run(stage: str, recipe: Recipe, shop: Workshop, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    if stage == "restore":
        from recipes.mini.restore import restore

        restore(shop)
    elif stage == "renders":
        from recipes.mini.renders import make_renders

        make_renders(shop.renders, recipe.renders, threads)
    elif stage == "features":
        from recipes.mini.feature_nets import ARCHITECTURES, train_feature_net

        for name in ARCHITECTURES:
            train_feature_net(name, recipe, shop)
    elif stage == "vae":
        from recipes.mini.autoencoder import train_autoencoder

        train_autoencoder(recipe, shop)
    elif stage == "text":
        from recipes.mini.text_encoders import train_text_encoders

        train_text_encoders(recipe, shop)
    elif stage == "baseline":
        from recipes.mini.baseline import train_baseline

        train_baseline(recipe, shop)
    elif stage == "guide":
        from recipes.mini.guidance import distill_guidance

        distill_guidance(recipe, shop)
    elif stage == "distill":
        from recipes.mini.distillation import distill_steps

        distill_steps(recipe, shop)
    elif stage == "gap":
        from recipes.mini.gap import measure_gap

        measure_gap(recipe, shop)
    elif stage == "assemble":
        from recipes.mini.assemble import assemble

        assemble(recipe, shop)
    elif stage == "study":
        from recipes.mini.study import make_study

        make_study(recipe, shop)
    elif stage == "latent":
        from recipes.mini.study import make_latent_study

        make_latent_study(recipe, shop)
    elif stage == "refiner":
        from recipes.mini.study import make_refiner_study

        make_refiner_study(recipe, shop)


if __name__ == "__main__":
    main()
