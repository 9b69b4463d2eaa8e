"""Stage `check`: do the baseline's portraits look like people, and is the gap to few steps the kind that FLUX has?

Samples the same held-out subjects with the baseline at its own steps and at few, and with the distilled model, where it
is there, and prints for each setting: the share of deformed faces, how many of the prompt's words the reader finds
(against how many it finds in renders), how far landmarks and identity move from the baseline's of the same noise, how
much of the gradient is left, and the Fréchet distance. Two contact sheets are for the eye, which has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recipes.mini.autoencoder import decode, load_autoencoder
from recipes.mini.distillation import baseline_folder
from recipes.mini.flow import Condition, Guide, load_transformer, noise_of, sample
from recipes.mini.guidance import baseline_guide
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, sample_words
from recipes.mini.reader import PortraitReader, ShapeModel, read, word_indices
from recipes.mini.recipe import PROMPT_SEED, Recipe, WorkFolder
from recipes.mini.text_encoders import TextEncoders
from topcoat.features import FeatureNet
from topcoat.files import read_json, write_json
from topcoat.images import contact_sheet
from topcoat.metrics.embed import Embeddings, embed
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.metrics.identity import cosine
from topcoat.metrics.paired import gradient_energy

FIRST_SEED = 70_000_000
FEW_STEPS = (1, 2, 4, 8)
DISTILLED_STEPS = (1, 2, 4)
BATCH_IMAGES = 50
SHEET_COLUMNS = 12


@dataclass(frozen=True)
class Setting:
    """A transformer at a number of steps, and what guides it."""

    name: str
    transformer: Path
    steps: int
    guide: Guide | None
    first_seed: int = FIRST_SEED


@dataclass(frozen=True)
class Sampled:
    """A setting's portraits and what the nets read in them."""

    images: Tensor
    """(N, 3, H, W) in [0, 1]."""
    landmarks: Tensor
    words: Tensor
    features: Embeddings


def check(recipe: Recipe, work: WorkFolder) -> None:
    """Print and keep the figures of every setting; contact sheets go beside them."""
    text = TextEncoders.load(work.text)
    portraits = [sample_words(index, PROMPT_SEED + 3) for index in range(recipe.check_subjects)]
    condition = Condition(*text.embed([words.sentence() for words in portraits], recipe.text_tokens))
    labels = word_indices(portraits)
    reader, shapes = PortraitReader.load(work.reader), ShapeModel.load(work.reader)
    net, autoencoder = FeatureNet.load(work.features / "eval"), load_autoencoder(work)

    def generate(setting: Setting) -> Sampled:
        seeds = range(setting.first_seed, setting.first_seed + len(portraits))
        noise = noise_of(seeds, recipe.size_px // 8)
        latents = sample(
            load_transformer(setting.transformer, work.device), noise, condition, setting.steps, guide=setting.guide
        )
        images = decode(autoencoder, latents)
        return Sampled(images, *read(reader, images), embed(images.split(BATCH_IMAGES), net))

    own, *others = _settings(recipe, work, text)
    baseline = generate(own)
    noise_floor = generate(Setting("other seeds", own.transformer, own.steps, own.guide, FIRST_SEED + len(portraits)))
    target = GaussianStatistics.of(baseline.features.embedding)
    read_in_renders = torch.tensor(list(read_json(work.reader / "figures.json")["words_read"].values()))
    gradient = _gradient(baseline.images)

    def words_read(made: Sampled) -> Tensor:
        return (made.words == labels).float().mean(dim=0) / read_in_renders

    rows: dict[str, dict[str, float]] = {}
    sheet: list[tuple[str, Tensor]] = []
    for setting in (own, *others):
        made = baseline if setting is own else generate(setting)
        sheet.append((setting.name, made.images[:SHEET_COLUMNS]))
        share = words_read(made)
        rows[setting.name] = {
            "deformed": float((shapes.residual_px(made.landmarks) > shapes.limit_px).float().mean()),
            "words": float(share.mean()),
            "words_least": float(share.min()),
            "landmarks_px": float((made.landmarks - baseline.landmarks).norm(dim=-1).mean(dim=1).median()),
            "identity": float(cosine(made.features.identity, baseline.features.identity).mean()),
            "gradient": _gradient(made.images) / gradient,
            "frechet": frechet_distance(GaussianStatistics.of(made.features.embedding), target),
        }
        print(f"{setting.name}: " + ", ".join(f"{name} {value:.3f}" for name, value in rows[setting.name].items()))
    floor = frechet_distance(GaussianStatistics.of(noise_floor.features.embedding), target)
    least = list(PORTRAIT_VOCABULARY)[int(words_read(baseline).argmin())]
    print(f"{len(portraits)} held-out subjects; noise floor {floor:.3f}; the word read least is that of {least}")
    write_json(work.check / "figures.json", {"subjects": len(portraits), "noise_floor": floor, "settings": rows})
    contact_sheet(sheet, scale=2).save(work.check / "settings.png")
    unpicked = baseline.images[: 4 * SHEET_COLUMNS].split(SHEET_COLUMNS)
    contact_sheet([("", row) for row in unpicked], scale=2).save(work.check / "baseline.png")


def _settings(recipe: Recipe, work: WorkFolder, text: TextEncoders) -> list[Setting]:
    """The baseline at its own steps, then every setting to compare with it."""
    folder = baseline_folder(work)
    guided = folder == work.guided / "transformer"
    guide = None if guided else baseline_guide(recipe, work, text, recipe.guidance)
    settings = [Setting(f"baseline at {steps}", folder, steps, guide) for steps in (recipe.baseline_steps, *FEW_STEPS)]
    distilled = work.distilled / "transformer"
    if distilled.exists():
        settings += [Setting(f"distilled at {steps}", distilled, steps, None) for steps in DISTILLED_STEPS]
    return settings


def _gradient(images: Tensor) -> float:
    return float(gradient_energy(images).mean())
