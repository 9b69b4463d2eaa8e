"""``report.html``: one self-contained page, readable offline, on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from torch import Tensor

from topcoat.cost import count_steps
from topcoat.files import write_text
from topcoat.generators.base import Licence
from topcoat.metrics.evaluate import ENOUGH_IMAGES
from topcoat.page import Subject, data_uri, document, gallery, prose, safe, settings, stage
from topcoat.proof.figures import cards, distance_chart, figures_table, identity_chart, seconds_chart, tflop_chart
from topcoat.proof.record import Proof
from topcoat.proof.store import to_floats

SUBJECTS = 12
"""Subjects shown: the first ones, as they were given, never picked."""


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
    write_text(path, render(proof, evidence))


def render(proof: Proof, evidence: Evidence) -> str:
    """The page as text."""
    template = Template(resources.files("topcoat.proof").joinpath("report.template.html").read_text(encoding="utf-8"))
    subjects = _subjects(proof, evidence)
    body = template.substitute(
        pair=safe(proof.pair),
        headline=prose(proof.headline),
        lead=safe(_lead(proof)),
        stage=stage(subjects, "The same prompt and seed: what is not in the slider."),
        cards=cards(proof),
        summary=prose(proof.summary()),
        shown=str(len(subjects)),
        gallery=gallery(subjects),
        statement=prose(_statement(proof)),
        distances=distance_chart(proof),
        identities=identity_chart(evidence.kept, evidence.same, evidence.different),
        tflop=tflop_chart(proof),
        seconds=seconds_chart(proof),
        table=figures_table(proof),
        settings=settings("Settings, versions and machine", _repeat(proof)),
        licences=_licences(evidence.licences),
    )
    return document(f"topcoat proof: {proof.pair}", body, slider=True)


def _subjects(proof: Proof, evidence: Evidence) -> list[Subject]:
    sets = {
        f"distilled, {count_steps(proof.steps.distilled)}": evidence.distilled,
        "distilled + head": evidence.enhanced,
        f"baseline, {count_steps(proof.steps.baseline)}": evidence.baseline,
    }
    return [
        Subject(
            images=[(name, data_uri(to_floats(images[index]))) for name, images in sets.items()],
            caption=f"seed {evidence.seeds[index]}: {evidence.prompts[index]}",
        )
        for index in range(min(SUBJECTS, len(evidence.prompts)))
    ]


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
        link = safe(licence.name)
        if licence.url.startswith("https://"):
            link = f'<a href="{safe(licence.url)}">{link}</a>'
        parts.append(f"<li>{side}: {link}{'. ' + safe(licence.note) if licence.note else ''}</li>")
    return "".join(parts)
