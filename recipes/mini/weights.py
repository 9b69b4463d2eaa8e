"""Trained networks of the recipe in the repository: long trainings go on from there on any machine.

`keep` writes them, `restore` puts them into a work folder that lacks them. A restored network counts as trained; only
the baseline, which is trained for days, goes on from the images that its figures name, with fresh optimizer states.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recipes.mini.recipe import Recipe, WorkFolder
from topcoat.files import atomic_path

KEPT = Path(__file__).parent / "weights"
FOLDERS = ("features/loss", "features/eval", "reader", "vae", "text", "baseline", "distilled")
"""Of a work folder, where `figures.json` says that there is something trained."""
_LEFT_OUT = ("state.json", "state.safetensors", "trajectories", "snapshot", "guided")


def keep(_recipe: Recipe, work: WorkFolder) -> None:
    """Copy what is trained from the work folder into the repository, transformers in half precision."""
    for name in FOLDERS:
        source, target = work.root / name, KEPT / name
        if not (source / "figures.json").exists():
            continue
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        for path in target.glob("transformer/*.safetensors"):
            halve(path)
        print(f"{name}: kept in {target}", flush=True)


def halve(path: Path) -> None:
    """Rewrite a file of weights in half precision: the repository and the package are to stay small."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
    weights = {name: value.half() for name, value in load_file(path).items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata=about)


def restore(work: WorkFolder) -> None:
    """Copy kept networks into the work folder, where it has none of the stage."""
    for name in FOLDERS:
        source, target = KEPT / name, work.root / name
        if source.exists() and not target.exists():
            unfinished = target.with_name(f"{target.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(source, unfinished)
            unfinished.rename(target)
            print(f"{name}: taken from {source}; remove {target} and it to train anew", flush=True)


def restored(folder: Path) -> bool:
    """Whether a stage's folder holds finished weights without a state to go on from."""
    return (folder / "figures.json").exists() and not (folder / "state.safetensors").exists()
