"""`topcoat generate`: prompts to enhanced images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat import __version__
from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    NO_HEAD,
    TOY,
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
    say_what_is_read,
)
from topcoat.embedded import MINI_NAME, name_of_model
from topcoat.errors import UsageError
from topcoat.files import check_folder
from topcoat.prompts import Prompt, prompt_from_text

if TYPE_CHECKING:
    from topcoat.enhance.done import DoneFiles
    from topcoat.gates import GateDecision


@command(
    "generate",
    computes=True,
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make again, and replace, what is there.")] = False,
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

    Prompt number i (from 0) gets the seed SEED + i, or that of its file's column "seed". The picture says in its text
    chunks and its XMP how it was made. The same command again makes only what is missing.
    """
    from topcoat.config import load_config
    from topcoat.enhance.done import DoneFiles
    from topcoat.generators.callables import open_generator, open_pair
    from topcoat.generators.presets import model_pair
    from topcoat.images import side_by_side, write_image
    from topcoat.pairs.manifest import spec_identity
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
    seeds = [seed + position if each.seed is None else each.seed for position, each in enumerate(prompts)]
    paths = _output_paths(output.expanduser(), len(prompts))
    if output.expanduser() not in paths:
        out.lock(output.expanduser())
    chosen = model_pair(pair).offloaded(offload)
    sides = chosen if compare_baseline else chosen.model_copy(update={"baseline": chosen.distilled})
    texts = say_what_is_read(out, sides, prompts)
    signer = open_signer(c2pa_cert, c2pa_key, c2pa_tsa)
    opened = open_head(head, chosen.name)
    compare = compare or compare_baseline
    settings = {
        "distilled": spec_identity(chosen.distilled),
        "steps": steps or chosen.distilled.steps,
        "head": opened and opened.digest,
        "strength": strength,
        "gates": [identity_floor, never_worse, identity],
    }
    panels = " | ".join(["distilled", "enhanced", *(["baseline"] if compare_baseline else [])]) if compare else ""
    pictures = [_Picture(*each, settings, panels) for each in zip(paths, prompts, seeds, strict=True)]
    noted = DoneFiles()
    open_pictures = [picture for picture in pictures if overwrite or not picture.is_done(noted)]
    records = {picture.path: picture.record | {"made": False} for picture in pictures}
    facts = {
        "pair": chosen.name,
        "model": name_of_model(chosen.distilled.model) if chosen.name != "mini" else MINI_NAME,
        "steps": str(steps or chosen.distilled.steps),
        "head": opened.digest if opened else "none",
        "strength": f"{strength:g}",
        "software": f"topcoat {__version__}",
    }
    decisions: list[GateDecision] = []
    flags: list[str] = []
    out.on_interrupt = "run the same command again: pictures that are done are not made again"
    if open_pictures:
        distilled, baseline = open_pair(chosen) if compare_baseline else (open_generator(chosen.distilled), None)
        pipe = Pipeline(distilled, opened, identity_floor=identity_floor, never_worse=never_worse, identity=identity)
        spec = chosen.distilled
        flags = [] if pipe.gates is None else pipe.gates.flags(chosen.name, spec.width_px, spec.height_px)
        out.warn(*flags)
        batches = pipe.stream(
            [picture.prompt for picture in open_pictures], [picture.seed for picture in open_pictures],
            steps=steps, strength=strength, batch_size=batch_size, with_distilled=compare,
        )  # fmt: skip
        waiting = iter(open_pictures)
        for batch in out.track("generating", batches, -(-len(open_pictures) // batch_size)):
            columns = {"distilled": batch.distilled, "enhanced": batch.enhanced}
            if baseline is not None:
                columns["baseline"] = baseline.generate(batch.prompts, batch.seeds)
            decisions += batch.decisions
            for index, image in enumerate(batch.enhanced):
                picture = next(waiting)
                text = {**picture.text, **facts, "batch_size": str(len(batch.prompts))}
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
                written = [(picture.path, image, text, picture.job)]
                if picture.comparison is not None:
                    row = side_by_side([images[index] for images in columns.values() if images is not None])
                    written.insert(0, (picture.comparison, row, {**text, "panels": panels}, picture.comparison_job))
                for path, pixels, facts_of_it, job in written:
                    mark = None if no_mark else replace(record, job=job)
                    write_image(path, pixels, facts_of_it, mark, signer)
                    if mark is None:
                        noted.add(path, job)
                records[picture.path] |= {
                    "made": True,
                    **text,
                    "decision": decision and asdict(decision),
                    "batch_seconds": {"distilled": batch.generator_seconds, "head": batch.head_seconds},
                }
    if decisions:
        out.line(gate_line(decisions))
    for record in records.values():
        comparison = f"  ({record['comparison']})" if record["comparison"] else ""
        out.line(
            f"{record['path']}  seed {record['seed']}{comparison}{'' if record['made'] else '  was there already'}"
        )
    if chosen.name == "mini":
        out.line(f"Note: {TOY}")
    out.result({"images": list(records.values()), "flags": flags, "texts": texts})


class _Picture:
    """One picture to make, and the digests by which a second run knows that it and its comparison are done."""

    def __init__(self, path: Path, prompt: Prompt, seed: int, settings: Mapping[str, Any], panels: str) -> None:
        self.path, self.prompt, self.seed = path, prompt, seed
        self.comparison = path.with_name(f"{path.stem}-compare{path.suffix}") if panels else None
        asked = json.dumps([prompt.text, seed, settings], sort_keys=True)
        self.job = hashlib.sha256(asked.encode()).hexdigest()[:16]
        self.comparison_job = f"{self.job} {panels}"

    @property
    def text(self) -> dict[str, str]:
        """What the file says of its subject; the id is that of a prompts file."""
        own_id = {} if self.prompt.id == prompt_from_text(self.prompt.text).id else {"id": self.prompt.id}
        return {**own_id, "prompt": self.prompt.text, "seed": str(self.seed)}

    @property
    def record(self) -> dict[str, Any]:
        """What the command reports of it."""
        return {"path": str(self.path), "comparison": self.comparison and str(self.comparison), **self.text}

    def is_done(self, noted: DoneFiles) -> bool:
        """Whether all of it was made by an earlier run; raises `UsageError` where another picture is in its place."""
        done = self._is_made(self.path, self.job, noted)
        return self._is_made(self.comparison, self.comparison_job, noted) and done if self.comparison else done

    def _is_made(self, path: Path, job: str, noted: DoneFiles) -> bool:
        from topcoat.enhance.done import job_in_file

        if not path.exists():
            return False
        there = job_in_file(path) or noted.job_of(path) or ""
        if there.split(" ")[0] != self.job:  # a comparison with other panels is of the same picture
            raise UsageError(
                f"{path} is there already and is of another prompt, seed or setting; give another -o, or add "
                "--overwrite to replace it"
            )
        return there == job


def _output_paths(output: Path, count: int) -> list[Path]:
    """One file per prompt; fails before the costly work if a file could not be written there."""
    from topcoat.pictures.formats import format_of, written_format

    is_file = format_of(output) is not None
    if is_file and count > 1:
        raise UsageError(f"{output} is one file, but there are {count} prompts; give a folder to -o")
    if output.suffix and not output.is_dir():
        written_format(output)
    paths = [output] if is_file else [output / f"{index:05d}.png" for index in range(count)]
    check_folder(paths[0].parent, make=False)
    return paths
