"""``python -m recipes.mini STAGE --work FOLDER``: make the embedded mini pair, one resumable stage at a time."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from recipes.mini.recipe import Recipe, WorkFolder
from recipes.mini.weights import restore, restored
from topcoat.config import load_config

STAGES: dict[str, str] = {
    "pack": "portraits:pack_renders",
    "features": "feature_nets:train_feature_nets",
    "reader": "reader:train_reader",
    "vae": "autoencoder:train_autoencoder",
    "text": "text_encoders:train_text_encoders",
    "baseline": "baseline:train_baseline",
    "guide": "guidance:distill_guidance",
    "distill": "distillation:distill_steps",
    "assemble": "assemble:assemble",
    "study": "study:make_study",
    "latent": "study:make_latent_study",
    "refiner": "study:make_refiner_study",
}
"""Stage -> module and function, in their order; ``all`` runs every one. `recipes.mini.renders` comes before them."""

MODEL_STAGES = ("features", "reader", "vae", "text", "baseline", "guide", "distill", "check")
"""What ``models`` runs: from packed portraits to the pair's networks and their figures."""

FINAL_STAGES = ("reader", "vae", "text")
"""Left alone where their networks come from the repository."""

OPTIONAL_STAGES: dict[str, str] = {"check": "check:check", "keep": "weights:keep"}


def main() -> None:
    """Run one stage (or all, in order); the same command goes on where it stopped."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini", description=__doc__)
    parser.add_argument("stage", choices=(*OPTIONAL_STAGES, *STAGES, "models", "all"))
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="folder of everything in the making")
    parser.add_argument("--recipe", type=Path, help="YAML file with other numbers than the default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what networks are trained on")
    arguments = parser.parse_args()
    recipe = load_config(arguments.recipe, Recipe) if arguments.recipe else Recipe()
    work = WorkFolder(arguments.work, arguments.device)
    restore(work)
    names = {"all": tuple(STAGES), "models": MODEL_STAGES}.get(arguments.stage, (arguments.stage,))
    for stage in names:
        _run(stage, recipe, work, arguments.threads)


def _run(stage: str, recipe: Recipe, work: WorkFolder, threads: int) -> None:
    import torch

    if stage in FINAL_STAGES and restored(work.root / stage):
        print(f"{stage}: trained already, in {work.root / stage}", flush=True)
        return
    torch.set_num_threads(threads)
    module, _, function = (STAGES | OPTIONAL_STAGES)[stage].partition(":")
    getattr(importlib.import_module(f"recipes.mini.{module}"), function)(recipe, work)


if __name__ == "__main__":
    main()
