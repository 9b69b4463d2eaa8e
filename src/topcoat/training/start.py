"""What a stage starts from: random weights, another head, or the distilled model's own VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from topcoat.errors import UsageError
from topcoat.generators.vae import Vae, VaeDecoder
from topcoat.heads.head import Head
from topcoat.training.config import RunConfig, TrainConfig


def fitted(run: RunConfig, vae: Mapping[str, Any]) -> RunConfig:
    """``run`` with the VAE that a config.json describes in heads that lack theirs; no weights are read."""
    with torch.device("meta"):
        decoder = VaeDecoder(vae)
    stages = [
        stage
        if stage.head.latent_part is None or stage.head.latent_part.vae is not None
        else stage.model_copy(update={"head": stage.head.with_vae(decoder)})
        for stage in run.stages
    ]
    return run.model_copy(update={"stages": tuple(stages)})


def first_stage(run: RunConfig, init_from: Head | None) -> int:
    """The stage that a run begins with: the first, or with a head to start from the first that it fits.

    That is the first stage that trains the kind of head that the run ends in: the head that is given stands for what
    the stages before would have made. A head of that kind needs no teacher.
    """
    if init_from is None:
        return 0
    kind = run.last.head.name()
    for index, stage in enumerate(run.stages):
        if stage.head.name() == kind and not (stage.previous == "teacher" and init_from.kind == kind):
            return index
    return len(run.stages) - 1


def starting_point(config: TrainConfig, given: Head | None, vae: Vae | None) -> tuple[TrainConfig, Head | None]:
    """The settings and the head that a stage starts with; None for random weights.

    ``given`` is the head of the stage before. A head that changes latents starts with the weights of ``vae``, and a
    change of nothing whose inner weights come from the seed; a refiner takes its painter from ``given``, which
    may be a refiner to go on with too. Raises `UsageError` for a head to start from that is missing or of other
    settings.
    """
    if config.previous is not None and given is None:
        raise UsageError(
            f"the stage {config.name} goes on from the head of the stage before; give that head's folder (--init-from, "
            "or init_from in Python), or start the run from its first stage"
        )
    start = None if config.previous == "teacher" else given
    changed = config.head.latent_part
    if changed is not None:
        part = None if start is None else start.network.latent_part
        if part is not None and changed.vae is None:
            config = config.model_copy(update={"head": config.head.with_vae(part.decoder)})
        elif part is None and vae is not None:
            config = config.model_copy(update={"head": config.head.with_vae(vae.decoder)})
            start = _unchanged(config, vae, start)
        elif part is None:
            raise UsageError(
                f"the head {config.head.name()} decodes with the distilled model's own VAE; give it (--pair, or vae in "
                "Python)"
            )
    if start is not None and start.config != config.head:
        raise UsageError(
            f"the head to start from is a {start.kind} of other settings than the run's {config.head.name()}; "
            "give the run the settings in that head's config.json"
        )
    return config, start


def _unchanged(config: TrainConfig, vae: Vae, base: Head | None) -> Head:
    """A head that changes no latents yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = config.head.build()
    network.adopt(vae, None if base is None else base.network)
    return Head(network, config.head)
