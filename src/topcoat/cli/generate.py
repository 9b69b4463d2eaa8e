"""`topcoat generate`: prompts to enhanced images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat import __version__
from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    NO_HEAD,
    BatchSizeOption,
    HeadOption,
    IdentityFloorOption,
    NeverWorseOption,
    PairOption,
    PromptColumnOption,
    PromptsFileOption,
    SeedOption,
    StrengthOption,
    gate_line,
    identity_floor_of,
    open_head,
    read_prompts_file,
)
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from topcoat.gates import GateDecision
    from topcoat.prompts import Prompt

app = typer.Typer()

_GAP_PX = 4


@command(
    app,
    "generate",
    examples=(
        "topcoat generate 'studio portrait of an old man, beard' --seed 7 -o portrait.png",
        "topcoat generate 'studio portrait of a young woman' -o portrait.png --compare --compare-baseline",
        "topcoat generate --prompts prompts.txt --seed 100 -o portraits/",
    ),
)
def generate(
    out: Output,
    prompt: Annotated[list[str] | None, typer.Argument(help="One or more prompts, each in quotes.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A picture file; a folder for several prompts.")
    ] = Path("portrait.png"),
    seed: SeedOption = 0,
    prompts_file: PromptsFileOption = None,
    prompt_column: PromptColumnOption = None,
    pair: PairOption = "mini",
    head: HeadOption = None,
    strength: StrengthOption = 1.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the distilled model; its own by default.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Also write distilled | enhanced side by side.")] = False,
    compare_baseline: Annotated[
        bool, typer.Option("--compare-baseline", help="Also put the (slow) baseline into that picture.")
    ] = False,
    identity_floor: IdentityFloorOption = None,
    never_worse: NeverWorseOption = False,
    batch_size: BatchSizeOption = 8,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Pair, steps, head and strength from a file that `topcoat frontier` wrote."),
    ] = None,
) -> None:
    """Make portraits: the distilled model, then the head.

    Prompt number i (from 0) gets the seed SEED + i. The PNG says in its text chunks how it was made.
    """
    from topcoat.generators.diffusers import load_generator
    from topcoat.generators.loading import ComponentCache
    from topcoat.generators.presets import model_pair
    from topcoat.images import write_image
    from topcoat.pipeline import Pipeline

    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    if config is not None:
        pair, steps, head, strength = _settings_from(config, pair, steps, head, strength)
    prompts = _all_prompts(prompt or [], prompts_file, prompt_column)
    paths = _output_paths(output, len(prompts))
    chosen = model_pair(pair)
    opened = open_head(head, chosen.name)
    cache = ComponentCache()
    floor = identity_floor_of(identity_floor)
    pipe = Pipeline(load_generator(chosen.distilled, cache), opened, identity_floor=floor, never_worse=never_worse)
    baseline = load_generator(chosen.baseline, cache) if compare_baseline else None
    texts, seeds = [item.text for item in prompts], [seed + index for index in range(len(prompts))]
    facts = {
        "pair": chosen.name,
        "model": _model_name(chosen.distilled.model) if chosen.name != "mini" else "embedded mini pair",
        "steps": str(steps or chosen.distilled.steps),
        "head": opened.digest if opened else "none",
        "strength": f"{strength:g}",
        "software": f"topcoat {__version__}",
    }
    made: list[_Made] = []
    with out.progress("generating") as progress:
        for batch in pipe.stream(texts, seeds, steps=steps, strength=strength, batch_size=batch_size):
            first = len(made)
            for index, image in enumerate(batch.enhanced):
                path = paths[first + index]
                text = {"prompt": texts[first + index], "seed": str(seeds[first + index]), **facts}
                decision = batch.decisions[index] if batch.decisions else None
                if decision is not None:
                    text |= {"strength": f"{decision.strength:g}", "gate": decision.kept}
                write_image(path, image, text)
                made.append(_Made(path, text, batch.generator_seconds, batch.head_seconds, decision))
            if compare or compare_baseline:
                panels = ["distilled", "enhanced"]
                sets = [batch.distilled, batch.enhanced]
                if baseline is not None:
                    panels.append("baseline")
                    sets.append(baseline.generate(batch.prompts, batch.seeds))
                for index in range(len(batch.enhanced)):
                    item = made[first + index]
                    item.comparison = item.path.with_name(f"{item.path.stem}-compare{item.path.suffix}")
                    text = {**item.text, "panels": " | ".join(panels)}
                    write_image(item.comparison, _side_by_side([images[index] for images in sets]), text)
            progress(len(made), len(texts))
    if made and made[0].decision is not None:
        out.line(gate_line([item.decision for item in made if item.decision is not None]))
    for item in made:
        out.line(f"{item.path}  seed {item.text['seed']}" + (f"  ({item.comparison})" if item.comparison else ""))
    out.result({"images": [item.as_dict() for item in made]})


def _settings_from(
    config: Path, pair: str, steps: int | None, head: str | None, strength: float
) -> tuple[str, int, str, float]:
    """The settings of the file; one given on the command line as well is refused, as it is not clear which is meant."""
    from topcoat.config import load_config
    from topcoat.frontier import PipelineConfig

    if (pair, steps, head, strength) != ("mini", None, None, 1.0):
        raise UsageError(
            f"{config} says pair, steps, head and strength; leave these options out, or leave --config out"
        )
    chosen = load_config(config, PipelineConfig)
    return chosen.pair, chosen.steps, chosen.head or NO_HEAD, chosen.strength


@dataclass
class _Made:
    path: Path
    text: dict[str, str]
    generator_seconds: float
    head_seconds: float
    decision: GateDecision | None
    comparison: Path | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "path": str(self.path),
            "comparison": None if self.comparison is None else str(self.comparison),
            **self.text,
            "decision": None if self.decision is None else asdict(self.decision),
            "batch_seconds": {"distilled": self.generator_seconds, "head": self.head_seconds},
        }


def _all_prompts(texts: Sequence[str], file: Path | None, column: str | None) -> list[Prompt]:
    from topcoat.prompts import prompt_from_text

    prompts = [prompt_from_text(text) for text in texts] + (read_prompts_file(file, column) if file else [])
    if not prompts:
        raise UsageError("no prompt was given; write one in quotes, or name a file with --prompts")
    return prompts


def _output_paths(output: Path, count: int) -> list[Path]:
    """One file per prompt; fails before the costly work if a file could not be written there."""
    from topcoat.images import FORMATS

    is_file = output.suffix.lower() in FORMATS
    if count == 1 and is_file:
        return [output]
    if is_file:
        raise UsageError(f"{output} is one file, but there are {count} prompts; give a folder to -o")
    if output.suffix and not output.is_dir():
        raise UsageError(f"{output} has no picture type that is written here; use one of: {', '.join(FORMATS)}")
    return [output / f"{index:05d}.png" for index in range(count)]


def _model_name(model: str) -> str:
    """A hub id as it is, a folder by its name: an image should not tell where its maker keeps files."""
    return Path(model).name if Path(model).is_dir() else model


def _side_by_side(images: Sequence[Tensor]) -> Tensor:
    """``(3, H, W)`` images in one row with a white gap."""
    import torch

    gap = torch.ones(3, images[0].shape[1], _GAP_PX)
    parts = [part for image in images for part in (image.cpu(), gap)][:-1]
    return torch.cat(parts, dim=2)
