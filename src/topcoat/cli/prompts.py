"""`topcoat prompts`: balanced portrait prompts."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import say_what_is_read
from topcoat.errors import UsageError
from topcoat.prompts import Style

if TYPE_CHECKING:
    from topcoat.prompts import Prompt


@command(
    "prompts",
    examples=(
        "topcoat prompts --count 5",
        "topcoat prompts --count 10000 --seed 0 -o prompts.parquet",
        "topcoat prompts --style mini --count 2000 -o mini.csv      (for --pair mini)",
        "topcoat prompts --templates mine.toml --vocabulary mine-too.toml -o prompts.jsonl",
        "topcoat prompts --names-file name.basics.tsv.gz --count 1000 -o prompts.parquet",
        "topcoat pairs build pairs/ --pair flux1 --prompts prompts.parquet",
    ),
)
def prompts(
    out: Output,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many; the first ones stay the same for more.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other prompts.")] = 0,
    style: Annotated[
        Style, typer.Option(help="photo: sentences for real models. mini: the words that --pair mini knows.")
    ] = "photo",
    pair: Annotated[
        str | None, typer.Option("--pair", help="Say what the models of this pair would not read to the end.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .parquet, .csv or .jsonl file (id, prompt, split, attributes) or .txt (texts)."
        ),
    ] = None,
    names_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names instead of invented ones: one a line, or IMDb's name.basics.tsv(.gz), which is for "
            "non-commercial use and names real people.",
        ),
    ] = None,
    templates: Annotated[Path | None, typer.Option(metavar="FILE", help="Your sentences (TOML, YAML or JSON).")] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your attributes and words (TOML, YAML, JSON).")
    ] = None,
) -> None:
    """Sample portrait prompts, every attribute balanced; print them, or write them to a file."""
    from topcoat.prompts import sample_prompts
    from topcoat.prompts.files import check_format, prompt_record, write_prompts

    if output is not None:
        check_format(output)
    started = time.perf_counter()
    if style == "mini":
        for flag, given in (("--names-file", names_file), ("--templates", templates), ("--vocabulary", vocabulary)):
            if given is not None:
                raise UsageError(f"{flag} is of the photo style, but --style mini was given; leave one of them out")
        sampled = sample_prompts(count, seed)
    else:
        sampled = _photo(out, count, seed, names_file, templates, vocabulary)
    record: dict[str, Any] = {"count": count, "seed": seed, "style": style}
    if pair is not None:
        from topcoat.generators.presets import model_pair

        record["texts"] = say_what_is_read(out, model_pair(pair), sampled)
    if output is None:
        out.line(*(prompt.text for prompt in sampled))
        out.result({**record, "prompts": [prompt_record(prompt) for prompt in sampled]})
        return
    write_prompts(output, sampled)
    seconds = time.perf_counter() - started
    counts = Counter(prompt.split for prompt in sampled)
    splits = {name: counts[name] for name in ("train", "val", "test")}
    shares = ", ".join(f"{name} {number:,}" for name, number in splits.items())
    out.line(f"{count:,} prompts in {output} ({shares}), {seconds:.1f} s")
    if style == "photo":
        out.line("They are for real models; for the mini pair: topcoat prompts --style mini")
    attributes = list(dict.fromkeys(name for prompt in sampled for name in prompt.attributes))
    out.result({**record, "file": str(output), "splits": splits, "attributes": attributes, "seconds": seconds})


def _photo(
    out: Output, count: int, seed: int, names_file: Path | None, templates: Path | None, vocabulary: Path | None
) -> list[Prompt]:
    from topcoat.prompts.names import read_names
    from topcoat.prompts.photo import sample_photo_prompts
    from topcoat.prompts.templates import read_templates
    from topcoat.prompts.vocabulary import read_vocabulary

    words = read_vocabulary(vocabulary)
    sentences = read_templates(templates, words)
    names = None
    if names_file is not None:
        with out.progress("reading names (bytes)") as progress:
            names = read_names(names_file, count, seed, progress)
        out.warn(*names.notices)
    return sample_photo_prompts(count, seed, vocabulary=words, templates=sentences, names=names)
