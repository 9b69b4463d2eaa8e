"""The nets that can judge images, by short name, hub id or folder: what ``--features`` and ``--identity`` take.

Nets of transformers are read by the class that the folder's ``config.json`` names, with topcoat's own resizing: images
are resized to the net's square with antialiased bicubic interpolation, whatever their shape, and normalised with the
net's own mean and standard deviation. One resize for every set is what makes their distances comparable (Parmar et al.
2022, arXiv 2104.11222).
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from topcoat import hub
from topcoat.errors import ModelError, UsageError
from topcoat.features.face import OnnxFaceNet, find_onnx
from topcoat.features.net import WORKING_PX, Features, load_feature_net, weights_digest, whole

MeanAndStd = tuple[Sequence[float], Sequence[float]]
"""Of each colour, of images in [0, 1]."""

_IMAGENET: MeanAndStd = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP: MeanAndStd = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, slots=True)
class NetKind:
    """One line of `NETS`."""

    model: str
    """The hub id that the short name stands for; empty for a net that is not of the hub."""
    class_name: str = "AutoModel"
    """Its class in transformers."""
    model_types: tuple[str, ...] = ()
    """As ``config.json`` calls them; none for any net that reads images."""
    mean_and_std: MeanAndStd | None = None
    """None for those of the folder's ``preprocessor_config.json``."""


NETS: Mapping[str, NetKind] = {
    "embedded": NetKind(""),
    "dinov2": NetKind("facebook/dinov2-base", "Dinov2Model", ("dinov2",), _IMAGENET),
    "clip": NetKind(  # the model of CMMD
        "openai/clip-vit-large-patch14-336", "CLIPVisionModelWithProjection", ("clip", "clip_vision_model"), _CLIP
    ),
    "inception": NetKind(""),
    "face": NetKind("fal/AuraFace-v1"),
}
"""Every net that judges images. ``dinov2``, ``clip`` and ``face`` take a source, as in ``face:FOLDER``; a hub id or a
folder alone is read as what its ``config.json`` says."""
FEATURE_NETS = tuple(NETS)
_OTHER = NetKind("")
_OLD_NAMES = {"mini": "embedded"}
_DINOV2_SIDE_PX = 224
"""DINOv2's configs name the size of its last training stage (518 px); features are customarily taken at 224."""
PREPROCESSING = "antialiased bicubic to a square, 1"
"""Part of the digest: features made in another way must not be taken for these."""
_INCEPTION_LAYER = "2048"


class FeatureNetLike(Protocol):
    """What evaluation, gates and validation ask of a feature net; every net here is one."""

    digest: str

    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        ...


def feature_net(
    features: str = "embedded", identity: str | None = None, *, embedded: Literal["loss", "eval"] = "eval"
) -> FeatureNetLike:
    """The net called ``features``, its identity vectors made by the one called ``identity`` where that is another.

    A name is one of `NETS`, one with a colon and a folder or hub id, or a folder or hub id. ``embedded`` says which of
    the two embedded nets is meant: no head is evaluated by the net for losses, which training and gates use. Raises
    `UsageError` for an unknown name, `ModelError` where weights or packages cannot be loaded.
    """
    net = _net(features, embedded)
    return net if identity in (None, features) else WithIdentity(net, _net(str(identity), embedded))


def open_net(features: str | FeatureNetLike, identity: str | None = None) -> tuple[FeatureNetLike, str]:
    """The net of `feature_net` for evaluation, and what reports call it; a net that is given is called ``custom``."""
    if isinstance(features, str):
        name, net = _OLD_NAMES.get(features, features), feature_net(features)
    else:
        name, net = "custom", features
    if identity is None or _OLD_NAMES.get(identity, identity) == name:
        return net, name
    return WithIdentity(net, feature_net(identity)), f"{name}, identity {identity}"


def domain_flags(net: Any, pair: str | None, width_px: int = 0, height_px: int = 0) -> list[str]:
    """A sentence where ``net`` judges images that it was not made for, else nothing.

    ``net`` is a net or its name; the embedded ones were made for the mini pair. ``pair`` is the name of the model pair
    where it is known; otherwise images of the mini pair's size are taken for its.
    """
    own = pair == "mini" if pair is not None else width_px == height_px == WORKING_PX
    if own or not (getattr(net, "made_for", "") or net == "embedded"):
        return []
    what = f"images of the pair {pair}" if pair is not None else f"images of {width_px}x{height_px} px"
    return [
        f"the embedded feature net was trained on the mini pair's rendered portraits of {WORKING_PX} px and judges "
        f"{what}, which it was not made for; take another net, such as --features dinov2 --identity face"
    ]


def _net(name: str, embedded: Literal["loss", "eval"]) -> FeatureNetLike:
    name = _OLD_NAMES.get(name, name)
    kind, _, source = name.partition(":")
    if name == "embedded":
        return load_feature_net(embedded)
    if name == "inception":
        return InceptionNet.load()
    known = kind in NETS and NETS[kind].model
    if known or (name and kind not in NETS and ("/" in name or Path(name).exists())):
        source = (source or NETS[kind].model) if known else name
        onnx = None if known and NETS[kind].model_types else find_onnx(source)
        return HubFeatureNet.load(kind if known else "", source) if onnx is None else OnnxFaceNet(onnx)
    close = difflib.get_close_matches(kind, FEATURE_NETS, n=1)
    hint = f", did you mean {close[0]}?" if close and close[0] != name else ""
    raise UsageError(
        f"no feature net is called {name!r}; use one of: {', '.join(FEATURE_NETS)}, a folder or a hub id{hint}"
    )


class WithIdentity:
    """Features of one net with the identity vectors of another."""

    def __init__(self, net: FeatureNetLike, identity: FeatureNetLike) -> None:
        self._net, self._identity = net, identity
        self.made_for = getattr(net, "made_for", "") or getattr(identity, "made_for", "")
        self.features_digest, self.identity_digest = net.digest, identity.digest
        self.digest = hashlib.sha256(f"{net.digest} {identity.digest}".encode()).hexdigest()[:16]

    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        return self._joined(self._net(images), images)

    def whole(self, images: Tensor) -> Features:
        """The same for callers that read no feature maps."""
        return self._joined(whole(self._net, images), images)

    def _joined(self, seen: Features, images: Tensor) -> Features:
        identity = whole(self._identity, images).identity
        return Features(seen.stages, seen.embedding, identity.to(seen.embedding.device))


class HubFeatureNet:
    """A net of transformers as a feature net; call it with images ``(N, 3, H, W)`` in [0, 1] for `Features`.

    The embedding is the projected image embedding (CLIP), else what the net pools, else its class token; the identity
    vector the same at unit length, and the only stage the map of patch tokens or of the last convolution.
    """

    def __init__(self, model: nn.Module, kind: str, side_px: int, mean_and_std: MeanAndStd | None = None) -> None:
        self.side_px = side_px
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pooled = getattr(model, "pooled", True)
        self._model = model.eval().requires_grad_(False).to(self.device)
        own = NETS[kind].mean_and_std if kind in NETS else None
        self._mean_and_std = mean_and_std or own or _IMAGENET
        values = "" if mean_and_std is None else f", {mean_and_std}"
        self.digest = weights_digest(f"{PREPROCESSING}, {kind}, {side_px} px{values}", model.state_dict())

    @classmethod
    def load(cls, kind: str, source: str | None = None) -> HubFeatureNet:
        """The net in a local folder or hub repository ``source``, by default that of ``kind``; "" reads any kind.

        Raises `ModelError` where the weights cannot be loaded.
        """
        source = source or NETS[kind].model
        with loading(kind or "feature net", source, "use --features embedded"):
            settings, kind = model_settings(source), kind if NETS.get(kind, _OTHER).model_types else ""
            kind = kind or next((name for name, one in NETS.items() if settings.model_type in one.model_types), "")
            model = load_model(kind, NETS.get(kind, _OTHER).class_name, source)
            if kind:
                side_px, mean_and_std = side_of(model.config.image_size), None
            else:
                side_px, mean_and_std = preparation(source)
            if kind == "dinov2":
                patch_px = side_of(model.config.patch_size)
                side_px = max(patch_px, min(_DINOV2_SIDE_PX, side_px) // patch_px * patch_px)
        return cls(model, kind, side_px, mean_and_std)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of images ``(N, 3, H, W)`` in [0, 1]."""
        pixels = resized(images.to(self.device, torch.float32), self.side_px, self._mean_and_std)
        output: Any = self._model(pixel_values=pixels)
        last: Tensor = output.last_hidden_state
        embedding = output.get("image_embeds")
        if embedding is None:
            embedding = output.get("pooler_output") if self._pooled else None
        if embedding is None:
            embedding = last[:, 0] if last.ndim == 3 else last.mean(dim=(2, 3))
        embedding = embedding.flatten(1)
        return Features(_map_of(last), embedding, functional.normalize(embedding, dim=1))


def _map_of(last: Tensor) -> tuple[Tensor, ...]:
    """The last layer as a map ``(N, C, h, w)``; none where its tokens are no square."""
    if last.ndim == 4:
        return (last,)
    side = int(last.shape[1] ** 0.5)  # of the patches: tokens before them stand for the whole image
    tokens = last[:, last.shape[1] - side * side :]
    return (tokens.transpose(1, 2).unflatten(2, (side, side)),) if last.shape[1] - side * side < 6 else ()


class InceptionNet:
    """FID's network as torch-fidelity ports it; call it with images ``(N, 3, H, W)`` in [0, 1] for `Features`.

    It is for comparison with old papers and needs the extra ``inception``. It reads 8-bit values and resizes by itself,
    as FID does. It has no feature maps for a perceptual distance.
    """

    def __init__(self, extractor: Any) -> None:
        self._extractor = extractor.eval().requires_grad_(False)
        self.digest = weights_digest(f"inception {_INCEPTION_LAYER}", extractor.state_dict())

    @classmethod
    def load(cls) -> InceptionNet:
        """Fetch the published weights; raises `ModelError` where the package or the weights cannot be loaded."""
        try:
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError:
            raise ModelError(
                "the feature net inception needs torch-fidelity, which is not installed; run "
                "pip install 'topcoat[inception]' beside a torchvision that fits your torch, or use --features embedded"
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


def resized(images: Tensor, side_px: int, mean_and_std: MeanAndStd) -> Tensor:
    """Images ``(N, 3, H, W)`` in [0, 1] resized to a square of ``side_px`` and normalised."""
    if tuple(images.shape[-2:]) != (side_px, side_px):
        images = functional.interpolate(images, size=(side_px, side_px), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(part, device=images.device).view(1, 3, 1, 1) for part in mean_and_std)
    return (images - mean) / std


def prepared(images: Tensor, kind: str, side_px: int) -> Tensor:
    """`resized` with the mean and standard deviation of a kind that has its own."""
    return resized(images, side_px, NETS[kind].mean_and_std or _IMAGENET)


@contextmanager
def loading(kind: str, source: str, otherwise: str) -> Iterator[None]:
    """Turn any failure to load weights into one `ModelError`; ``otherwise`` is what to do without them."""
    what = f"the {kind} weights"
    hub.check_source(source, what)
    try:
        yield
    except Exception as error:  # hub, network, cache and model errors have no common base
        raise ModelError(hub.load_error(error, what, source, otherwise=otherwise)) from error


def model_settings(source: str) -> Any:
    """The config of a folder or hub id in the format of transformers."""
    import transformers

    return transformers.AutoConfig.from_pretrained(source)


def load_model(kind: str, class_name: str, source: str) -> Any:
    """The model of that class of transformers, in float32; raises `ValueError` for weights of another architecture.

    transformers itself would fill the missing weights with noise and go on.
    """
    import transformers

    model_type, types = str(model_settings(source).model_type), NETS.get(kind, _OTHER).model_types
    if types and model_type not in types:
        raise ValueError(f"it holds a {model_type} model")
    model_class: Any = getattr(transformers, class_name)
    own: dict[str, Any] = {}
    if types:
        own["config"] = model_class.config_class.from_pretrained(source)  # the vision part, where there is more
    model = complete_model(model_class, source, **own)
    if model.main_input_name != "pixel_values" and not types:
        raise ValueError(f"it holds a {model_type} model, which reads no images")
    return model


def complete_model(model_class: Any, source: str, config: Any = None) -> Any:
    """A model of that class of transformers, in float32; raises `ValueError` where it lacks weights.

    A pooling layer may be missing, as it is in classifiers: ``pooled`` is then False.
    """
    given = {} if config is None else {"config": config}
    model, loaded = model_class.from_pretrained(
        source, **given, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(loaded["missing_keys"])
    model.pooled = not any("pooler" in name for name in missing)
    if lost := [name for name in missing if "pooler" not in name]:
        raise ValueError(f"it lacks {len(lost)} of the weights of a {type(model).__name__}, such as {lost[0]}")
    return model


def preparation(source: str) -> tuple[int, MeanAndStd]:
    """Side in px, mean and standard deviation in the ``preprocessor_config.json`` of a folder or hub id."""
    from transformers.image_processing_base import ImageProcessingMixin

    found: Mapping[str, Any] = ImageProcessingMixin.get_image_processor_dict(source)[0]
    size = found.get("crop_size") if found.get("do_center_crop") else None
    size = size or found.get("size")
    sides = set(size.values()) if isinstance(size, Mapping) else {size}
    mean, std = found.get("image_mean") or _IMAGENET[0], found.get("image_std") or _IMAGENET[1]
    if len(sides) != 1:
        raise ValueError(f"its size {size} is not that of a square")
    return side_of(sides.pop()), (tuple(mean), tuple(std))


def side_of(size_px: object) -> int:
    """A config's size in px; raises `ValueError` for one that is not square."""
    if isinstance(size_px, int):
        return size_px
    raise ValueError(f"its size {size_px} is not that of a square")
