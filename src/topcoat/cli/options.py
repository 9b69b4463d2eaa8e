"""The options that several commands share, and the objects that they stand for."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from topcoat.embedded import DEFAULT_HEAD, EMBEDDED_HEADS, name_of_head
from topcoat.errors import UsageError
from topcoat.runtime import RuntimeName

if TYPE_CHECKING:
    from topcoat.cli.console import Output
    from topcoat.cost.pricing import Bill
    from topcoat.gates import GateDecision
    from topcoat.generators.base import ModelPair
    from topcoat.heads.head import Head
    from topcoat.pairs.dataset import PairDataset
    from topcoat.pictures.signing import Signer
    from topcoat.prompts import Prompt


def names(text: str) -> list[str]:
    """``a,b`` as ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def number_list(text: str | Sequence[float]) -> list[float]:
    """``0.5,1`` as ``[0.5, 1.0]``: the parser of an option that takes comma-separated numbers."""
    if not isinstance(text, str):  # a default
        return list(text)
    try:
        return [float(part) for part in names(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers; write it like 1,2,4") from None


def step_list(text: str | Sequence[int]) -> list[int]:
    """``1,2,4`` as ``[1, 2, 4]``: the parser of an option that takes comma-separated step counts."""
    counts = number_list(text)
    if any(count != int(count) or count < 1 for count in counts):
        raise typer.BadParameter(f"{text!r} has a count that is not a whole number from 1 on; write it like 1,2,4")
    return [int(count) for count in counts]


def identity_floor(text: str) -> float | str:
    """A number, or ``calibrated``: the parser of ``--identity-floor``."""
    try:
        return text if text == "calibrated" else float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no cosine; give a number such as 0.9, or calibrated") from None


def tile_side(text: str | int | None) -> int | None:
    """A side in px, or ``auto``: the parser of ``--tile``."""
    if text is None or isinstance(text, int) or text == "auto":
        return None if text == "auto" else text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no side in px; give a whole number such as 1024, or auto") from None


LARGE_PX = 512
"""From this side on the run for large pictures is proposed."""
NO_HEAD = "none"
PairOption = Annotated[
    str,
    typer.Option("--pair", help="Model pair: mini, flux1, another of topcoat pairs specs, or a spec file (YAML)."),
]
OffloadOption = Annotated[
    Literal["none", "model", "group", "sequential"] | None,  # `Offload`, whose module takes long to import
    typer.Option(
        help="Networks wait in main memory: model (one at a time on the device), group (its layers in turn, "
        "read ahead), sequential (one layer at a time) or none; by default what the spec says."
    ),
]
HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head",
        help="Head folder or hub id (owner/name, or owner/name@revision); by default the mini pair's embedded one, "
        "which changes images; embedded-refiner sends them through the VAE as well, embedded-decoder decodes latents.",
        metavar="DIR",
    ),
]
StrengthOption = Annotated[
    float, typer.Option("--strength", min=0.0, max=2.0, help="0 leaves the image as it is, 1 is the trained amount.")
]
RuntimeOption = Annotated[
    RuntimeName,
    typer.Option(
        "--runtime",
        help="What runs the head; auto is ONNX Runtime for a head that has an ONNX file (the embedded one, and what "
        "topcoat export wrote), else torch.",
    ),
]
TileOption = Annotated[
    Any,  # as for --identity-floor
    typer.Option(
        "--tile",
        parser=tile_side,
        metavar="PX",
        help="Side of the tiles in which larger pictures are done, with the result of the whole; auto tiles above "
        "2048 x 2048 px.",
    ),
]
IdentityFloorOption = Annotated[
    Any,  # typer knows no unions: it is what `gates_for` takes
    typer.Option(
        "--identity-floor",
        parser=identity_floor,
        metavar="COSINE",
        help="Lower the strength per image until the person stays the same: a cosine such as 0.9, or calibrated.",
    ),
]
NeverWorseOption = Annotated[
    bool, typer.Option("--never-worse", help="Keep the distilled image where the head makes it worse.")
]
FeaturesOption = Annotated[
    str,
    typer.Option(
        "--features",
        metavar="NET",
        help="Net that judges images: embedded (for the mini pair), dinov2, clip, inception, face, dinov2:FOLDER for "
        "weights of your own, a folder or a hub id.",
    ),
]
IdentityOption = Annotated[
    str | None,
    typer.Option(
        "--identity",
        metavar="NET",
        help="Net that says whether two images show one person, named like those of --features; face is a face "
        "recognition net. By default the net of --features, in gates the one that they were calibrated with.",
    ),
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time; more need more memory.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same image.")]
HeldOutSeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the held-out prompts.")]
PromptsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        "--prompts-file",
        metavar="FILE",
        help="Your prompts, or what `topcoat prompts` wrote: .txt (one a line), .csv, .jsonl or .parquet.",
    ),
]
PromptColumnOption = Annotated[
    str | None,
    typer.Option("--prompt-column", help="Column of the texts in --prompts; by default prompt, text or caption."),
]
BaselineStepsOption = Annotated[
    Sequence[int],
    typer.Option("--baseline-steps", parser=step_list, metavar="N,N", help="Step counts of the baseline, with commas."),
]
DistilledStepsOption = Annotated[
    Sequence[int],
    typer.Option(
        "--distilled-steps",
        parser=step_list,
        metavar="N,N",
        help="Step counts of the distilled model, with commas; none: its own.",
    ),
]
PricesOption = Annotated[
    Path | None, typer.Option("--prices", help="Price table of your own (TOML, YAML or JSON); one is embedded.")
]
UsdOption = Annotated[float | None, typer.Option("--usd-per-hour", help="Price of one GPU for an hour, in USD.")]
UtilisationOption = Annotated[
    float | None,
    typer.Option(help="Share of the GPU's dense bf16 peak, for computed seconds; 0.4 by default, an assumption."),
]
ImageFormatOption = Annotated[
    str, typer.Option("--image-format", metavar="png|webp", help="Kind of image files; both are lossless.")
]
NoMarkOption = Annotated[
    bool,
    typer.Option("--no-mark", help="Write no marks of AI into the picture; those that it has are kept all the same."),
]
C2paCertOption = Annotated[
    Path | None,
    typer.Option("--c2pa-cert", help="Sign a C2PA manifest with this certificate chain (PEM); needs topcoat[c2pa]."),
]
C2paKeyOption = Annotated[Path | None, typer.Option("--c2pa-key", help="Private key (PEM) of --c2pa-cert.")]
C2paTsaOption = Annotated[
    str | None, typer.Option("--c2pa-tsa", metavar="URL", help="Time stamp authority to ask for each signature.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it costs, then stop.")]


def open_head(head: str | None, pair_name: str) -> Head | None:
    """The head that ``--head`` names, where the embedded ones are for the mini pair alone; None for ``none``.

    Raises `UsageError` where no head is named and none is shipped for the pair.
    """
    return None if head == NO_HEAD else need_head(head, pair_name)


def need_head(head: str | None, pair_name: str) -> Head:
    """`open_head` for a command that is about the head; raises `UsageError` for ``--head none``."""
    from topcoat.heads.head import Head

    name = enhancing_head(head)
    if name in EMBEDDED_HEADS and pair_name != "mini":
        raise UsageError(
            f"no head is shipped for the pair {pair_name}; give --head DIR (see topcoat train --help), "
            f"or --head {NO_HEAD} for the distilled images alone"
        )
    return Head.load(name)


def head_name(head: str | None) -> str:
    """What to call the head that ``--head`` names in a file, see `name_of_head`."""
    return name_of_head(DEFAULT_HEAD if head is None else head)


def open_signer(certificates: Path | None, key: Path | None, time_authority: str | None) -> Signer | None:
    """What signs C2PA manifests, None where no certificate is given; raises `UsageError` for half of what it needs."""
    if certificates is None and key is None and time_authority is None:
        return None
    if certificates is None or key is None:
        raise UsageError("a C2PA manifest needs --c2pa-cert and --c2pa-key; give both, or neither")
    from topcoat.pictures.signing import Signer

    return Signer(certificates, key, time_authority)


def enhancing_head(head: str | None) -> str:
    """The name of the head that ``--head`` names to change pictures; raises `UsageError` for ``none``."""
    if head == NO_HEAD:
        raise UsageError(f"--head {NO_HEAD} leaves nothing to do here; give a head folder, or leave --head out")
    return DEFAULT_HEAD if head is None else head


def gate_line(decisions: Sequence[GateDecision]) -> str:
    """What gates did with some images, in a line for a person."""
    counts = Counter(decision.kept for decision in decisions)
    return "gates: " + ", ".join(f"{counts[kept]} {kept}" for kept in ("enhanced", "weakened", "distilled"))


SAMPLED = 200
"""Prompts that a dataset has where neither a file nor a count is given."""


def choose_prompts(
    out: Output, pair_name: str, path: Path | None, column: str | None, count: int | None, seed: int
) -> list[Prompt]:
    """The first prompts of a file where one is named, else sampled ones in the style that the model pair understands.

    Without a ``count`` they are all of the file, or `SAMPLED` ones.
    """
    from topcoat.prompts import read_prompts, sample_style, style_of_pair

    style = style_of_pair(pair_name)
    if path is None:
        if column is not None:
            raise UsageError(f"--prompt-column {column} names a column, but no file is given; add --prompts FILE")
        return sample_style(style, SAMPLED if count is None else count, seed)
    prompts = read_prompts(path.expanduser(), column)
    if count is not None and count > len(prompts):
        out.warn(f"{path} holds {len(prompts)} prompts, and --count asks for {count}; all {len(prompts)} are used")
    prompts = prompts[:count]
    if style == "mini" and any("presentation" in prompt.attributes for prompt in prompts):
        out.warn(
            f"{path} holds prompts for real models, of which the mini pair understands little; it was trained on those "
            "of topcoat prompts --style mini"
        )
    return prompts


def say_what_is_read(out: Output, pair: ModelPair, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Warn of prompts that a model of the pair cuts or knows no word of; returns all of them for JSON."""
    from topcoat.generators.tokens import read_by

    reading = read_by(pair, prompts)
    out.warn(*reading.sentences())
    return reading.as_dict()


def held_out_subjects(pair_name: str, count: int, seed: int) -> tuple[list[Prompt], range]:
    """Held-out prompts in the style that the model pair understands, and their noise seeds."""
    from topcoat.prompts import held_out_prompts, style_of_pair
    from topcoat.seeds import noise_seeds

    return held_out_prompts(count, seed, style_of_pair(pair_name)), noise_seeds("held-out", count)


def show_bill(out: Output, title: str, bill: Bill) -> dict[str, Any]:
    """Show figures with their kinds and sources; returns them as plain values for JSON."""
    rows = {key: figure.as_dict() for key, figure in bill.items()}
    out.records(title, {"what": "{label}", "how much": "{text}", "kind": "{kind}"}, list(rows.values()))
    out.line(*(f"{figure.label}, {figure.kind}: {figure.source}" for figure in bill.values() if figure.source))
    return rows


def licence_lines(pair: ModelPair) -> list[str]:
    """The licences to show before images of both generators go into a dataset."""
    lines = []
    for role, spec in pair.sides.items():
        note = f" - {spec.licence.note}" if spec.licence.note else ""
        lines.append(f"{role}: {spec.name}, licence {spec.licence.name} ({spec.licence.url}){note}")
    return lines


def free_folder(folder: Path) -> Path:
    """``folder``, or the first of ``folder-2``, ``folder-3`` and so on that does not exist."""
    folders = (folder, *(folder.with_name(f"{folder.name}-{number}") for number in range(2, 1000)))
    return next((path for path in folders if not path.exists()), folder)


def command_line(*words: object) -> str:
    """A command as it is typed, with quotes where a word needs them."""
    return shlex.join(["topcoat", *map(str, words)])


def pair_words(pair_name: str) -> list[str]:
    """The option that names a dataset's model pair; nothing for the mini pair, which is the default."""
    from topcoat.generators.presets import PRESETS

    if pair_name == "mini":
        return []
    return ["--pair", pair_name if pair_name in PRESETS else "FILE"]


def next_training(dataset: PairDataset, folder: Path) -> str:
    """How to go on from pairs: the training that they allow, or how many more it takes."""
    from topcoat.training.runs import run_config

    side = min(settings[name] for settings in dataset.manifest.sides.values() for name in ("width_px", "height_px"))
    run = "real-unet" if side >= LARGE_PX else "unet"
    stages = run_config(run).stages
    count, needed = len(dataset.split("train")), max(stage.batch_size for stage in stages)
    if count < needed:
        return f"A training takes {needed} training pairs or more, and these are {count}; build more: a larger --count"
    cropped = [stage for stage in stages if stage.crop_px is not None and stage.crop_px > side]
    smaller = [f"--set={stage.name}.crop_px={side - side % stage.head.size_multiple}" for stage in cropped]
    return f"Next: {command_line('train', run, '--data', folder, '-o', free_folder(Path('runs') / run), *smaller)}"


TOY = (
    "the embedded pair and its heads are a toy to try topcoat with: 128 px, made of rendered portraits; for pictures "
    "of your own model build pairs with it and train a head: topcoat pairs build pairs/ --pair NAME --count 2000, then "
    "topcoat train unet --data pairs/ -o runs/unet"
)
"""Said once where the embedded pair or head is used on something real."""
