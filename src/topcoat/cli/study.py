"""`topcoat study`: a blind study in which people compare distilled, enhanced and baseline pictures."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topcoat.cli.console import Output, command
from topcoat.cli.options import DryRunOption, command_line
from topcoat.errors import DataError, UsageError

if TYPE_CHECKING:
    from topcoat.study.result import StudyResult

EXTRA = "study"
StudyArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that study create wrote.")]


@command(
    "create",
    extra=EXTRA,
    examples=(
        "topcoat study create --distilled x/ --enhanced z/ --baseline y/ --pairs 60 -o study/",
        "topcoat study create --distilled x/ --enhanced z/ --baseline y/ --raters 25 --margin 0.08 --dry-run -o study/",
    ),
)
def create(
    out: Output,
    distilled: Annotated[Path, typer.Option(help="Folder of the distilled pictures.")],
    enhanced: Annotated[Path, typer.Option(help="Folder of the enhanced ones, under the same names.")],
    baseline: Annotated[Path, typer.Option(help="Folder of the baseline's, under the same names.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="New folder of the study.")],
    pairs: Annotated[int, typer.Option(min=2, help="Subjects, chosen at random from those in all folders.")] = 60,
    raters: Annotated[int, typer.Option(min=1, help="Raters that the study is planned for.")] = 40,
    votes: Annotated[
        int | None, typer.Option(min=1, help="Comparisons that one rater sees; by default one of each subject.")
    ] = None,
    checks: Annotated[int, typer.Option(min=0, help="Attention checks for each rater, besides those.")] = 3,
    margin: Annotated[
        float,
        typer.Option(
            help="Enhanced is not worse than the baseline if it gets more than 0.5 less this share of the preferences."
        ),
    ] = 0.1,
    rules: Annotated[
        Path | None,
        typer.Option(help="When a rater is left out (YAML, TOML or JSON); docs/study.md has the rules by default."),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV with a column name and one for each attribute of the subjects.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the first page.")] = None,
    question: Annotated[str | None, typer.Option(help="What raters are asked; by default which looks better.")] = None,
    consent: Annotated[
        Path | None, typer.Option(help="Text that raters agree to, with an empty line between paragraphs.")
    ] = None,
    contact: Annotated[str, typer.Option(help="Whom raters can write to; shown on the pages.")] = "",
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Lossy WebP of this quality for all pictures; lossless by default."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of orders and places, to be kept secret; a random one by default.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Plan a blind study, say what it can tell, and write its folder."""
    from topcoat.config import load_config, parse_config
    from topcoat.reports.study import power_lines
    from topcoat.study.create import StudySettings, create_study, match_pictures, plan_study
    from topcoat.study.plan import ExclusionRules
    from topcoat.study.power import analyse_power

    given: dict[str, Any] = {
        "title": title,
        "question": question,
        "consent": None if consent is None else _text(consent),
        "votes_per_rater": votes,
        "quality": quality,
        "seed": seed,
        "rules": None if rules is None else load_config(rules, ExclusionRules),
    }
    counts = {"subjects": pairs, "raters": raters, "checks_per_rater": checks, "margin": margin, "contact": contact}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = parse_config({**chosen, **counts}, StudySettings, source="the options")
    sources = match_pictures({"distilled": distilled, "enhanced": enhanced, "baseline": baseline})
    out.warn(*sources.notes)
    attributes = None
    if groups is not None:
        from topcoat.pictures.folders import read_groups

        names = list(sources.files)
        attributes = dict(zip(names, read_groups(groups, names), strict=True))
    plan = plan_study(sources, settings, attributes)
    power = analyse_power(plan)
    first, *rest = power_lines(power)
    out.line(f"{first}:", *(f"- {line}" for line in rest))
    if not dry_run:
        with out.progress("writing pictures") as progress:
            plan, notes = create_study(output, sources, plan, on_progress=progress)
        out.warn(*notes)
        out.line(
            f"{len(plan.subjects)} subjects in {output}; keep its study.json secret, which names the arms",
            f"Next: {command_line('study', 'serve', output)}",
        )
    out.result(
        {
            "folder": None if dry_run else str(output),
            "subjects": len(plan.subjects),
            "raters": plan.raters,
            "votes_per_rater": plan.votes_per_rater,
            "checks_per_rater": plan.checks_per_rater,
            "margin": plan.margin,
            "rules": plan.rules.model_dump(mode="json"),
            "power": asdict(power),
            "digest": None if dry_run else plan.digest,
        }
    )


@command(
    "serve",
    extra=EXTRA,
    examples=("topcoat study serve study/", "topcoat study serve study/ --port 8200 --max-raters 100"),
)
def serve(
    out: Output,
    folder: StudyArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's own makes the study public.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8100,
    max_raters: Annotated[int, typer.Option(min=1, help="Raters that may begin; more are turned away.")] = 1000,
) -> None:
    """Let raters vote in their browsers, until Ctrl-C; every acknowledged vote is on disk."""
    import uvicorn

    from topcoat.serving.sockets import is_loopback, open_socket, url_of
    from topcoat.study.app import create_app
    from topcoat.study.plan import read_plan

    out.on_interrupt = "run the same command again: every vote is there"
    read_plan(folder)  # before a file is written into a folder that is no study
    out.lock(folder)
    app = create_app(folder, most_raters=max_raters)
    bound = open_socket(host, port)
    url = f"{url_of(host, bound)}/"
    if not is_loopback(host):
        out.warn(
            f"whoever reaches {url} can vote, without encryption; put a web server with TLS in front, and let that one "
            "listen instead"
        )
    out.line(f"raters vote at {url} ({max_raters} at most may begin); Ctrl-C ends the server")
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
    uvicorn.Server(config).run([bound])


@command(
    "result",
    extra=EXTRA,
    examples=("topcoat study result study/", "topcoat study result study/ -o result/ --json"),
)
def result(
    out: Output,
    folder: StudyArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the files go; by default DIR/result.")
    ] = None,
) -> None:
    """Say what the votes show: result.json, votes.csv and a page. A server may run meanwhile."""
    from topcoat.files import write_json, write_text
    from topcoat.reports.study import render_study_page
    from topcoat.study.plan import read_plan
    from topcoat.study.result import read_result, write_votes

    plan = read_plan(folder)
    found, raters = read_result(folder, plan)
    if not found.comparisons:
        why = next((f" ({note})" for note in found.notes if "left out" in note), "")
        raise DataError(
            f"{folder} has no vote that counts yet{why}; let raters vote: {command_line('study', 'serve', folder)}"
        )
    target = folder / "result" if output is None else output
    write_json(target / "result.json", found.as_dict())
    write_votes(target / "votes.csv", plan, raters, found)
    write_text(target / "result.html", render_study_page(found))
    _show_result(out, found)
    out.line(f"The page: {target}/result.html, beside result.json and votes.csv")
    out.result(found.as_dict())


@command(
    "raters",
    extra=EXTRA,
    examples=("topcoat study raters study/", "topcoat study raters study/ --delete 7"),
)
def raters(
    out: Output,
    folder: StudyArgument,
    export: Annotated[
        int | None, typer.Option(metavar="N", help="Print all that is stored of rater N as JSON.")
    ] = None,
    delete: Annotated[int | None, typer.Option(metavar="N", help="Delete rater N with all votes.")] = None,
) -> None:
    """List the raters of a study, or export or delete one who asks for it."""
    from topcoat.study.plan import read_plan
    from topcoat.study.raters import report_raters
    from topcoat.study.store import Store, read_raters

    if export is not None and delete is not None:
        raise UsageError("--export and --delete are two things; run one after the other")
    plan = read_plan(folder)
    if delete is not None:
        with closing(Store(folder, plan)) as store:
            store.delete(delete)
        out.line(f"rater {delete} and all their votes are deleted")
        out.result({"deleted": delete})
        return
    found, deleted = read_raters(folder, plan)
    if export is not None:
        own = next((rater for rater in found if rater.number == export), None)
        if own is None:
            raise UsageError(f"there is no rater {export} in this study; leave --export out to list them")
        out.line(json.dumps(own.as_dict(), indent=2))
        out.result(own.as_dict())
        return
    reports = report_raters(found, plan.rules)
    rows = [
        (
            report.number,
            f"{report.answered}/{report.asked}",
            f"{report.failed_checks}/{report.checks}",
            "-" if report.median_seconds is None else f"{report.median_seconds:.1f} s",
            "; ".join(report.excluded) or "counts",
        )
        for report in reports
    ]
    out.table("", ("rater", "answered", "checks failed", "median time", "result"), rows)
    out.line(f"{len(found)} raters, {deleted} deleted")
    out.result({"raters": [asdict(report) for report in reports], "deleted": deleted})


def _show_result(out: Output, result: StudyResult) -> None:
    """The result for a person."""
    from topcoat.reports.study import study_table

    excluded = sum(bool(rater.excluded) for rater in result.raters)
    out.line(f"{len(result.counted)} raters count, {excluded} are left out, {result.planned_raters} were planned")
    out.line(*(f"- {claim.sentence}" for claim in result.claims))
    table = study_table(result)
    out.table("", table.columns, table.rows)
    out.warn(*result.notes)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give a text file in UTF-8") from None
