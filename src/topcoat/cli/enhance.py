"""`topcoat enhance`: a head on pictures that are already there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat import __version__
from topcoat.cli.console import Output, command
from topcoat.cli.options import HeadOption, IdentityFloorOption, NeverWorseOption, StrengthOption, gate_line, need_head
from topcoat.errors import DataError, UsageError

if TYPE_CHECKING:
    from topcoat.gates import GateDecision, Gates
    from topcoat.heads.head import Head


@command(
    "enhance",
    examples=(
        "topcoat enhance portrait.png -o better.png",
        "topcoat enhance distilled/ -o enhanced/ --head runs/unet --strength 0.8",
        "topcoat enhance distilled/ -o enhanced/ --identity-floor 0.9 --never-worse",
    ),
)
def enhance(
    out: Output,
    inputs: Annotated[list[Path], typer.Argument(help="Pictures or folders of pictures, of any size.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A picture file for one picture, else a folder.")],
    head: HeadOption = None,
    strength: StrengthOption = 1.0,
    identity_floor: IdentityFloorOption = None,
    never_worse: NeverWorseOption = False,
) -> None:
    """Enhance pictures with a head; a bad file is listed and the others are done (exit code 1).

    With gates a picture that would lose its person, or get worse, gets less of the head or stays as it is.
    """
    from topcoat.gates import gates_for

    jobs = _jobs(inputs, output)
    opened = need_head(head, "mini")
    if opened.input == "latent":
        raise UsageError(
            f"the head {head} decodes the distilled model's latents, which a picture does not have; give topcoat "
            "generate this head, or enhance with one that takes images"
        )
    gates = gates_for(opened, identity_floor, never_worse)
    done: list[dict[str, Any]] = []
    decisions: list[GateDecision] = []
    failed: list[dict[str, str]] = []
    for source, target in out.track("enhancing", jobs, len(jobs)):
        try:
            decision = _enhance_file(opened, gates, source, target, strength)
            done.append({"input": str(source), "output": str(target), "decision": decision and asdict(decision)})
            decisions += [decision] if decision else []
        except DataError as error:
            failed.append({"input": str(source), "error": str(error)})
    for item in failed:
        out.warn(item["error"])
    if decisions:
        out.line(gate_line(decisions))
    out.line(f"{len(done)} of {len(jobs)} pictures enhanced, in {output}")
    out.result({"head": opened.digest, "strength": strength, "enhanced": done, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _enhance_file(head: Head, gates: Gates | None, source: Path, target: Path, strength: float) -> GateDecision | None:
    from topcoat.images import read_image, write_image

    images = read_image(source)[None]
    enhanced, decision = head(images, strength), None
    text = {"head": head.digest, "strength": f"{strength:g}", "software": f"topcoat {__version__}"}
    if gates is not None:
        gated = gates(images, enhanced, strength)
        enhanced, decision = gated.images, gated.decisions[0]
        text |= {"strength": f"{decision.strength:g}", "gate": decision.kept}
    write_image(target, enhanced[0], text)
    return decision


def _jobs(inputs: list[Path], output: Path) -> list[tuple[Path, Path]]:
    """Each picture with the file that its result goes to, checked before any work."""
    from topcoat.images import FORMATS, list_images

    if len(inputs) == 1 and not inputs[0].is_dir() and output.suffix.lower() in FORMATS:
        jobs = [(inputs[0], output)]
    else:
        if output.suffix.lower() in FORMATS and not output.is_dir():
            raise UsageError(f"{output} is one file, but several pictures were given; give a folder to -o")
        sources = [path for item in inputs for path in (list_images(item) if item.is_dir() else [item])]
        # a type that is read but not written becomes PNG
        names = [each.name if each.suffix.lower() in FORMATS else f"{each.stem}.png" for each in sources]
        jobs = [(source, output / name) for source, name in zip(sources, names, strict=True)]
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() == source.resolve():
            raise UsageError(f"{target} would be written over itself; give another folder or name to -o")
        other = taken.setdefault(target, source)
        if other is not source:
            raise UsageError(f"{other} and {source} would both become {target}; enhance them into different folders")
    return jobs
