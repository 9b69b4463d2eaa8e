"""``frontier.html``, ``frontier.json`` and ``frontier.png``: the sweep as a page, as numbers and as a picture."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from topcoat import page
from topcoat.cost import format_tflop
from topcoat.files import write_json, write_text
from topcoat.frontier.chart import as_svg, write_png
from topcoat.frontier.pareto import pareto_front
from topcoat.frontier.sweep import Frontier, Point

_COLUMNS = (
    "setting",
    "gap closed",
    "95 % interval",
    "Fréchet",
    "identity, p05",
    "TFLOP",
    "seconds",
    "less TFLOP",
    "less time",
)


def write_frontier(folder: Path, frontier: Frontier, chosen: Point | None, wanted: str) -> None:
    """Write all three into ``folder``, each atomically; ``wanted`` says in words what was chosen by.

    Raises `DataError` if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = frontier.as_dict() | {
        "pareto": [point.setting.label for point in pareto_front(frontier.points)],
        "wanted": wanted,
        "chosen": None if chosen is None else chosen.setting.label,
    }
    write_json(folder / "frontier.json", record)
    write_png(folder / "frontier.png", frontier, chosen)
    write_text(folder / "frontier.html", render(frontier, chosen, wanted))


def headline(frontier: Frontier, chosen: Point | None, wanted: str) -> str:
    """One line: the chosen setting, what it closes and what it saves; or that nothing fits what was wanted."""
    if chosen is None:
        return f"No setting meets {wanted}" if wanted else f"{len(frontier.points)} settings of {frontier.pair}"
    tflop, seconds = frontier.saving(chosen)
    share = "no measurable gap" if chosen.share is None else f"{chosen.share:.0%} of the gap closed"
    return (
        f"{chosen.setting.label}: {share} for {tflop:.1%} less TFLOP (computed) and {seconds:.1%} less time (measured) "
        f"than {frontier.baseline.setting.label}"
    )


def table_rows(frontier: Frontier) -> list[tuple[str, ...]]:
    """The settings as cells, cheapest first: label, share, interval, distance, identity, TFLOP, seconds, savings."""
    rows = []
    for point in sorted(frontier.points, key=lambda one: one.tflop):
        gap, (tflop, seconds) = point.gap, frontier.saving(point)
        known = gap.value is not None and gap.low is not None and gap.high is not None
        rows.append(
            (
                point.setting.label,
                f"{gap.value:.0%}" if known else "n/a",
                f"{gap.low:.0%} to {gap.high:.0%}" if known else "n/a",
                f"{point.distance:.3g}",
                f"{point.identity.p05:.3f}",
                format_tflop(point.tflop),
                f"{point.seconds:.4f}",
                f"{tflop:.1%}",
                f"{seconds:.1%}",
            )
        )
    return rows


def render(frontier: Frontier, chosen: Point | None, wanted: str) -> str:
    """The page as text: self-contained, readable offline, in the dark and on a phone."""
    front = {point.setting.label for point in pareto_front(frontier.points)}
    rows = table_rows(frontier)
    picked = None if chosen is None else chosen.setting.label
    marks = [" ".join(("front",) * (row[0] in front) + ("chosen",) * (row[0] == picked)) for row in rows]
    machine = frontier.settings["hardware"]
    template = Template(resources.files("topcoat.frontier").joinpath("report.template.html").read_text("utf-8"))
    body = template.substitute(
        pair=page.safe(frontier.pair),
        headline=page.prose(headline(frontier, chosen, wanted)),
        lead=page.prose(
            f"Every setting on the same {frontier.n:,} held-out subjects of the pair {frontier.pair} at "
            f"{frontier.width_px}x{frontier.height_px} px. Quality is the Fréchet distance to the baseline (measured, "
            "bars are 95 % bootstrap intervals); TFLOP are computed for the whole pipeline; seconds are measured "
            f"medians per image in batches of {frontier.settings['batch_size']} on "
            f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores."
        ),
        chart=as_svg(frontier, chosen),
        legend=page.safe(
            "◆ marks the Pareto set: nothing is both cheaper and nearer to the baseline. Savings are against "
            f"{frontier.baseline.setting.label}, whole pipeline. Identity: cosine to the distilled model's own image."
        ),
        table=page.table(_COLUMNS, rows, "numbers", marks),
        chosen=page.settings("Figures", None if chosen is None else chosen.as_dict()),
        settings=page.settings("Settings, versions and machine", frontier.settings),
    )
    return page.document(f"topcoat frontier: {frontier.pair}", body)
