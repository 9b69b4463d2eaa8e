"""Hair, brows and beard of the portraits: what needs numpy alone."""

import numpy as np
import pytest

pytest.importorskip("bpy")

from recipes.mini.portrait.curves import sample_pigment, taper
from recipes.mini.portrait.facial_hair import beard_region, moustache_region, sample_facial_hair
from recipes.mini.portrait.hair import sample_hair
from recipes.mini.portrait.radial import radial_surface
from recipes.mini.portrait.scalp import SKULL, Hairline, Skin, edge_distance
from recipes.mini.portrait.strands import cut_below
from recipes.mini.portrait.words import PORTRAIT_VOCABULARY, sample_words


def sphere(radius: float = 1.0, rows: int = 24, columns: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and quads (Q, 4) of a sphere."""
    height = np.linspace(-np.pi / 2 + 0.01, np.pi / 2 - 0.01, rows)[:, None]
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    points = np.stack([np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.sin(height) + 0 * angle], -1)
    ids = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(ids, -1, axis=1)
    quads = np.stack([ids[:-1], right[:-1], right[1:], ids[1:]], -1).reshape(-1, 4)
    return radius * points.reshape(-1, 3), quads


def test_radial_surface_knows_a_sphere_and_pushes_points_out_of_it():
    vertices, quads = sphere(1.5)
    surface = radial_surface(vertices + SKULL, quads, SKULL)
    points = SKULL + np.random.default_rng(0).normal(size=(200, 3))
    np.testing.assert_allclose(surface.at(points), 1.5, atol=0.02)
    pushed = surface.push_out(points, 0.1)
    distance = np.linalg.norm(pushed - SKULL, axis=1)
    assert (distance > 1.58).all()
    outside = np.linalg.norm(points - SKULL, axis=1) > 1.65
    np.testing.assert_allclose(pushed[outside], points[outside])


def test_hair_grows_on_the_crown_and_neither_on_face_nor_neck():
    crown, nape, forehead, cheek, neck = points = np.array(
        [[0.0, 1.3, 1.9], [0.0, 2.8, 0.0], [0.0, -0.4, 0.8], [0.9, 0.2, -0.6], [0.0, 2.3, -1.6]]
    )
    assert (edge_distance(points, Hairline()) > 0).tolist() == [True, True, False, False, False]
    assert len({tuple(p) for p in (crown, nape, forehead, cheek, neck)}) == 5


def test_a_receding_hairline_leaves_more_forehead():
    temple = np.array([[0.55, -0.05, 1.22], [-0.55, -0.05, 1.22]])
    full, receding = edge_distance(temple, Hairline()), edge_distance(temple, Hairline(recession=1.0))
    assert (receding < full).all()
    np.testing.assert_allclose(receding[0], receding[1])


def test_beard_and_moustache_leave_lips_nose_and_cheeks_free():
    lips = np.array([[x, -0.5, -1.16] for x in (-0.3, 0.0, 0.3)])
    nose, cheek, brow = np.array([[0.0, -0.7, -0.6]]), np.array([[0.6, -0.1, -0.5]]), np.array([[0.5, -0.3, 0.35]])
    for free in (lips, nose, cheek, brow):
        assert beard_region(free).max() < 0.05
        assert moustache_region(free).max() < 0.05
    assert beard_region(np.array([[0.0, -0.3, -1.75], [0.75, 0.2, -1.25]])).min() > 0.8
    assert moustache_region(np.array([[0.15, -0.55, -0.9]])).min() > 0.8


def test_strands_are_cut_at_their_height_and_keep_their_roots():
    down = np.linspace(0.0, -4.0, 9)
    strands = np.stack([np.zeros((5, 9)), np.zeros((5, 9)), np.tile(down, (5, 1))], axis=-1)
    height = np.array([-1.25, -2.0, -3.9, -9.0, -1.0])
    cut = cut_below(strands, height)
    np.testing.assert_allclose(cut[:, 0], strands[:, 0])
    np.testing.assert_allclose(cut[:, -1, 2], [-1.25, -2.0, -3.9, -4.0, -1.0], atol=1e-6)


def test_roots_lie_on_their_triangles():
    corners = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 5], [1, 0, 5], [0, 1, 5]]])
    up = np.tile(np.array([0.0, 0, 1]), (2, 3, 1))
    skin = Skin(corners, up, corners + 10, np.full(2, 0.5))
    roots = skin.scatter(50, np.array([0.0, 1.0]), np.random.default_rng(0))
    np.testing.assert_allclose(roots.points[:, 2], 5.0)
    np.testing.assert_allclose(roots.reference, roots.points + 10)
    assert len(skin.scatter(50, np.zeros(2), np.random.default_rng(0)).points) == 0


@pytest.mark.parametrize("style", PORTRAIT_VOCABULARY["hair_style"])
def test_every_style_can_be_drawn_and_depends_on_the_generator_alone(style: str) -> None:
    import dataclasses

    words = dataclasses.replace(sample_words(3, 1), hair_style=style)
    one, two = (sample_hair(words, np.random.default_rng(5)) for _ in range(2))
    assert one == two
    assert (one.growth is None) == (style == "bald")
    if one.growth:
        assert one.growth.top > 0
        assert 2500 <= one.count <= 5000


def test_pigments_are_ordered_as_their_names_say():
    def light(color: str) -> float:
        return float(np.mean([np.mean(sample_pigment(color, np.random.default_rng(i)).mean) for i in range(20)]))

    assert light("black") < light("brown") < light("blond") < light("white")
    assert light("black") < light("grey") < light("white")
    red, green, blue = sample_pigment("red", np.random.default_rng(0)).mean
    assert red > 2 * green > 2 * blue


def test_women_draw_no_beard_and_stubble_is_short():
    for index in range(200):
        words = sample_words(index, 2)
        hair = sample_facial_hair(words, np.random.default_rng(index))
        if words.gender == "woman":
            assert hair.kind == "none"
        if hair.kind == "stubble":
            assert hair.length < 0.1


def test_strands_taper_towards_their_tips():
    radii = taper(3, np.array([1.0, 2.0, 3.0]), 5, tip=0.25)
    assert radii.shape == (3, 5)
    np.testing.assert_allclose(radii[:, 0], [1, 2, 3])
    np.testing.assert_allclose(radii[:, -1], [0.25, 0.5, 0.75])
    assert (np.diff(radii, axis=1) < 0).all()
