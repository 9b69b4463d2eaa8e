"""The page of `topcoat pairs inspect --html`: one self-contained file, readable offline, on a phone and in the dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from topcoat import page
from topcoat.charts import curves, histogram
from topcoat.files import write_text
from topcoat.metrics.spectrum import ring_middles
from topcoat.page import data_uri, safe
from topcoat.pairs.inspection import SIDES, Balance, Inspection, Shown

UNEVEN = 0.8
"""An attribute whose evenness is under this is pointed out."""

_SHOWN_PX = 384
_LISTED = 50  # rows of a table; the JSON has all


def write_page(path: Path, found: Inspection) -> None:
    """Write the page, atomically; raises `DataError` if it cannot be written."""
    write_text(path, render(found))


def render(found: Inspection) -> str:
    """The page as text."""
    template = Template(resources.files("topcoat.pairs").joinpath("inspect.template.html").read_text(encoding="utf-8"))
    figures = {key: value for key, value in found.as_dict().items() if key not in ("cycles_per_px", "attributes")}
    body = template.substitute(
        pair=safe(found.pair),
        headline=safe(headline(found)),
        lead=safe(_lead(found)),
        cards=_cards(found),
        findings=page.findings(
            findings(found), "Nothing stands out: no failures, no unusable images, no doubled seeds or subjects."
        ),
        shown=str(len(found.shown)),
        sheet="".join(_figure(item) for item in found.shown),
        count=f"{found.pairs:,}",
        brightness=_spread_chart(found, "brightness"),
        contrast=_spread_chart(found, "contrast"),
        colourfulness=_spread_chart(found, "colourfulness"),
        sharpness=_spread_chart(found, "sharpness", log=True),
        spectrum_note=safe(spectrum_note(found)),
        spectra=_spectra(found),
        ratio=_ratio(found),
        subjects_note=safe(
            "Similarities are cosines in the feature net that losses use; the net that judges heads takes no part."
        ),
        alike=_alike(found),
        neighbours=_neighbours(found),
        balance=_balance(found.balance),
        tables=_tables(found),
        figures=page.settings("Every figure", figures),
    )
    return page.document(f"topcoat pairs: {found.pair}", body)


def headline(found: Inspection) -> str:
    """The dataset in a few words: ``240 pairs of 128 x 128 px``."""
    sizes = list(found.sizes_px)
    size = f" of {sizes[0][0]} x {sizes[0][1]} px" if len(sizes) == 1 else f" of {len(sizes)} sizes" if sizes else ""
    return _pairs(found.pairs) + size


def findings(found: Inspection) -> list[str]:
    """What a user should know before training on these pairs, one sentence each; empty where nothing stands out."""
    told: list[str] = []
    if found.failures:
        told.append(f"{_pairs(len(found.failures))} could not be made; the same build command tries again.")
    if found.unusable:
        told.append(f"Blank or saturated images are in {_pairs(len(found.unusable))}; build with --filter blank.")
    if found.seeds is not None and found.seeds.doubled:
        told.append(f"{_pairs(found.seeds.doubled)} share their seed, and so their noise, with another.")
    if found.duplicates:
        leaks = sum(item.leaks for item in found.duplicates)
        across = f" ({leaks:,} across splits)" if leaks else ""
        told.append(
            f"A subject of an earlier pair comes again in {_pairs(len(found.duplicates))}{across}; "
            "topcoat pairs dedupe drops these."
        )
    if len(found.sizes_px) > 1:
        told.append(f"The pairs have {len(found.sizes_px)} sizes; training and evaluation want one.")
    uneven = [item.attribute for item in found.balance if item.evenness < UNEVEN]
    if uneven:
        told.append(f"Unevenly spread: {', '.join(uneven)} (evenness under {UNEVEN}).")
    return told


def spectrum_note(found: Inspection) -> str:
    """What the power spectra say in one sentence; empty without pairs."""
    if not math.isfinite(found.fine_detail):
        return ""
    return f"Above 0.25 cycles per pixel the distilled side has {found.fine_detail:.2f} times the baseline's power."


def _lead(found: Inspection) -> str:
    splits = ", ".join(f"{number:,} {name}" for name, number in found.splits.items())
    seeds = "" if found.seeds is None else f" Seeds {found.seeds.lowest:,} to {found.seeds.highest:,}."
    return f"{splits}. Every shard has the digest it was written with.{seeds} Dataset {found.digest[:16]}."


def _cards(found: Inspection) -> str:
    share = len(found.duplicates) / found.pairs if found.pairs else 0.0
    reasons = ", ".join(f"{name} {number:,}" for name, number in found.drop_reasons.items()) or "by no filter"
    tried = found.pairs + len(found.dropped) + len(found.failures)
    cards = [
        page.card("Pairs", f"{found.pairs:,}", [_size(found.bytes)]),
        page.card(
            "Dropped", f"{len(found.dropped):,}", [f"of {tried:,} painted: {reasons}" if found.dropped else reasons]
        ),
        page.card("Failed", f"{len(found.failures):,}", ["could not be made"]),
        page.card(
            "Near-duplicates",
            f"{share:.1%}",
            [f"{len(found.duplicates):,} pairs at similarity {found.duplicate_threshold:.3f} or more"],
        ),
    ]
    if len(found.alike):
        cards.append(
            page.card("Same subject", f"{float(found.alike.median()):.3f}", ["median similarity of both sides"])
        )
    if math.isfinite(found.fine_detail):
        cards.append(
            page.card("Fine detail", f"{found.fine_detail:.2f} x", ["distilled over baseline, above 0.25 cycles/px"])
        )
    return "".join(cards)


def _figure(item: Shown) -> str:
    record = item.record
    images = "".join(
        f'<img src="{data_uri(image, largest_px=_SHOWN_PX)}" alt="{side}" loading="lazy">'
        for side, image in zip(SIDES, (item.distilled, item.baseline), strict=True)
    )
    text = record.prompt if len(record.prompt) <= 140 else record.prompt[:137] + "..."
    caption = f"<b>{safe(record.id)}</b> {safe(text)}"
    return f'<figure><div class="row">{images}</div><figcaption>{caption}</figcaption></figure>'


def _spread_chart(found: Inspection, name: str, *, log: bool = False) -> str:
    """The distribution of one measure on both sides, over one axis."""
    both = [(side, found.sides[side].values[name]) for side in SIDES]
    if not found.pairs:
        return ""
    series = [(side, values.clamp_min(1e-8).log10() if log else values, side) for side, values in both]
    low, high = min(float(values.min()) for _, values, _ in series), max(float(values.max()) for _, values, _ in series)
    room = max(0.02 * (high - low), 1e-3)
    span = (low - room, high + room)
    places = [span[0] + (span[1] - span[0]) * share for share in (0.05, 0.35, 0.65, 0.95)]
    ticks = [(place, f"{10**place:.2g}" if log else f"{place:.2f}") for place in places]
    return histogram(series, title=f"{name} of both sides", bins=32, span=span, ticks=ticks)


def _spectra(found: Inspection) -> str:
    centres = [math.log10(middle) for middle in ring_middles()]
    series = [(side, list(zip(centres, found.sides[side].spectrum.tolist(), strict=True)), side) for side in SIDES]
    ticks = [(math.log10(value), f"{value:g}") for value in (0.02, 0.05, 0.1, 0.25, 0.5)]
    return curves(series, title="Radial power spectra, cycles per pixel", x_ticks=ticks, log_y=True)


def _ratio(found: Inspection) -> str:
    """Distilled power over baseline power by frequency; 1 is no difference."""
    x, y = (found.sides[side].spectrum for side in SIDES)
    points = list(zip(ring_middles(), (x / y).tolist(), strict=True))
    ticks = [(value, f"{value:g}") for value in (0.1, 0.2, 0.3, 0.4)]
    return curves(
        [("distilled / baseline", points, "distilled")], title="Ratio of power spectra", x_ticks=ticks, level=1.0
    )


def _alike(found: Inspection) -> str:
    if found.pairs < 2:
        return ""
    series = [("next pair", found.strangers, "control"), ("same pair", found.alike, "baseline")]
    return histogram(series, title="Feature similarity of both sides")


def _neighbours(found: Inspection) -> str:
    if found.pairs < 2:
        return ""
    threshold = found.duplicate_threshold
    return histogram(
        [("nearest earlier subject", found.neighbours, "baseline")],
        title="Feature similarity to the nearest earlier subject",
        marker=(threshold, f"near-duplicate {threshold:.3f}"),
    )


def _balance(items: Sequence[Balance]) -> str:
    if not items:
        return ""
    cards: list[str] = []
    for item in items:
        top = max(item.counts.values())
        rows = "".join(
            f'<div class="value"><span>{safe(value)}</span><span><i style="width:{count / top:.1%}"></i></span>'
            f"<span>{count:,}</span></div>"
            for value, count in item.counts.items()
        )
        name = safe(item.attribute.replace("_", " "))
        head = f"<h3>{name}<em>evenness {item.evenness:.2f}</em></h3>"
        cards.append(f'<div class="attribute">{head}{rows}</div>')
    note = "Pairs of each value. Evenness is the entropy over its maximum: 1 where all values are equally frequent."
    return f'<h2>Balance</h2><p class="note">{note}</p><section class="balance">{"".join(cards)}</section>'


def _tables(found: Inspection) -> str:
    parts = [
        _table("Dropped", ("Pair", "Filter", "Reason"), [(name, by, why) for name, by, why, _ in found.dropped]),
        _table("Failed", ("Pair", "Reason"), found.failures),
        _table("Unusable", ("Pair", "Reason"), found.unusable),
        _table(
            "Near-duplicates",
            ("Pair", "Of", "Similarity"),
            [
                (item.id, item.of + (" (other split)" if item.leaks else ""), f"{item.similarity:.3f}")
                for item in found.duplicates
            ],
        ),
    ]
    return "".join(parts)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    more = f'<p class="note">The first {_LISTED} of {len(rows):,}; --json has all.</p>' if len(rows) > _LISTED else ""
    return f"<h2>{safe(title)}</h2>{more}{page.table(columns, rows[:_LISTED], 'ids')}"


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count:,} pairs"


def _size(count: int) -> str:
    """A number of bytes for a person, in decimal units."""
    power = min(3, int(math.log10(max(1, count)) // 3))
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB')[power]} in all"
