"""Published nets by name, as ``--features`` and ``--quality`` take them: DINOv2, CLIP, CLIP-IQA and Inception.

DINOv2 and CLIP come through transformers, with topcoat's own resizing: images are resized to the net's square with
antialiased bicubic interpolation, whatever their shape, and normalised with the net's own mean and standard deviation.
One resize for every set is what makes their distances comparable (Parmar et al. 2022, arXiv 2104.11222).
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from topcoat import hub
from topcoat.errors import ModelError, UsageError
from topcoat.features.net import FeatureNet, Features, load_feature_net

FEATURE_NETS = ("mini", "dinov2", "clip", "inception")
"""Names of `feature_net`; the middle two also take a model of their kind, as in ``dinov2:facebook/dinov2-large``."""

HubKind = Literal["dinov2", "clip"]

DEFAULT_MODELS: Mapping[HubKind, str] = {
    "dinov2": "facebook/dinov2-base",
    "clip": "openai/clip-vit-large-patch14-336",  # the model of CMMD
}
_CLASSES: Mapping[HubKind, str] = {"dinov2": "Dinov2Model", "clip": "CLIPVisionModelWithProjection"}
_MODEL_TYPES: Mapping[HubKind, tuple[str, ...]] = {"dinov2": ("dinov2",), "clip": ("clip", "clip_vision_model")}
_MEAN_AND_STD: Mapping[HubKind, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
_DINOV2_SIDE_PX = 224
"""DINOv2's configs name the size of its last training stage (518 px); features are customarily taken at 224."""
PREPROCESSING = "antialiased bicubic to a square, 1"
"""Part of the digest: features made in another way must not be taken for these."""
_QUALITY_MODEL = "openai/clip-vit-base-patch16"
QUALITY_PROMPTS = ("Good photo.", "Bad photo.")
"""The prompts of CLIP-IQA (Wang, Chan and Loy 2023, arXiv 2207.12396), section 3.1."""
_INCEPTION_LAYER = "2048"


def feature_net(name: str = "mini") -> FeatureNet | HubFeatureNet | InceptionNet:
    """The net for evaluation called ``name``: ``mini`` is embedded, the others are fetched or read from a folder.

    ``dinov2`` and ``clip`` can be followed by a colon and a local folder or hub id. The net for losses has no name
    here: no head is evaluated by the net it was trained against. Raises `UsageError` for an unknown name,
    `ModelError` where weights or packages cannot be loaded.
    """
    kind, _, source = name.partition(":")
    if kind == "mini" and not source:
        return load_feature_net("eval")
    if kind == "dinov2" or kind == "clip":
        return HubFeatureNet.load(kind, source or None)
    if kind == "inception" and not source:
        return InceptionNet.load()
    close = difflib.get_close_matches(kind, FEATURE_NETS, n=1)
    hint = f", did you mean {close[0]}?" if close and close[0] != name else ""
    raise UsageError(f"no feature net is called {name!r}; use one of: {', '.join(FEATURE_NETS)}{hint}")


def quality_net(name: str) -> ClipQuality:
    """The quality net called ``name``: ``clip``, or ``clip:`` and a local folder or hub id.

    Raises `UsageError` for an unknown name, `ModelError` where the weights cannot be loaded.
    """
    kind, _, source = name.partition(":")
    if kind != "clip":
        raise UsageError(f"no quality net is called {name!r}; use clip, or clip: and a folder or hub id")
    return ClipQuality.load(source or None)


class HubFeatureNet:
    """A vision transformer as a feature net; call it with images ``(N, 3, H, W)`` in [0, 1] for `Features`.

    The embedding is the class token (DINOv2) or the projected image embedding (CLIP), the identity vector the same at
    unit length, and the only stage the map of patch tokens.
    """

    def __init__(self, model: nn.Module, kind: HubKind, side_px: int) -> None:
        self.kind: HubKind = kind
        self.side_px = side_px
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().requires_grad_(False).to(self.device)
        self.digest = weights_digest(model.state_dict(), f"{PREPROCESSING}, {kind}, {side_px} px")

    @classmethod
    def load(cls, kind: HubKind, source: str | None = None) -> HubFeatureNet:
        """The net in a local folder or hub repository ``source``; the kind's usual one by default.

        Raises `ModelError` where the weights cannot be loaded.
        """
        source = source or DEFAULT_MODELS[kind]
        with loading(kind, source, "use --features mini"):
            model = load_model(kind, _CLASSES[kind], source)
            side_px = side_of(model.config.image_size)
            if kind == "dinov2":
                patch_px = side_of(model.config.patch_size)
                side_px = max(patch_px, min(_DINOV2_SIDE_PX, side_px) // patch_px * patch_px)
        return cls(model, kind, side_px)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        pixels = prepared(images.to(self.device, torch.float32), self.kind, self.side_px)
        output: Any = self._model(pixel_values=pixels)
        tokens = output.last_hidden_state[:, 1:]  # (N, patches, C), without the class token
        embedding = output.pooler_output if self.kind == "dinov2" else output.image_embeds
        side = round(tokens.shape[1] ** 0.5)
        stage = tokens.transpose(1, 2).unflatten(2, (side, side))
        return Features((stage,), embedding, functional.normalize(embedding, dim=1))


class ClipQuality:
    """Quality without a reference, by CLIP-IQA; ``texts`` are the token ids ``(2, L)`` of the good and the bad prompt.

    The quality is the softmax of CLIP's similarities to the two. Unlike the paper, images are resized to the net's
    square and its positional embedding stays.
    """

    def __init__(self, model: nn.Module, texts: Tensor, side_px: int) -> None:
        self.side_px = side_px
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().requires_grad_(False).to(self.device)
        self._texts = texts.to(self.device)
        self.digest = weights_digest(model.state_dict(), f"{PREPROCESSING}, {QUALITY_PROMPTS}, {side_px} px")

    @classmethod
    def load(cls, source: str | None = None) -> ClipQuality:
        """CLIP from a local folder or hub repository ``source``; raises `ModelError` where it cannot be loaded."""
        source = source or _QUALITY_MODEL
        with loading("clip", source, "leave --quality out"):
            from transformers import AutoTokenizer

            model = load_model("clip", "CLIPModel", source)
            tokenizer = AutoTokenizer.from_pretrained(source)
            texts = tokenizer(list(QUALITY_PROMPTS), padding=True, return_tensors="pt")["input_ids"]
            side_px = side_of(model.config.vision_config.image_size)
        return cls(model, texts, side_px)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Qualities ``(N,)`` in [0, 1] of images ``(N, 3, H, W)`` in [0, 1], on the CPU."""
        pixels = prepared(images.to(self.device, torch.float32), "clip", self.side_px)
        output: Any = self._model(input_ids=self._texts, pixel_values=pixels)
        return output.logits_per_image.softmax(dim=1)[:, 0].cpu()


class InceptionNet:
    """FID's network as torch-fidelity ports it; call it with images ``(N, 3, H, W)`` in [0, 1] for `Features`.

    It is for comparison with old papers and needs the extra ``inception``. It reads 8-bit values and resizes by itself,
    as FID does. It has no feature maps for a perceptual distance.
    """

    def __init__(self, extractor: Any) -> None:
        self._extractor = extractor.eval().requires_grad_(False)
        self.digest = weights_digest(extractor.state_dict(), f"inception {_INCEPTION_LAYER}")

    @classmethod
    def load(cls) -> InceptionNet:
        """Fetch the published weights; raises `ModelError` where the package or the weights cannot be loaded."""
        try:
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError:
            raise ModelError(
                "the feature net inception needs torch-fidelity, which is not installed; run "
                "pip install 'topcoat[inception]' beside a torchvision that fits your torch, or use --features mini"
            ) from None
        try:
            return cls(module.FeatureExtractorInceptionV3("inception-v3-compat", [_INCEPTION_LAYER]))
        except (OSError, RuntimeError) as error:
            detail = hub.first_line(error)
            raise ModelError(
                f"the weights of inception cannot be loaded ({detail}); connect to fetch them once"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        embedding = self._extractor(pixels)[0].float()
        return Features((), embedding, functional.normalize(embedding, dim=1))


def prepared(images: Tensor, kind: HubKind, side_px: int) -> Tensor:
    """Images ``(N, 3, H, W)`` in [0, 1] as a net of this kind takes them: resized to its square and normalised."""
    if tuple(images.shape[-2:]) != (side_px, side_px):
        images = functional.interpolate(images, size=(side_px, side_px), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(part, device=images.device).view(1, 3, 1, 1) for part in _MEAN_AND_STD[kind])
    return (images - mean) / std


def weights_digest(weights: Mapping[str, Tensor], settings: str) -> str:
    """16 hex digits that change with any weight or with ``settings``."""
    digest = hashlib.sha256(settings.encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def loading(kind: HubKind, source: str, otherwise: str) -> Iterator[None]:
    """Turn any failure to load weights into one `ModelError`; ``otherwise`` is what to do without them."""
    what = f"the {kind} weights"
    hub.check_source(source, what)
    try:
        yield
    except Exception as error:  # hub, network, cache and model errors have no common base
        raise ModelError(hub.load_error(error, what, source, otherwise=otherwise)) from error


def load_model(kind: HubKind, class_name: str, source: str) -> Any:
    """The model of that class of transformers, in float32; raises `ValueError` for weights of another architecture.

    transformers itself would fill the missing weights with noise and go on.
    """
    import transformers

    model_type = str(transformers.AutoConfig.from_pretrained(source).model_type)
    if model_type not in _MODEL_TYPES[kind]:
        raise ValueError(f"it holds a {model_type} model")
    model_class = getattr(transformers, class_name)
    config = model_class.config_class.from_pretrained(source)  # the vision part, where the folder holds more
    return model_class.from_pretrained(source, config=config, use_safetensors=True, dtype=torch.float32)


def side_of(size_px: object) -> int:
    """A config's size in px; raises `ValueError` for one that is not square."""
    if isinstance(size_px, int):
        return size_px
    raise ValueError(f"its size {size_px} is not that of a square")
