"""`topcoat generate`: prompts to enhanced images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat import __version__
from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    NO_HEAD,
    BatchSizeOption,
    C2paCertOption,
    C2paKeyOption,
    C2paTsaOption,
    HeadOption,
    IdentityFloorOption,
    IdentityOption,
    NeverWorseOption,
    NoMarkOption,
    OffloadOption,
    PairOption,
    PromptColumnOption,
    PromptsFileOption,
    SeedOption,
    StrengthOption,
    gate_line,
    head_name,
    open_head,
    open_signer,
)
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.gates import GateDecision


@command(
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
    identity: IdentityOption = None,
    never_worse: NeverWorseOption = False,
    batch_size: BatchSizeOption = 8,
    offload: OffloadOption = None,
    no_mark: NoMarkOption = False,
    c2pa_cert: C2paCertOption = None,
    c2pa_key: C2paKeyOption = None,
    c2pa_tsa: C2paTsaOption = None,
    config: Annotated[
        Path | None, typer.Option(help="Pair, steps, head and strength from a file that `topcoat frontier` wrote.")
    ] = None,
) -> None:
    """Make portraits: the distilled model, then the head.

    Prompt number i (from 0) gets the seed SEED + i. The picture says in its text chunks and its XMP how it was made.
    """
    from topcoat.config import load_config
    from topcoat.generators.callables import open_generator, open_pair
    from topcoat.generators.presets import model_pair
    from topcoat.images import side_by_side, write_image
    from topcoat.pictures.provenance import Record
    from topcoat.pipeline import Pipeline
    from topcoat.prompts import as_prompts, read_prompts

    if config is not None:
        from topcoat.benchmark.frontier import PipelineConfig

        if (pair, steps, head, strength) != ("mini", None, None, 1.0):
            raise UsageError(
                f"{config} says pair, steps, head and strength; leave these options out, or leave --config out"
            )
        settings = load_config(config, PipelineConfig)
        pair, steps, head, strength = settings.pair, settings.steps, settings.head or NO_HEAD, settings.strength
    prompts = as_prompts(prompt or []) + (read_prompts(prompts_file, prompt_column) if prompts_file else [])
    if not prompts:
        raise UsageError("no prompt was given; write one in quotes, or name a file with --prompts")
    paths = _output_paths(output, len(prompts))
    chosen = model_pair(pair).offloaded(offload)
    signer = open_signer(c2pa_cert, c2pa_key, c2pa_tsa)
    opened = open_head(head, chosen.name)
    distilled, baseline = open_pair(chosen) if compare_baseline else (open_generator(chosen.distilled), None)
    pipe = Pipeline(distilled, opened, identity_floor=identity_floor, never_worse=never_worse, identity=identity)
    spec = chosen.distilled
    note = None if pipe.gates is None else pipe.gates.note(chosen.name, spec.width_px, spec.height_px)
    if note is not None:
        out.warn(note)
    compare = compare or compare_baseline
    facts = {
        "pair": chosen.name,
        "model": _model_name(chosen.distilled.model) if chosen.name != "mini" else "embedded mini pair",
        "steps": str(steps or chosen.distilled.steps),
        "head": opened.digest if opened else "none",
        "strength": f"{strength:g}",
        "software": f"topcoat {__version__}",
    }
    records: list[dict[str, Any]] = []
    decisions: list[GateDecision] = []
    with out.progress("generating") as progress:
        batches = pipe.stream(
            prompts, range(seed, seed + len(prompts)),
            steps=steps, strength=strength, batch_size=batch_size, with_distilled=compare,
        )  # fmt: skip
        for batch in batches:
            panels = {"distilled": batch.distilled, "enhanced": batch.enhanced} if compare else {}
            if baseline is not None:
                panels["baseline"] = baseline.generate(batch.prompts, batch.seeds)
            decisions += batch.decisions
            for index, image in enumerate(batch.enhanced):
                path, comparison = paths[len(records)], None
                text = {"prompt": batch.prompts[index], "seed": str(batch.seeds[index]), **facts}
                decision = batch.decisions[index] if batch.decisions else None
                if decision is not None:
                    text |= {"strength": f"{decision.strength:g}", "gate": decision.kept}
                record = Record(
                    "generate",
                    generator=facts["model"],
                    head=head_name(head) if opened else None,
                    head_digest=opened.digest if opened else None,
                    strength=text["strength"] if opened else None,
                    gate=text.get("gate"),
                )
                mark = None if no_mark else record
                write_image(path, image, text, mark, signer)
                if compare:
                    comparison = path.with_name(f"{path.stem}-compare{path.suffix}")
                    row = side_by_side([images[index] for images in panels.values() if images is not None])
                    write_image(comparison, row, {**text, "panels": " | ".join(panels)}, mark, signer)
                records.append(
                    {
                        "path": str(path),
                        "comparison": comparison and str(comparison),
                        **text,
                        "decision": decision and asdict(decision),
                        "batch_seconds": {"distilled": batch.generator_seconds, "head": batch.head_seconds},
                    }
                )
            progress(len(records), len(prompts))
    if decisions:
        out.line(gate_line(decisions))
    for record in records:
        comparison = f"  ({record['comparison']})" if record["comparison"] else ""
        out.line(f"{record['path']}  seed {record['seed']}{comparison}")
    out.result({"images": records, "flags": [note] if note else []})


def _output_paths(output: Path, count: int) -> list[Path]:
    """One file per prompt; fails before the costly work if a file could not be written there."""
    from topcoat.images import written_suffixes
    from topcoat.pictures import format_of

    is_file = format_of(output) is not None
    if count == 1 and is_file:
        return [output]
    if is_file:
        raise UsageError(f"{output} is one file, but there are {count} prompts; give a folder to -o")
    if output.suffix and not output.is_dir():
        raise UsageError(f"{output} has no picture type that is written here; use one of: {written_suffixes()}")
    return [output / f"{index:05d}.png" for index in range(count)]


def _model_name(model: str) -> str:
    """A hub id as it is, a folder by its name: an image should not tell where its maker keeps files."""
    return Path(model).name if Path(model).is_dir() else model
