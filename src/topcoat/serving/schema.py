"""The OpenAI Images convention as it is served: what a request may say, and what an answer says."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import pydantic

from topcoat.config import StrictModel
from topcoat.errors import UsageError
from topcoat.runtime.runner import MAX_STRENGTH
from topcoat.seeds import MAX_SEED
from topcoat.serving.work import Answer, Catalogue, EnhanceSettings, Gating, GenerateSettings, Side, Subject

_CHARACTERS = 8192  # of a prompt
_RANDOM_SEEDS = 2**31

OutputFormat = Literal["png", "jpeg", "webp", "avif"]


class _Common(StrictModel):
    """What both requests share; null stands for what is not given."""

    model: str | None = pydantic.Field(None, description="A name of /v1/models.")
    n: int | None = pydantic.Field(None, ge=1, description="How many images.")
    size: str | None = pydantic.Field(None, pattern=r"^(auto|[0-9]{1,5}x[0-9]{1,5})$", description="auto, or 1024x768.")
    response_format: Literal["b64_json", "url"] | None = pydantic.Field(None, description="b64_json alone is served.")
    output_format: OutputFormat | None = pydantic.Field(None, description="png by default.")
    output_compression: int | None = pydantic.Field(
        None, ge=0, le=100, description="Quality of jpeg, webp and avif; webp is lossless without it."
    )
    background: Literal["auto", "opaque", "transparent"] | None = None
    stream: bool | None = None
    partial_images: int | None = pydantic.Field(None, ge=0, le=3)
    quality: str | None = pydantic.Field(None, max_length=64, description="Accepted, changes nothing.")
    style: str | None = pydantic.Field(None, max_length=64, description="Accepted, changes nothing.")
    moderation: str | None = pydantic.Field(None, max_length=64, description="Accepted, changes nothing.")
    input_fidelity: str | None = pydantic.Field(None, max_length=64, description="Accepted, changes nothing.")
    user: str | None = pydantic.Field(None, max_length=256, description="Accepted, changes nothing.")
    safety_identifier: str | None = pydantic.Field(None, max_length=256, description="Accepted, changes nothing.")
    head: str | None = pydantic.Field(None, max_length=256, description="A served head; none for the distilled images.")
    strength: Annotated[float, pydantic.Field(ge=0, le=MAX_STRENGTH)] | None = pydantic.Field(
        None, description="Of the head: 0 changes nothing, 1 is the trained amount."
    )
    identity_floor: Annotated[float, pydantic.Field(ge=-1, le=1)] | Literal["calibrated"] | None = pydantic.Field(
        None, description="Gate: lower the strength until the cosine of identity is at least this."
    )
    never_worse: bool | None = pydantic.Field(None, description="Gate: keep the image where the head makes it worse.")

    @property
    def gating(self) -> Gating:
        """The gates that are asked for."""
        return Gating(self.identity_floor, bool(self.never_worse))

    @property
    def format_name(self) -> OutputFormat:
        """Of the answer."""
        return self.output_format or "png"

    @property
    def encoding_quality(self) -> int | None:
        """Of the answer; raises `UsageError` for one of a format that is lossless."""
        if self.output_compression is None or (self.format_name == "png" and self.output_compression == 100):
            return None
        if self.format_name == "png":
            raise UsageError("PNG is lossless, so output_compression has no place; leave it out, or ask for jpeg")
        return max(1, self.output_compression)

    @property
    def ignored(self) -> list[str]:
        """Fields that were given and change nothing."""
        names = ("quality", "style", "moderation", "input_fidelity", "user", "safety_identifier")
        return [name for name in names if getattr(self, name) is not None]

    def check_common(self) -> None:
        """Raise `UsageError` for what the convention has and this server has not."""
        if self.response_format == "url":
            raise UsageError("response_format url is not served, because no picture is kept; ask for b64_json")
        if self.background == "transparent":
            raise UsageError("background transparent is not possible; use auto or opaque")
        if self.stream or self.partial_images:
            raise UsageError("stream and partial_images are not served; leave them out")


class GenerateBody(_Common):
    """``POST /v1/images/generations``."""

    prompt: str = pydantic.Field(min_length=1, max_length=_CHARACTERS)
    seed: int | None = pydantic.Field(
        None, ge=0, le=MAX_SEED, description="Of the first image, the next has one more; a random one by default."
    )
    num_inference_steps: int | None = pydantic.Field(None, ge=1, description="Of the diffusion model.")
    guidance_scale: Annotated[float, pydantic.Field(ge=0, le=100)] | None = None
    negative_prompt: str | None = pydantic.Field(None, max_length=_CHARACTERS)

    def subjects(self) -> list[Subject]:
        """One for each image; without a seed they are random, and said in the answer."""
        first = secrets.randbelow(_RANDOM_SEEDS) if self.seed is None else self.seed
        return [Subject(self.prompt, first + number) for number in range(self.n or 1)]

    def settings(self, catalogue: Catalogue) -> GenerateSettings:
        """How the models are called; raises `UsageError` for what is not served."""
        self.check_common()
        return GenerateSettings(
            side=side_of(self.model, catalogue),
            head="default" if self.head is None else self.head,
            strength=1.0 if self.strength is None else self.strength,
            steps=self.num_inference_steps,
            size_px=size_of(self.size),
            guidance_scale=self.guidance_scale,
            negative_prompt=self.negative_prompt or None,
            gating=self.gating,
        )


class EditFields(_Common):
    """``POST /v1/images/edits``, without its files."""

    prompt: str | None = pydantic.Field(None, max_length=_CHARACTERS, description="Accepted, changes nothing.")

    def settings(self, catalogue: Catalogue) -> EnhanceSettings:
        """How the head is called; raises `UsageError` for what is not served."""
        self.check_common()
        if self.n not in (None, 1):
            raise UsageError("n is 1 for an edit, because a head has one result; send more pictures instead")
        names = [head.name for head in catalogue.heads]
        named = self.model if self.model in names else None
        if named is None:
            side_of(self.model, catalogue)
        head = self.head or named or next((head.name for head in catalogue.heads if head.edits), "none")
        return EnhanceSettings(head, 1.0 if self.strength is None else self.strength, self.gating)


class ModelNotFoundError(UsageError):
    """A model that was not started."""


def model_names(catalogue: Catalogue) -> dict[str, Side | None]:
    """The names that `model` may have, and which side of the pair each is; None for a head, which edits."""
    names: dict[str, Side | None] = {}
    if catalogue.pair is not None:
        names[catalogue.pair.name] = "distilled"
        if catalogue.baseline:
            names[f"{catalogue.pair.name}-baseline"] = "baseline"
    return names | {head.name: None for head in catalogue.heads if head.edits}


def side_of(model: str | None, catalogue: Catalogue) -> Side:
    """The side of the pair that ``model`` names; raises `ModelNotFoundError` for another name."""
    names = model_names(catalogue)
    side = "distilled" if model is None else names.get(model)
    if side is None:
        known = ", ".join(name for name, side in names.items() if side is not None) or "none is served to generate"
        raise ModelNotFoundError(f"the model {str(model)[:80]!r} is not served here; use one of: {known}")
    return side


def size_of(text: str | None) -> tuple[int, int] | None:
    """``1024x768`` as width and height, None for ``auto``."""
    if text in (None, "auto"):
        return None
    width, height = str(text).split("x")
    return int(width), int(height)


def answer_body(answer: Answer, model: str, ignored: Sequence[str]) -> bytes:
    """An answer as JSON: OpenAI's fields, and in ``topcoat`` what only this server says."""
    first = answer.images[0]
    head = None if answer.head is None else {"name": answer.head.name, "digest": answer.head.digest}
    images = [
        {
            "seed": image.seed,
            "size_px": list(image.size_px),
            "strength": image.strength,
            "gate": None if image.decision is None else asdict(image.decision),
            "notes": list(image.notes),
        }
        for image in answer.images
    ]
    body: dict[str, Any] = {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": first.format.name,
        "size": f"{first.size_px[0]}x{first.size_px[1]}",
        "data": [{"b64_json": base64.b64encode(image.content).decode()} for image in answer.images],
        "topcoat": {
            "model": model,
            "head": head,
            "steps": answer.steps,
            "images": images,
            "batch_images": answer.batch_images,
            "seconds": asdict(answer.seconds),
            "cost_per_image": None if answer.cost is None else {"kind": "computed", **asdict(answer.cost)},
            "ignored": list(ignored),
        },
    }
    return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
