"""What `topcoat pairs inspect` says: a headline, findings and, with ``--html``, a page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import torch
from markupsafe import Markup

from topcoat.metrics.spectrum import RING_MIDDLES
from topcoat.metrics.table import Table
from topcoat.pairs.inspect import SIDES, Example, Inspection, evenness
from topcoat.reports.charts import CYCLES, curves, histogram, spectra
from topcoat.reports.page import Card, Chart, Subject, data_uri, render

_SHOWN_PX = 384
_LISTED = 50  # rows of a table; the JSON has all
_UNEVEN = 0.8  # an attribute whose evenness is under this is pointed out


def headline(inspection: Inspection) -> str:
    """The dataset in a few words: ``240 pairs of 128 x 128 px``."""
    sizes = [f"{width} x {height} px" for width, height in inspection.sizes_px]
    size = f" of {sizes[0] if len(sizes) == 1 else f'{len(sizes)} sizes'}" if sizes else ""
    return _pairs(inspection.pairs) + size


def spectrum_note(inspection: Inspection) -> str:
    """What the power spectra show, in one sentence; empty without pairs."""
    if not math.isfinite(inspection.fine_detail):
        return ""
    return (
        f"Above 0.25 cycles per pixel the distilled side has {inspection.fine_detail:.2f} times the baseline's power."
    )


def findings(inspection: Inspection) -> list[str]:
    """What matters before training on these pairs, one sentence each; empty where nothing stands out."""
    found = [f"{flag[0].upper()}{flag[1:]}." for flag in inspection.flags]
    if inspection.unfinished:
        found.append(inspection.unfinished)
    if inspection.failures:
        found.append(f"{_pairs(len(inspection.failures))} could not be made; the same build command tries again.")
    if inspection.unusable:
        found.append(f"{_pairs(len(inspection.unusable))} with a blank or saturated image; build with --filter blank.")
    if inspection.seeds and inspection.seeds["doubled"]:
        found.append(f"{_pairs(inspection.seeds['doubled'])} share their seed, and so their noise, with another.")
    if inspection.duplicates:
        leaks = sum(item.leaks for item in inspection.duplicates)
        across = f" ({leaks:,} across splits)" if leaks else ""
        found.append(
            f"{_pairs(len(inspection.duplicates))} show the subject of an earlier pair again{across}; "
            "topcoat pairs dedupe drops these."
        )
    if len(inspection.sizes_px) > 1:
        found.append(f"The pairs have {len(inspection.sizes_px)} sizes; training and evaluation need one.")
    uneven = [name for name, counts in inspection.attributes.items() if evenness(counts) < _UNEVEN]
    if uneven:
        found.append(f"Unevenly spread: {', '.join(uneven)} (evenness under {_UNEVEN}).")
    return found


def render_pairs_page(inspection: Inspection) -> str:
    """The page as text."""
    record = inspection.as_dict()
    return render(
        "pairs.html.j2",
        title=f"topcoat pairs: {inspection.pair}",
        inspection=inspection,
        headline=headline(inspection),
        findings=findings(inspection),
        spectrum_note=spectrum_note(inspection),
        evenness=record["evenness"],
        cards=_cards(inspection),
        examples=[_example(item) for item in inspection.shown],
        sides=_sides(inspection),
        similarities=_similarities(inspection),
        tables=_tables(inspection),
        values={key: value for key, value in record.items() if key not in ("cycles_per_px", "attributes")},
    )


def _cards(inspection: Inspection) -> list[Card]:
    dropped, failed = len(inspection.dropped), len(inspection.failures)
    reasons = ", ".join(f"{name} {number:,}" for name, number in inspection.drop_reasons.items())
    tried = inspection.pairs + dropped + failed
    threshold = f"{len(inspection.duplicates):,} pairs at similarity {inspection.duplicate_threshold:.3f} or more"
    cards = [
        Card("Pairs", f"{inspection.pairs:,}", [_size(inspection.bytes)]),
        Card("Dropped", f"{dropped:,}", [f"of {tried:,} generated: {reasons}" if dropped else "by no filter"]),
        Card("Failed", f"{failed:,}", ["could not be made"]),
        Card("Near-duplicates", f"{inspection.duplicate_share:.1%}", [threshold]),
    ]
    if len(inspection.matched):
        median = f"{float(inspection.matched.median()):.3f}"
        cards.append(Card("Same subject", median, ["median similarity of both sides"]))
    if math.isfinite(inspection.fine_detail):
        detail = ["distilled over baseline, above 0.25 cycles/px"]
        cards.append(Card("Fine detail", f"{inspection.fine_detail:.2f} x", detail))
    return cards


def _example(item: Example) -> Subject:
    images = [(side, data_uri(item.images[side], largest_px=_SHOWN_PX)) for side in SIDES]
    return Subject(images, textwrap.shorten(item.record.prompt, 140, placeholder="..."), item.record.id)


_SPREADS = {
    "brightness": "Mean luma, 0 to 1.",
    "contrast": "Standard deviation of the luma over an image.",
    "colourfulness": "Colourfulness after Hasler and Süsstrunk; 0 is grey.",
    "sharpness": "Variance of the Laplacian, on a logarithmic axis.",
}


def _sides(inspection: Inspection) -> list[Chart]:
    """The distributions of every measure on both sides, each over one axis, and the power spectra."""
    charts: list[Chart] = []
    for name, note in _SPREADS.items():
        log = name == "sharpness"
        values = {side: inspection.sides[side].values[name] for side in SIDES}
        series = [(side, own.clamp_min(1e-8).log10() if log else own, side) for side, own in values.items()]
        drawing = Markup()
        if inspection.pairs:
            both = torch.cat([own for _, own, _ in series])
            low, high = float(both.min()), float(both.max())
            margin = max(0.02 * (high - low), 1e-3)
            span = (low - margin, high + margin)
            positions = [span[0] + (span[1] - span[0]) * share for share in (0.05, 0.35, 0.65, 0.95)]
            ticks = [(position, f"{10**position:.2g}" if log else f"{position:.2f}") for position in positions]
            drawing = histogram(series, title=f"{name} of both sides", bins=32, span=span, ticks=ticks)
        charts.append(Chart("Colour" if name == "colourfulness" else name.capitalize(), note, drawing))
    power = {side: inspection.sides[side].spectrum for side in SIDES}
    x, y = power.values()
    ratio = [("distilled / baseline", list(zip(RING_MIDDLES, (x / y).tolist(), strict=True)), "distilled")]
    return [
        *charts,
        Chart(
            "Power spectra",
            "Mean power of the luma by cycles per pixel, both axes logarithmic.",
            spectra([(side, list(zip(RING_MIDDLES, own.tolist(), strict=True)), side) for side, own in power.items()]),
        ),
        Chart(
            "Ratio of the spectra",
            "Distilled over baseline power, by cycles per pixel; 1 is no difference.",
            curves(ratio, title="Ratio of power spectra", x_ticks=CYCLES, level=1.0),
        ),
    ]


def _similarities(inspection: Inspection) -> list[Chart]:
    """Similarities within pairs, and to earlier subjects."""
    threshold = inspection.duplicate_threshold
    matched = [("next pair", inspection.mismatched, "control"), ("same pair", inspection.matched, "baseline")]
    earlier = [("nearest earlier subject", inspection.neighbours, "baseline")]
    marker = (threshold, f"near-duplicate {threshold:.3f}")
    some = inspection.pairs > 1
    return [
        Chart(
            "Do both sides show one subject?",
            "Feature similarity of the two images of a pair, and of a distilled image with the next pair's baseline.",
            histogram(matched, title="Feature similarity of both sides") if some else Markup(),
        ),
        Chart(
            "Is a subject there twice?",
            "Feature similarity of each baseline image to its nearest earlier one.",
            histogram(earlier, title="Feature similarity to the nearest earlier subject", marker=marker)
            if some
            else Markup(),
        ),
    ]


def _tables(inspection: Inspection) -> list[tuple[str, int, Table]]:
    """Title, number of rows in all, and the first rows; none that are empty."""
    duplicates = [
        (item.id, item.of + (" (other split)" if item.leaks else ""), f"{item.similarity:.3f}")
        for item in inspection.duplicates
    ]
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
        ("Dropped", ("Pair", "Filter", "Reason"), [(item.id, item.filter, item.reason) for item in inspection.dropped]),
        ("Failed", ("Pair", "Reason"), [(item.id, item.error) for item in inspection.failures]),
        ("Unusable", ("Pair", "Reason"), inspection.unusable),
        ("Near-duplicates", ("Pair", "Of", "Similarity"), duplicates),
    ]
    return [(title, len(rows), Table(columns, rows[:_LISTED])) for title, columns, rows in tables if rows]


def _size(count: int) -> str:
    """A number of bytes for a person, in decimal units."""
    power = min(3, int(math.log10(max(1, count)) // 3))
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB')[power]} in all"


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count:,} pairs"
