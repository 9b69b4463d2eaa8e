"""Labels of a crowded chart stay legible."""

from __future__ import annotations

from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text

from topcoat.frontier.labels import place_labels


def test_labels_overlap_neither_one_another_nor_the_points() -> None:
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.subplots()
    points = [(1.0, 1.0), (1.02, 0.98), (1.04, 1.0), (1.3, 0.99), (2.0, 0.2), (2.05, 0.2), (3.0, 2.0)]
    axes.scatter(*zip(*points, strict=True))
    place_labels(axes, [(f"setting number {n}", x, y) for n, (x, y) in enumerate(points)], points, lines=[points[:4]])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == len(points)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    places = axes.transData.transform(points)
    assert not any(box.contains(*place) for box in boxes for place in places)
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
