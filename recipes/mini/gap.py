"""Optional stage after `distill`: is the gap between student and baseline real, and is it the same subject?

Paints the same held-out subjects by the student and the baseline at few steps and by the baseline at its own, and
measures all of them with the evaluation net, before hours go into pairs and a head.
"""

from __future__ import annotations

from pathlib import Path

from recipes.mini.autoencoder import decode, load_autoencoder
from recipes.mini.distillation import baseline_folder
from recipes.mini.flow import Condition, load_transformer, noise_of, sample
from recipes.mini.recipe import Recipe, Workshop
from recipes.mini.text_encoders import TextEncoders
from topcoat.features import FeatureNet
from topcoat.files import write_json
from topcoat.metrics.embed import Embeddings, embed
from topcoat.metrics.frechet import GaussianStatistics, frechet_distance
from topcoat.metrics.identity import identity_pairs
from topcoat.prompts import held_out_prompts
from topcoat.seeds import FIRST_SEED as FIRST_SEEDS

SUBJECTS = 256
PROMPT_SEED = 78
FIRST_SEED = FIRST_SEEDS["gap"]
BATCH_IMAGES = 64
FEW_STEPS = (1, 2, 4)


def measure_gap(recipe: Recipe, shop: Workshop) -> None:
    """Print and keep, for each few-step setting: Fréchet distance to the baseline, and identity beside others'."""
    text = TextEncoders.load(shop.text)
    condition = Condition(*text.embed([p.text for p in held_out_prompts(SUBJECTS, PROMPT_SEED)], recipe.text_tokens))
    autoencoder = load_autoencoder(shop)
    net = FeatureNet.load(shop.features / "eval")
    side = recipe.size_px // 8

    def seen(folder: Path, steps: int, first_seed: int = FIRST_SEED) -> Embeddings:
        noise = noise_of(range(first_seed, first_seed + SUBJECTS), side)
        latents = sample(load_transformer(folder), noise, condition, steps)
        return embed(decode(autoencoder, latents).split(BATCH_IMAGES), net)

    slow, fast = baseline_folder(shop), shop.distilled / "transformer"
    wanted = seen(slow, recipe.baseline_steps)
    other = seen(slow, recipe.baseline_steps, FIRST_SEED + SUBJECTS)
    target = GaussianStatistics.of(wanted.embedding)
    floor = frechet_distance(GaussianStatistics.of(other.embedding), target)
    print(f"{SUBJECTS} held-out subjects; the baseline at other seeds is {floor:.2f} from itself")
    found: dict[str, dict[str, float]] = {}
    for name, folder in (("student", fast), ("baseline", slow)):
        for steps in FEW_STEPS:
            given = seen(folder, steps)
            distance = frechet_distance(GaussianStatistics.of(given.embedding), target)
            same = identity_pairs(given.identity, wanted.identity)
            found[f"{name} at {steps}"] = {"frechet": distance, "same": same.same_mean, "same_p05": same.same_p05}
            print(
                f"{name}, steps {steps}: Fréchet {distance:.2f}, identity of the same subject {same.same_mean:.3f} "
                f"(5th percentile {same.same_p05:.3f}), of others {same.different_mean:.3f} "
                f"(95th {same.different_p95:.3f})",
                flush=True,
            )
    write_json(shop.distilled / "gap.json", {"subjects": SUBJECTS, "floor": floor, "settings": found})
