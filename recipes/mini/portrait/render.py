"""From words and a seed to a picture: all parts of the portrait in one Blender scene, rendered with Cycles."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from PIL import Image

from recipes.mini.portrait.backdrop import add_backdrop
from recipes.mini.portrait.brows import add_brows, add_lashes, sample_brows, sample_lashes
from recipes.mini.portrait.camera import add_camera, aim_camera
from recipes.mini.portrait.clothes import add_clothes, sample_clothes
from recipes.mini.portrait.eyes import add_eyes
from recipes.mini.portrait.facial_hair import add_facial_hair, sample_facial_hair
from recipes.mini.portrait.glasses import add_glasses, sample_glasses
from recipes.mini.portrait.hair import add_hair, sample_hair
from recipes.mini.portrait.head import Head, make_head
from recipes.mini.portrait.lights import add_lights
from recipes.mini.portrait.mouth import add_teeth
from recipes.mini.portrait.skin import add_skin
from recipes.mini.portrait.subject import Subject, part_rng, sample_subject
from recipes.mini.portrait.words import Words

_DRESSING: tuple[tuple[str, Callable, Callable], ...] = (
    ("hair", sample_hair, add_hair),
    ("brows", sample_brows, add_brows),
    ("lashes", sample_lashes, add_lashes),
    ("facial_hair", sample_facial_hair, add_facial_hair),
    ("clothes", sample_clothes, add_clothes),
    ("glasses", sample_glasses, add_glasses),
)
"""Parts that a subject wears: each draws its shape and its strands from generators of its own."""

SIZE_PX = 192
SAMPLES = 8


@dataclass(frozen=True)
class Portrait:
    """A picture and where its landmarks are."""

    image: np.ndarray
    """(H, W, 3) uint8 sRGB."""
    landmarks: np.ndarray
    """(68, 2) float32 pixels, x to the right and y down from the top left corner; see `anatomy.landmark_ids`."""
    subject: Subject

    @property
    def identity(self) -> np.ndarray:
        """Numbers of the person."""
        return self.subject.identity_vector()

    @property
    def scene(self) -> np.ndarray:
        """Numbers of the occasion."""
        return self.subject.scene_vector()


def render_portrait(words: Words, seed: int, size_px: int = SIZE_PX) -> Portrait:
    """The portrait that ``words`` and ``seed`` determine."""
    subject = sample_subject(words, seed)
    head = make_head(subject)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    build_scene(head, subject)
    landmarks = aim_camera(head, subject).project(head.landmarks(), size_px).astype(np.float32)
    return Portrait(image=_render(size_px, seed), landmarks=landmarks, subject=subject)


def build_scene(head: Head, subject: Subject) -> None:
    """Add every part of the portrait to the current scene."""
    words, seed = subject.words, subject.seed
    camera = aim_camera(head, subject)
    add_camera(camera)
    add_lights(head, subject, camera)
    add_backdrop(subject, part_rng(seed, "backdrop canvas"))
    add_skin(head, subject, part_rng(seed, "skin texture"))
    add_eyes(head, subject, camera, part_rng(seed, "iris"))
    add_teeth(head, part_rng(seed, "teeth"))
    for part, sample, add in _DRESSING:
        add(head, sample(words, part_rng(seed, part)), part_rng(seed, f"{part} strands"))


def _render(size_px: int, seed: int) -> np.ndarray:
    """The current scene's picture, (H, W, 3) uint8; ``seed`` is that of the sampling noise."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = SAMPLES
    cycles.use_adaptive_sampling = False
    cycles.use_light_tree = False
    # few samples and a denoiser that knows colours and normals: what is lost lies below the later 128 px
    cycles.use_denoising = True
    cycles.denoising_quality = "HIGH"
    cycles.denoising_prefilter = "FAST"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 2, 2
    cycles.transparent_max_bounces = 8
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    cycles.sample_clamp_direct = 12.0
    cycles.seed = seed % 2**31
    scene.render.resolution_x = scene.render.resolution_y = size_px
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Punchy"
    scene.view_settings.exposure = 0.75
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.compression = 0
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "portrait.png")
        bpy.ops.render.render(write_still=True)
        with Image.open(scene.render.filepath) as picture:
            return np.asarray(picture.convert("RGB"))
