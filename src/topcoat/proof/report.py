"""``report.html``: one self-contained page, readable offline, on a phone and in the dark."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from PIL import Image
from torch import Tensor

from topcoat.cost import BASELINE_STEPS_BESIDE, count_steps, format_tflop
from topcoat.evaluation.evaluate import ENOUGH_IMAGES
from topcoat.files import atomic_path
from topcoat.generators.base import Licence
from topcoat.images import encode_png, to_pil
from topcoat.proof.charts import Bar, bars, histogram
from topcoat.proof.record import Proof, percent, saving_words
from topcoat.proof.store import to_floats

SUBJECTS = 12
"""Subjects shown: the first ones, as they were given, never picked."""
_LOSSLESS_PX = 256
"""Images up to this side are embedded as PNG; larger ones as WebP of at most `_SHOWN_PX`, to keep the page small."""
_SHOWN_PX = 768


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the page shows beside the figures; images are ``(N, 3, H, W)`` uint8, cosines ``(N,)``."""

    distilled: Tensor
    enhanced: Tensor
    baseline: Tensor
    prompts: Sequence[str]
    seeds: Sequence[int]
    kept: Tensor
    same: Tensor
    different: Tensor
    licences: tuple[Licence, Licence]


def write_report(path: Path, proof: Proof, evidence: Evidence) -> None:
    """Write the page, atomically; raises `DataError` if it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(proof, evidence), encoding="utf-8")


def render(proof: Proof, evidence: Evidence) -> str:
    """The page as text."""
    template = Template(resources.files("topcoat.proof").joinpath("report.template.html").read_text(encoding="utf-8"))
    subjects = [_Subject.of(evidence, index) for index in range(min(SUBJECTS, len(evidence.prompts)))]
    steps = proof.steps
    return template.substitute(
        pair=_safe(proof.pair),
        title=_safe(f"topcoat proof: {proof.pair}"),
        headline=_prose(proof.headline),
        lead=_safe(_lead(proof)),
        summary=_prose(proof.summary()),
        distilled_label=_safe(f"distilled, {count_steps(steps.distilled)}"),
        enhanced_label=_safe(f"distilled + head, {count_steps(steps.distilled)}"),
        baseline_label=_safe(f"baseline, {count_steps(steps.baseline)}"),
        first_distilled=subjects[0].distilled,
        first_enhanced=subjects[0].enhanced,
        first_baseline=subjects[0].baseline,
        first_caption=_safe(subjects[0].caption),
        thumbs="".join(subject.thumb(index) for index, subject in enumerate(subjects)),
        gallery="".join(subject.row() for subject in subjects),
        shown=str(len(subjects)),
        cards=_cards(proof),
        distances=_distance_chart(proof),
        identities=_identity_chart(evidence),
        tflop=_tflop_chart(proof),
        seconds=_seconds_chart(proof),
        table=_table(proof),
        statement=_prose(_statement(proof)),
        settings=_safe(json.dumps(_repeat(proof), indent=2, ensure_ascii=False)),
        licences=_licences(evidence.licences),
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    distilled: str
    enhanced: str
    baseline: str
    caption: str

    @classmethod
    def of(cls, evidence: Evidence, index: int) -> _Subject:
        sets = (evidence.distilled, evidence.enhanced, evidence.baseline)
        caption = f"seed {evidence.seeds[index]}: {evidence.prompts[index]}"
        return cls(*(data_uri(one[index]) for one in sets), caption=caption)

    def thumb(self, index: int) -> str:
        """A button that puts the subject on the stage; the page's script takes the images from the gallery."""
        pressed = "true" if index == 0 else "false"
        label = f'aria-pressed="{pressed}" aria-label="Show subject {index + 1}"'
        return f'<button type="button" {label}><img src="{self.enhanced}" alt=""></button>'

    def row(self) -> str:
        """The subject's three images side by side."""
        kinds = (("distilled", self.distilled), ("+ head", self.enhanced), ("baseline", self.baseline))
        images = "".join(f'<div><img src="{uri}" alt="{name}"><span>{name}</span></div>' for name, uri in kinds)
        return f'<figure><div class="trio">{images}</div><figcaption>{_safe(self.caption)}</figcaption></figure>'


def data_uri(image: Tensor) -> str:
    """A data URI of one ``(3, H, W)`` uint8 image."""
    floats = to_floats(image)
    if max(image.shape[-2:]) <= _LOSSLESS_PX:
        return "data:image/png;base64," + base64.b64encode(encode_png(floats)).decode()
    picture = to_pil(floats)
    picture.thumbnail((_SHOWN_PX, _SHOWN_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _lead(proof: Proof) -> str:
    size = f"{proof.settings['width_px']}x{proof.settings['height_px']} px"
    return (
        f"The same {proof.n:,} subjects by the fast model, by the fast model with a small head behind it, and by the "
        f"slow model that both are measured against. Pair {proof.pair}, {size}. Drag the line."
    )


def _cards(proof: Proof) -> str:
    gap, control = proof.gap_closed, proof.settings["gap_closed_by_unsharp"]["value"]
    steps, seconds = proof.steps, proof.seconds_per_image
    interval = (
        "no gap to close"
        if gap.low is None or gap.high is None
        else f"95 % interval {percent(gap.low)} to {percent(gap.high)}"
    )
    against = "" if control is None else f"<br>unsharp mask: {percent(control)}"
    ours = seconds.distilled + seconds.head
    both = f"{count_steps(steps.distilled)} + head against {count_steps(steps.baseline)}"
    beside = proof.saving_at_28_steps
    return "".join(
        (
            _card(
                "Gap",
                "n/a" if gap.value is None else f"{percent(gap.value)} closed",
                f"{interval}{against}",
                "measured",
            ),
            _card("Identity", f"{proof.identity.mean:.3f}", f"5th percentile {proof.identity.p05:.3f}", "measured"),
            _card(
                "Compute",
                saving_words(proof.saving.tflop),
                f"{both}<br>{saving_words(beside.tflop)} against {BASELINE_STEPS_BESIDE}",
                "computed",
            ),
            _card(
                "Time",
                saving_words(proof.saving.seconds),
                f"{both}<br>{saving_words(beside.seconds)} against {BASELINE_STEPS_BESIDE}",
                "measured",
            ),
            _card(
                "Per image",
                f"{ours:.3f} s",
                f"baseline {seconds.baseline:.3f} s<br>head {seconds.head:.4f} s",
                "measured",
            ),
        )
    )


def _card(name: str, figure: str, detail: str, kind: str) -> str:
    """``detail`` is HTML made here from numbers alone."""
    return f'<div class="card"><h3>{name}<em>{kind}</em></h3><strong>{figure}</strong><p>{detail}</p></div>'


def _distance_chart(proof: Proof) -> str:
    found, ends = proof.frechet, proof.settings["frechet_intervals"]
    rows = [
        Bar(label, value, f"{value:.3g}", colour, ends[key]["low"], ends[key]["high"])
        for label, key, value, colour in (
            ("distilled", "distilled", found.distilled, "distilled"),
            ("+ unsharp mask", "unsharp", found.unsharp, "control"),
            ("+ head", "enhanced", found.enhanced, "enhanced"),
            ("baseline, other seeds", "baseline_floor", found.baseline_floor, "baseline"),
        )
    ]
    return bars(rows, title="Fréchet distance to the baseline", marker=(found.baseline_floor, "floor"))


def _identity_chart(evidence: Evidence) -> str:
    series = (
        ("different subjects", evidence.different, "control"),
        ("same, distilled to baseline", evidence.same, "distilled"),
        ("head's input to output", evidence.kept, "enhanced"),
    )
    return histogram(series, title="Identity cosines")


def _tflop_chart(proof: Proof) -> str:
    found = proof.tflop_per_image
    beside = proof.settings["baseline_at_28_steps"]["tflop"]
    ours = found.distilled + found.head
    rows = _cost_rows(proof, ours, beside, found.baseline, lambda value: f"{format_tflop(value)} TFLOP")
    return bars(rows, title="TFLOP per image")


def _seconds_chart(proof: Proof) -> str:
    found = proof.seconds_per_image
    beside = proof.settings["baseline_at_28_steps"]["seconds"]
    rows = _cost_rows(proof, found.distilled + found.head, beside, found.baseline, lambda value: f"{value:.3f} s")
    return bars(rows, title="Seconds per image")


def _cost_rows(proof: Proof, ours: float, beside: float, baseline: float, text: Callable[[float], str]) -> list[Bar]:
    rows = [Bar(f"{count_steps(proof.steps.distilled)} + head", ours, text(ours), "enhanced")]
    counts = {BASELINE_STEPS_BESIDE: beside, proof.steps.baseline: baseline}
    return rows + [
        Bar(f"baseline, {count_steps(count)}", value, text(value), "baseline") for count, value in counts.items()
    ]


def _table(proof: Proof) -> str:
    frechet, kept, pairs = proof.frechet, proof.identity, proof.identity_pairs
    seconds, tflop, spread = proof.seconds_per_image, proof.tflop_per_image, proof.settings["seconds_spread"]
    energy, steps = proof.settings["gradient_energy"], proof.steps

    def timing(name: str) -> str:
        return f"{spread[name]['low']:.4f} to {spread[name]['high']:.4f} s over {spread[name]['batches']} batches"

    gap = proof.settings["gap_in_floors"]
    rows = [
        ("Fréchet distance, distilled (do-nothing score)", f"{frechet.distilled:.4g}", "measured", ""),
        ("Fréchet distance, distilled + unsharp mask", f"{frechet.unsharp:.4g}", "measured", _control(proof)),
        ("Fréchet distance, distilled + head", f"{frechet.enhanced:.4g}", "measured", ""),
        (
            "Fréchet distance, baseline at other seeds (floor)",
            f"{frechet.baseline_floor:.4g}",
            "measured",
            "" if gap is None else f"the do-nothing score is {gap:.1f} times the floor",
        ),
        ("Share of the gap closed", str(proof.gap_closed), "measured", "bootstrap over subjects"),
        ("Identity, input to output of the head", f"{kept.mean:.4f}", "measured", f"5th percentile {kept.p05:.4f}"),
        (
            "Identity, same subject in both models",
            f"{pairs.same_mean:.4f}",
            "measured",
            f"5th percentile {pairs.same_p05:.4f}",
        ),
        (
            "Identity, different subjects",
            f"{pairs.different_mean:.4f}",
            "measured",
            f"95th percentile {pairs.different_p95:.4f}",
        ),
        (
            "Gradient energy, distilled / unsharp / head / baseline",
            " / ".join(f"{energy[name]:.4f}" for name in ("distilled", "unsharp", "enhanced", "baseline")),
            "measured",
            "mean absolute forward difference",
        ),
        (
            f"Seconds, distilled, {count_steps(steps.distilled)}",
            f"{seconds.distilled:.4f}",
            "measured",
            timing("distilled"),
        ),
        ("Seconds, head", f"{seconds.head:.4f}", "measured", timing("head")),
        (
            f"Seconds, baseline, {count_steps(steps.baseline)}",
            f"{seconds.baseline:.4f}",
            "measured",
            timing("baseline"),
        ),
        (
            f"TFLOP, distilled, {count_steps(steps.distilled)}",
            format_tflop(tflop.distilled),
            "computed",
            "whole pipeline",
        ),
        ("TFLOP, head", format_tflop(tflop.head), "computed", ""),
        (f"TFLOP, baseline, {count_steps(steps.baseline)}", format_tflop(tflop.baseline), "computed", "whole pipeline"),
    ]
    return "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)


def _control(proof: Proof) -> str:
    control = proof.settings["control"]
    return (
        f"amount {control['amount']:.2f}, sigma {control['sigma_px']:g} px, fitted to the baseline's gradient energy "
        f"on the first {control['calibration_images']} of these subjects (in the control's favour)"
    )


def _statement(proof: Proof) -> str:
    net, machine, settings = proof.features, proof.hardware, proof.settings
    rough = (
        ""
        if proof.n >= ENOUGH_IMAGES
        else f" {proof.n} images are few for set distances: quote N >= {ENOUGH_IMAGES:,}."
    )
    unseen = ", never used by a loss" if net.net == "eval" else ""
    threads = f"{machine['cores']} cores, {machine['torch_threads']} torch threads"
    return (
        f"This page is about the model pair {proof.pair} at {settings['width_px']}x{settings['height_px']} px alone. "
        f"N = {proof.n:,} subjects (a prompt and a seed each). Set distances are Fréchet distances of the feature net "
        f"{net.net} ({net.digest}, {net.dimensions} dimensions{unseen}); the floor is the baseline "
        f"against itself on the same prompts at other seeds.{rough} TFLOP are computed from the networks' shapes "
        f"(2 FLOP per multiply-add), for the whole pipeline: text encoders, steps, decode, head. Seconds are measured "
        f"medians per image in batches of {settings['batch_size']} on {machine['gpu'] or machine['cpu']}, {threads}; "
        f"the stages took turns."
    )


def _repeat(proof: Proof) -> dict[str, object]:
    """The settings shown on the page: all but the long tables that the page already has."""
    hidden = ("cost", "frechet_intervals", "seconds_spread", "gradient_energy", "baseline_at_28_steps")
    kept = {name: value for name, value in proof.settings.items() if name not in hidden}
    return {"versions": proof.versions, "hardware": proof.hardware, **kept}


def _licences(licences: tuple[Licence, Licence]) -> str:
    parts = []
    for side, licence in zip(("distilled", "baseline"), licences, strict=True):
        link = _safe(licence.name)
        if licence.url.startswith("https://"):
            link = f'<a href="{_safe(licence.url)}">{link}</a>'
        parts.append(f"<li>{side}: {link}{'. ' + _safe(licence.note) if licence.note else ''}</li>")
    return "".join(parts)


def _prose(text: str) -> str:
    """Escaped text whose per cent signs stay on the line of their number."""
    return _safe(text).replace(" %", "&nbsp;%")


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
