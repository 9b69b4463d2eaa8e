"""`topcoat frontier`: quality against cost of every setting, and the cheapest one that is good enough."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import HELD_OUT_FIRST_SEED, BatchSizeOption, DryRunOption, PairOption, need_head
from topcoat.embedded import DEFAULT_HEAD
from topcoat.errors import UsageError

app = typer.Typer()


@command(
    app,
    "frontier",
    examples=(
        "topcoat frontier --pair mini --count 256 --target-gap 0.4",
        "topcoat frontier --heads runs/unet --heads runs/decoder --strengths 0.5,1 -o out/frontier",
        "topcoat generate 'studio portrait of an old man' --config out/frontier/pipeline.yaml",
    ),
)
def frontier(
    out: Output,
    pair: PairOption = "mini",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Pairs whose test split gives prompts and seeds; else held-out prompts."),
    ] = None,
    heads: Annotated[
        list[str] | None, typer.Option("--heads", help="Head folders or hub ids; give it once for each.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=2, help="Subjects; 1,000 or more to quote it.")] = 256,
    distilled_steps: Annotated[str, typer.Option("--distilled-steps", help="Comma-separated.")] = "1,2,4",
    strengths: Annotated[str, typer.Option("--strengths", help="Comma-separated, above 0.")] = "0.5,0.75,1",
    baseline_steps: Annotated[str, typer.Option("--baseline-steps", help="Comma-separated.")] = "4,8,14,28",
    target_gap: Annotated[
        float | None, typer.Option("--target-gap", help="Choose the cheapest setting closing this share (0.9 = 90 %).")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", help="Choose the best setting of at most this many TFLOP per image.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("out/frontier"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the held-out prompts, 0 or more.")] = 1,
    batch_size: BatchSizeOption = 8,
    dry_run: DryRunOption = False,
) -> None:
    """Try steps x head x strength on held-out subjects, draw quality against cost, and choose.

    Painted images are kept in OUT/cache: the same command goes on, and a new head costs minutes, not hours.
    """
    from topcoat.frontier.settings import settings_of
    from topcoat.generators.presets import model_pair

    if target_gap is not None or max_cost is not None:
        from topcoat.frontier.pareto import choose

        choose((), target_gap=target_gap, max_tflop=max_cost)  # a wish that cannot be met fails before the work
    chosen_pair = model_pair(pair)
    folders = heads or ([DEFAULT_HEAD] if chosen_pair.name == "mini" else [])
    if not folders:
        raise UsageError(f"no head is shipped for the pair {chosen_pair.name}; give --heads DIR")
    sources = dict(zip(_names(folders), folders, strict=True))
    opened = {name: need_head(folder, chosen_pair.name) for name, folder in sources.items()}
    decoders = [name for name, head in opened.items() if head.input == "latent"]
    settings = settings_of(
        _whole_numbers(distilled_steps, "--distilled-steps"),
        [name for name in opened if name not in decoders],
        _numbers(strengths, "--strengths"),
        _whole_numbers(baseline_steps, "--baseline-steps"),
        decoders,
    )
    prompts, seeds = _subjects(data, count, seed, chosen_pair.name)
    out.line(f"{len(settings)} settings on {len(prompts)} subjects of the pair {chosen_pair.name}")
    if dry_run:
        for setting in settings:
            out.line(f"  {setting.label}")
        out.line("Nothing was painted; leave --dry-run out to start")
        out.result({"dry_run": True, "settings": [setting.label for setting in settings], "n": len(prompts)})
        return

    from topcoat.frontier import choose, save_choice, sweep
    from topcoat.frontier.report import headline, table_rows, write_frontier

    out.on_interrupt = f"run the same command again: painted images are kept in {output / 'cache'}"
    with out.progress("frontier") as progress:
        found = sweep(
            chosen_pair,
            opened,
            settings,
            prompts,
            seeds,
            cache=output / "cache",
            batch_size=batch_size,
            on_progress=progress,
        )
    wanted = _wanted(target_gap, max_cost)
    # The baseline is what is to be replaced, so only settings of the distilled model are for choosing.
    ours = [point for point in found.points if point.setting.model == "distilled"]
    choice = choose(ours, target_gap=target_gap, max_tflop=max_cost) if wanted else None
    write_frontier(output, found, choice, wanted)
    out.table(
        f"{found.pair}, N = {found.n}; TFLOP computed, distances and seconds measured, savings against "
        f"{found.baseline.setting.label}",
        (
            "setting",
            "gap closed",
            "95 % interval",
            "Fréchet",
            "identity p05",
            "TFLOP",
            "s",
            "TFLOP saved",
            "time saved",
        ),
        table_rows(found),
    )
    out.line(headline(found, choice, wanted))
    if choice is not None:
        config = output / "pipeline.yaml"
        save_choice(config, found, choice, pair, sources)
        out.line(f"Chosen setting: {config} (topcoat generate PROMPT --config {config})")
    out.line(f"Report: {output / 'frontier.html'}")
    out.result(found.as_dict() | {"wanted": wanted, "chosen": None if choice is None else choice.setting.label})
    if wanted and choice is None:
        raise typer.Exit(1)


def _wanted(target_gap: float | None, max_cost: float | None) -> str:
    parts = [] if target_gap is None else [f"{target_gap:.0%} of the gap closed"]
    parts += [] if max_cost is None else [f"at most {max_cost:g} TFLOP per image"]
    return " with ".join(parts)


def _subjects(data: Path | None, count: int, seed: int, pair_name: str) -> tuple[list[str], list[int]]:
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    if data is None:
        from topcoat.prompts import held_out_prompts, style_of_pair

        held_out = held_out_prompts(count, seed, style_of_pair(pair_name))
        return [prompt.text for prompt in held_out], list(range(HELD_OUT_FIRST_SEED, HELD_OUT_FIRST_SEED + count))
    from topcoat.pairs.dataset import PairDataset

    records = PairDataset.open(data).split("test").records[:count]
    if len(records) < 2:
        raise UsageError(f"the test split of {data} holds {len(records)} pairs; build more, or leave --data out")
    return [record.prompt for record in records], [record.seed for record in records]


def _names(folders: list[str]) -> list[str]:
    names = [Path(folder).name or folder for folder in folders]
    return names if len(set(names)) == len(names) else folders


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"{option} {text!r} is no list of numbers; write for example 1,2,4") from None


def _whole_numbers(text: str, option: str) -> list[int]:
    found = _numbers(text, option)
    if any(number != int(number) for number in found):
        raise UsageError(f"{option} {text!r} must be whole numbers; write for example 1,2,4")
    return [int(number) for number in found]
