"""``report.html``: one self-contained page, readable offline, on a phone and in the dark."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from PIL import Image
from torch import Tensor

from topcoat.cost import count_steps
from topcoat.evaluation.evaluate import ENOUGH_IMAGES
from topcoat.files import atomic_path
from topcoat.generators.base import Licence
from topcoat.images import encode_png, to_pil
from topcoat.proof.figures import cards, distance_chart, identity_chart, seconds_chart, table, tflop_chart
from topcoat.proof.record import Proof
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
        cards=cards(proof),
        distances=distance_chart(proof),
        identities=identity_chart(evidence.kept, evidence.same, evidence.different),
        tflop=tflop_chart(proof),
        seconds=seconds_chart(proof),
        table=table(proof),
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
