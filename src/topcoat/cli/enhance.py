"""`topcoat enhance`: a head on pictures that are already there."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import (
    TOY,
    C2paCertOption,
    C2paKeyOption,
    C2paTsaOption,
    HeadOption,
    IdentityFloorOption,
    IdentityOption,
    NeverWorseOption,
    NoMarkOption,
    RuntimeOption,
    StrengthOption,
    TileOption,
    enhancing_head,
    gate_line,
    head_name,
    need_head,
    open_signer,
)
from topcoat.embedded import EMBEDDED_HEADS, MINI_NAME
from topcoat.errors import UsageError, first_few
from topcoat.runtime import TorchPrecision

if TYPE_CHECKING:
    import numpy as np

    from topcoat.enhance.jobs import Found, Job
    from topcoat.enhance.work import Outcome, Run, Settings
    from topcoat.gates import Gates
    from topcoat.runtime.runner import Runtime

_LOOKED_AT = 8  # pictures whose origin is looked at


class WrittenFormat(str, Enum):
    """What ``--format`` takes."""

    KEEP, PNG, WEBP, JPEG, TIFF, AVIF = "keep", "png", "webp", "jpeg", "tiff", "avif"


@command(
    "enhance",
    computes=True,
    examples=(
        "topcoat enhance portrait.png -o better.png",
        "topcoat enhance distilled/ -o enhanced/ --recursive --head runs/unet --strength 0.8",
        "topcoat enhance poster.tif -o poster-better.tif --head head.onnx --tile 1024",
        "topcoat enhance 'shoot/*.tif' -o web/ --format jpeg --quality 90",
        "topcoat enhance shoot/ -o enhanced/ --faces",
        "topcoat enhance shoot/ -o enhanced/ --mask masks/ --feather 12",
        "topcoat enhance distilled/ -o enhanced/ --identity-floor 0.9 --never-worse",
    ),
)
def enhance(
    out: Output,
    inputs: Annotated[list[str], typer.Argument(help="Pictures, folders or patterns; - is standard input.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A picture file for one picture, else a folder; - is standard output."),
    ],
    head: HeadOption = None,
    strength: StrengthOption = 1.0,
    written: Annotated[
        WrittenFormat, typer.Option("--format", help="Format of the results; keep is that of each picture.")
    ] = WrittenFormat.KEEP,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Of JPEG and AVIF (95 by default) and WebP (lossless by default)."),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Enter subfolders too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again, and replace, what is there.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each picture, then stop.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=64, help="Threads that decode, and as many that encode; 1 to 4 by default.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            metavar="FILE|DIR",
            help="Enhance where this picture is white and leave the rest as it is; of a folder the file with the "
            "picture's name.",
        ),
    ] = None,
    feather: Annotated[
        int | None,
        typer.Option(min=0, metavar="PX", help="Soft edge inside the mask; by default 1 % of the shorter side."),
    ] = None,
    faces: Annotated[
        bool, typer.Option("--faces", help="Enhance the faces and leave the rest as it is; needs topcoat[faces].")
    ] = False,
    runtime: RuntimeOption = "auto",
    precision: Annotated[
        TorchPrecision,
        typer.Option(
            "--precision",
            help="With --runtime torch. bfloat16 and float16 are for GPUs: they take less memory and change pixels by "
            "about 1/255; on a CPU they are mostly slower.",
        ),
    ] = "float32",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="With --runtime torch: compile the head, which takes up to minutes once for each size of picture; for "
            "many pictures of one size.",
        ),
    ] = False,
    tile: TileOption = "auto",
    identity_floor: IdentityFloorOption = None,
    identity: IdentityOption = None,
    never_worse: NeverWorseOption = False,
    no_mark: NoMarkOption = False,
    c2pa_cert: C2paCertOption = None,
    c2pa_key: C2paKeyOption = None,
    c2pa_tsa: C2paTsaOption = None,
) -> None:
    """Enhance pictures with a head, and keep all else that is in their files.

    What is done is not done again. A bad file is named and the others are done (exit code 1). With gates a picture that
    would lose its person, or get worse, gets less of the head or stays as it is.
    """
    from topcoat.enhance.faces import FaceDetector
    from topcoat.enhance.jobs import PIPE, check_output, find, plan
    from topcoat.enhance.masks import with_masks
    from topcoat.enhance.work import Settings, enhance_files, state_of
    from topcoat.runtime.opening import open_runtime

    if output == PIPE and (out.as_json or dry_run):
        raise UsageError(
            "-o - writes the picture to standard output, so --json and --dry-run have no place; give a file"
        )
    if feather is not None and mask is None:
        raise UsageError("--feather softens the edge of a mask; add --mask, or leave it out")
    found = find(inputs, recursive=recursive, output=output.expanduser())
    one_file = len(inputs) == 1 and len(found.pictures) == 1 and not Path(inputs[0]).expanduser().is_dir()
    planned = plan(found, output, one_file=one_file, format_name=written.value)
    planned = planned if mask is None else with_masks(planned, found, mask)
    check_output(planned, make=False)
    signer = open_signer(c2pa_cert, c2pa_key, c2pa_tsa)
    detector = FaceDetector() if faces else None
    opened = open_runtime(
        enhancing_head(head),
        runtime,
        tile_px=tile,
        threads=out.threads or 0,
        precision=precision,
        compiled=compiled,
    )
    if head_name(head) in EMBEDDED_HEADS and any(not _is_of_mini(job.source) for job in planned[:_LOOKED_AT]):
        out.warn(TOY)
    gates = None
    if identity_floor is not None or never_worse:
        from topcoat.gates import gates_for

        gates = gates_for(need_head(head, "mini"), identity_floor, never_worse, identity)
    lower = "" if opened.record.precision == "float32" else f"-{opened.record.precision}"
    settings = Settings(
        head=head_name(head),
        head_digest=f"{opened.record.digest}{lower}",
        strength=strength,
        gates="" if gates is None else f"{identity_floor} {never_worse} {identity or ''}".rstrip(),
        faces=detector,
        feather_px=feather,
        quality=quality,
        mark=not no_mark,
        overwrite=overwrite,
        signer=signer,
    )
    flags: dict[str, None] = {}
    if dry_run:
        outcomes = [state_of(job, settings) for job in planned]
    else:
        check_output(planned, make=True)
        if output.expanduser() not in [job.target for job in planned]:
            out.lock(output.expanduser())
        workers = jobs or max(1, min(4, os.cpu_count() or 1))
        run = _runner(opened, gates, strength, flags)
        outcomes = list(_tracked(out, enhance_files(planned, run, settings, workers), planned))
    _summary(out, found, outcomes, settings, output, list(flags), dry_run=dry_run)


def _is_of_mini(path: Path) -> bool:
    """Whether a picture says that the embedded pair made it."""
    try:
        return path.is_file() and MINI_NAME.encode() in path.read_bytes()
    except OSError:
        return False


def _runner(head: Runtime, gates: Gates | None, strength: float, flags: dict[str, None]) -> Run:
    """The head on images ``(N, H, W, 3)``, uint8 or float32 in [0, 1], as `topcoat.enhance.work` calls it.

    ``flags`` collects why the gates' net should not judge them.
    """

    def run(images: np.ndarray) -> tuple[np.ndarray, Sequence[Any]]:
        given = images.transpose(0, 3, 1, 2)
        if gates is None:
            return head(given, strength).transpose(0, 2, 3, 1), ()
        flags.update(dict.fromkeys(gates.flags(None, given.shape[3], given.shape[2])))
        return gates.enhanced(head, images, strength)

    return run


def _tracked(out: Output, outcomes: Iterable[Outcome], jobs: Sequence[Job]) -> Iterable[Outcome]:
    """The outcomes as they come, with progress in images per second."""
    started, enhanced = time.monotonic(), 0
    with out.progress("enhancing") as report:
        for done, outcome in enumerate(outcomes, start=1):
            enhanced += outcome.status == "enhanced"
            yield outcome
            rate = enhanced / max(time.monotonic() - started, 1e-9)
            report(done, len(jobs), f"{rate:.1f} images/s" if enhanced else "")


def _summary(
    out: Output,
    found: Found,
    outcomes: Sequence[Outcome],
    settings: Settings,
    output: Path,
    flags: Sequence[str],
    *,
    dry_run: bool,
) -> None:
    """Say what was done and name all that was not; ends with exit code 1 if anything was left out."""
    from topcoat.enhance.jobs import PIPE

    by_status: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_status[outcome.status].append(outcome)
    failed = [*by_status["failed"], *by_status["there already"]]
    out.warn(*(outcome.reason for outcome in failed), *(f"left out: {item}" for item in found.left_out))
    if by_status["not begun"]:
        names = first_few(outcome.job.source for outcome in by_status["not begun"])
        out.warn(f"not begun, because results could not be written any more: {names}")
    notes: dict[str, list[Path]] = defaultdict(list)
    for outcome in by_status["enhanced"]:
        for note in outcome.notes:
            notes[note].append(outcome.job.source)
    out.warn(*(f"in the result of {first_few(paths)}: {note}" for note, paths in notes.items()))
    out.warn(*flags[:1])  # one size stands for all
    if found.folders:
        out.warn(f"subfolders that were not entered: {first_few(found.folders)}; add --recursive to enter them")
    say: Callable[[str], None] = (lambda text: None) if output == PIPE else out.line
    if found.other_files:
        say(f"no picture files, by their names: {first_few(found.other_files)}")
    decisions = [outcome.decision for outcome in outcomes if outcome.decision is not None]
    if decisions:
        say(gate_line(decisions))
    count, before = len(by_status["enhanced"]) + len(by_status["to do"]), len(by_status["done before"])
    verb = "would be enhanced" if dry_run else "enhanced"
    done_before = f", {before} were done before" if before else ""
    say(f"{count} of {len(outcomes)} pictures {verb}, in {output}{done_before}")
    out.result(
        {
            "head": settings.head_digest,
            "strength": settings.strength,
            "flags": list(flags),
            **{key: [_entry(each) for each in by_status[status]] for key, status in _KEYS.items()},
            "failed": [{**_entry(each), "error": each.reason} for each in [*failed, *by_status["not begun"]]],
            "left_out": [{"path": str(item.path), "reason": item.reason} for item in found.left_out],
            "folders": [str(path) for path in found.folders],
            "other_files": [str(path) for path in found.other_files],
        }
    )
    if failed or found.left_out or by_status["not begun"] or not outcomes:
        raise typer.Exit(1)


_KEYS = {"enhanced": "enhanced", "done": "done before", "to_do": "to do"}


def _entry(outcome: Outcome) -> dict[str, Any]:
    decision = None if outcome.decision is None else asdict(outcome.decision)
    job = outcome.job
    return {"input": str(job.source), "output": str(job.target), "decision": decision, "notes": list(outcome.notes)}
