"""A training run in its own process, for `test_processes`: python -m tests.training.launched FOLDER NAME."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.fake_pairs import FakeDataset
from tests.training.conftest import make_pair
from topcoat.features import FeatureNet
from topcoat.heads import CycleGANConfig, UNetConfig
from topcoat.training import CycleObjective, PairedObjective, TrainConfig, train
from topcoat.training.adversarial import DiscriminatorConfig

DISCRIMINATOR = DiscriminatorConfig(looks_at="both", base_channels=4, layers=2, r1=0.1, r1_every_steps=2)
PLAIN = TrainConfig(
    name="launched",
    head=UNetConfig(channels=(4, 8)),
    objective=PairedObjective(
        charbonnier=1.0, perceptual=0.5, adversarial=0.01, feature_matching=0.01, discriminator=DISCRIMINATOR
    ),
    images=24,
    batch_size=4,
    crop_px=16,
    learning_rate=1e-3,
    warmup_images=4,
    validate_every_images=12,
    validation_images=2,
    device="cpu",
    precision="float32",
)
CYCLE = TrainConfig(
    name="launched-cycle",
    head=CycleGANConfig(base_channels=2, blocks=1),
    objective=CycleObjective(pool_images=3, discriminator_channels=2),
    images=24,
    batch_size=4,
    crop_px=None,
    learning_rate=1e-3,
    warmup_images=0,
    device="cpu",
    precision="float32",
)


def main(folder: Path) -> None:
    """Train both in as many processes as this was launched in, the second one in two goes."""
    torch.set_num_threads(1)
    pairs = FakeDataset([make_pair(seed, 32, 32) for seed in range(8)], [make_pair(9, 32, 32), make_pair(10, 32, 32)])
    features = FeatureNet.tiny(seed=0)
    for _ in train(PLAIN, pairs, folder / "plain", features=features):
        pass
    every_step = CYCLE.model_copy(update={"checkpoint_every_seconds": 0.0})
    run = train(every_step, pairs, folder / "cycle", features=features)
    for _ in range(3):
        next(run)
    run.close()
    for _ in train(CYCLE, pairs, folder / "cycle", features=features):
        pass
    for _ in train(CYCLE, pairs, folder / "cycle-whole", features=features):
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
