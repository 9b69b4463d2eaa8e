"""Stage 8: put the mini pair into the package: diffusers folder, distilled transformer, nets, words, spec and card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from recipes.mini.autoencoder import load_autoencoder
from recipes.mini.distillation import baseline_folder
from recipes.mini.feature_nets import ARCHITECTURES
from recipes.mini.recipe import Recipe, WorkFolder
from recipes.mini.text_encoders import TextEncoders
from topcoat.embedded import MINI
from topcoat.features import FeatureNet
from topcoat.files import read_json, sha256_of, write_json

STAGES_WITH_FIGURES = ("features/loss", "features/eval", "vae", "text", "baseline", "baseline/guided", "distilled")
LICENCE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}


def assemble(recipe: Recipe, work: WorkFolder) -> None:
    """Write `assets/mini` (all but the heads, which the study makes) and the digests of every weight file."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False)
    text: Any = TextEncoders.load(work.text)
    pipeline: Any = FluxPipeline(
        scheduler=scheduler,
        vae=_half(load_autoencoder(work).cpu()),
        text_encoder=_half(text.clip),
        tokenizer=text.clip_tokenizer,
        text_encoder_2=_half(text.t5),
        tokenizer_2=text.t5_tokenizer,
        transformer=_half(FluxTransformer2DModel.from_pretrained(baseline_folder(work))),
    )
    _fresh(MINI / "pipeline")
    pipeline.save_pretrained(MINI / "pipeline")
    _name_tokenizers_plainly(MINI / "pipeline")
    _fresh(MINI / "distilled")
    _half(FluxTransformer2DModel.from_pretrained(work.distilled / "transformer")).save_pretrained(
        MINI / "distilled" / "transformer"
    )
    scheduler.save_pretrained(MINI / "distilled" / "scheduler")
    for name in ARCHITECTURES:
        _fresh(MINI / "features" / name)
        FeatureNet.load(work.features / name).save(MINI / "features" / name)
    for path in MINI.glob("*/*/config.json"):
        # diffusers notes the folder that a part was loaded from: of no use elsewhere, and different on every machine.
        write_json(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})
    write_json(MINI / "pair.json", _pair(recipe))
    shutil.copyfile(Path(__file__).with_name("words.toml"), MINI / "words.toml")
    write_card(recipe, work)


def _name_tokenizers_plainly(folder: Path) -> None:
    """transformers 5 writes the name of an internal class, which other releases do not know; this one all do."""
    index = read_json(folder / "model_index.json")
    for name in ("tokenizer", "tokenizer_2"):
        index[name] = ["transformers", "PreTrainedTokenizerFast"]
        path = folder / name / "tokenizer_config.json"
        write_json(path, read_json(path) | {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_json(folder / "model_index.json", index)


def write_card(recipe: Recipe, work: WorkFolder) -> None:
    """`card.json`: the recipe's numbers, every stage's figures and the digest of every weight file."""
    paths = {stage: work.root / stage / "figures.json" for stage in STAGES_WITH_FIGURES}
    figures = {stage: read_json(path) for stage, path in paths.items() if path.exists()}
    weights = sorted(MINI.rglob("*.safetensors"))
    card = {
        "recipe": recipe.model_dump(mode="json"),
        "figures": figures,
        "digests": {str(path.relative_to(MINI)): sha256_of(path) for path in weights},
    }
    write_json(MINI / "card.json", card)
    total = sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file())
    print(f"assets/mini: {total / 1e6:.1f} MB")


def _pair(recipe: Recipe) -> dict[str, object]:
    shared = {
        "model": "pipeline",
        "guidance_scale": 0.0,
        "max_sequence_length": recipe.text_tokens,
        "width_px": recipe.size_px,
        "height_px": recipe.size_px,
        "dtype": "float32",
        "licence": LICENCE,
    }
    return {
        "name": "mini",
        "distilled": {
            "name": "mini-distilled",
            "transformer": "distilled",
            "steps": recipe.distilled_steps,
            **shared,
        },
        "baseline": {"name": "mini-baseline", "steps": recipe.baseline_steps, **shared},
    }


def _half(module: Any) -> Any:
    return module.to(torch.float16)


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
