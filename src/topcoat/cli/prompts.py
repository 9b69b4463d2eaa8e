"""`topcoat prompts`: balanced portrait prompts."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topcoat.cli.console import Output, command
from topcoat.errors import UsageError

if TYPE_CHECKING:
    from topcoat.prompts import Prompt, Style

app = typer.Typer()

_MINI_HINT = "topcoat prompts --style mini"


@command(
    app,
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
    count: Annotated[int, typer.Option("--count", "-n", help="How many; the first ones stay the same for more.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="0 or more; another seed gives other prompts.")] = 0,
    style: Annotated[
        str, typer.Option("--style", help="photo: sentences for real models. mini: the words that --pair mini knows.")
    ] = "photo",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .parquet, .csv or .jsonl file (id, prompt, split, attributes) or .txt (texts)."
        ),
    ] = None,
    names_file: Annotated[
        Path | None,
        typer.Option(
            "--names-file",
            metavar="FILE",
            help="Names instead of invented ones: one a line, or IMDb's name.basics.tsv(.gz), which is for "
            "non-commercial use and names real people.",
        ),
    ] = None,
    templates: Annotated[
        Path | None, typer.Option("--templates", metavar="FILE", help="Your sentences (TOML, YAML or JSON).")
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", metavar="FILE", help="Your attributes and words (TOML, YAML, JSON).")
    ] = None,
) -> None:
    """Sample portrait prompts, every attribute balanced; print them, or write them to a file."""
    from topcoat.prompts.files import check_format, prompt_record, write_prompts

    if output is not None:
        check_format(output)
    chosen = _style(style)
    started = time.perf_counter()
    if chosen == "mini":
        for flag, given in (("--names-file", names_file), ("--templates", templates), ("--vocabulary", vocabulary)):
            if given is not None:
                raise UsageError(f"{flag} is of the photo style, but --style mini was given; leave one of them out")
        from topcoat.prompts import sample_prompts

        sampled = sample_prompts(count, seed)
    else:
        sampled = _photo(out, count, seed, names_file, templates, vocabulary)
    if output is None:
        for prompt in sampled:
            out.line(prompt.text)
        out.result(
            {"count": count, "seed": seed, "style": chosen, "prompts": [prompt_record(prompt) for prompt in sampled]}
        )
        return
    write_prompts(output, sampled)
    seconds = time.perf_counter() - started
    splits = Counter(prompt.split for prompt in sampled)
    shares = ", ".join(f"{name} {splits[name]:,}" for name in ("train", "val", "test"))
    out.line(f"{count:,} prompts in {output} ({shares}), {seconds:.1f} s")
    if chosen == "photo":
        out.line(f"They are for real models; for the mini pair: {_MINI_HINT}")
    out.result(
        {
            "count": count,
            "seed": seed,
            "style": chosen,
            "file": str(output),
            "splits": {name: splits[name] for name in ("train", "val", "test")},
            "attributes": list(dict.fromkeys(name for prompt in sampled for name in prompt.attributes)),
            "seconds": seconds,
        }
    )


def _style(given: str) -> Style:
    if given == "photo" or given == "mini":
        return given
    raise UsageError(f"--style {given} is unknown; use photo or mini")


def _photo(
    out: Output, count: int, seed: int, names_file: Path | None, templates: Path | None, vocabulary: Path | None
) -> list[Prompt]:
    from topcoat.prompts.photo import sample_photo_prompts
    from topcoat.prompts.templates import default_templates, read_templates
    from topcoat.prompts.vocabulary import default_vocabulary, read_vocabulary

    words = read_vocabulary(vocabulary) if vocabulary else default_vocabulary()
    sentences = read_templates(templates, words) if templates else default_templates(words)
    names = None
    if names_file is not None:
        from topcoat.prompts.names import read_names

        with out.progress("reading names (bytes)") as progress:
            names = read_names(names_file, count, seed, progress)
        for notice in names.notices:
            out.warn(notice)
    return sample_photo_prompts(count, seed, vocabulary=words, templates=sentences, names=names)
