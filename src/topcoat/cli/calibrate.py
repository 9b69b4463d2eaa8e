"""`topcoat calibrate`: thresholds of a head's gates, measured on pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import FeaturesOption, IdentityOption, command_line, pair_words
from topcoat.errors import UsageError

_MOST_PAIRS = 2000
_BATCH = 32


@command(
    "calibrate",
    computes=True,
    examples=(
        "topcoat calibrate --data pairs/ --head runs/unet",
        "topcoat calibrate --data flux-pairs/ --head runs/unet --features dinov2 --identity face",
    ),
)
def calibrate(
    out: Output,
    data: Annotated[Path, typer.Option(help="Pairs of the models that the head stands behind.")],
    head: Annotated[Path, typer.Option(help="Head folder; gates.json is written into it.")],
    features: FeaturesOption = "embedded",
    identity: IdentityOption = None,
) -> None:
    """Measure when a head keeps the person and when it makes a portrait worse, for its gates.

    `generate --identity-floor calibrated --never-worse` uses what is written.
    """
    from topcoat.features import domain_flags, feature_net
    from topcoat.gates import calibrate_gates, write_gates
    from topcoat.heads import Head
    from topcoat.pairs.dataset import PairDataset

    opened = Head.from_pretrained(head)
    if not opened.has_strength:
        raise UsageError(
            f"the head in {head} decodes latents and has no distilled image to fall back on; gates need one"
        )
    dataset = PairDataset.open(data).split("train")
    count = min(len(dataset), _MOST_PAIRS)
    batches = out.track("calibrating", dataset.batches(_BATCH, count), -(-count // _BATCH))
    net = feature_net(features, identity, embedded="loss")
    rules = calibrate_gates(batches, net, dataset_digest=dataset.digest, features=features, identity=identity)
    flags = domain_flags(net, dataset.manifest.pair)
    out.warn(*flags)
    path = write_gates(head, rules)
    example = ("studio portrait of an old man, beard", *pair_words(dataset.manifest.pair))
    gates = ("--identity-floor", "calibrated", "--never-worse")
    out.line(
        f"{rules.pairs} pairs: identity floor {rules.identity_floor:.3f} (the 5th percentile of one subject in both",
        f"models); the score puts the baseline above the distilled image in {rules.pairs_told_apart:.0%} of pairs",
        f"Written: {path}",
        f"Next: {command_line('generate', *example, '--head', head, *gates)}",
    )
    out.result({"file": str(path), "flags": flags, **rules.model_dump(mode="json", exclude={"direction"})})
