"""Labels of points that overlap neither one another nor the points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

_DIRECTIONS_DEGREES = (0, 180, 270, 90, 315, 225, 45, 135)
_DISTANCES_PT = (9, 20, 32, 46, 62, 80)
_ON_TEXT, _ON_LINE, _OUTSIDE = 100.0, 1.0, 1000.0
"""What it costs a label to lie on a point or another label, on a few pixels of a line, or outside the axes."""
_MARKER_PT = 4.5
_SAMPLE_PX = 4
_LEADER_PT = 10
"""A label farther from its point than this is joined to it by a line."""


def place_labels(
    axes: Any,
    labels: Sequence[tuple[str, float, float]],
    points: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Write each ``(text, x, y)`` beside its place, clear of all ``points`` ``(x, y)``, of ``lines`` through such
    points and of what was written before.

    The nearest free place is taken; where none is free, the nearest at all. The axes must have their final limits.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    pixels_per_pt = figure.dpi / 72
    obstacles = [(_around(axes.transData.transform(point), _MARKER_PT * pixels_per_pt), _ON_TEXT) for point in points]
    obstacles += [(_around(place, 1), _ON_LINE) for line in lines for place in _along(axes.transData.transform(line))]
    obstacles += [(text.get_window_extent(), _ON_TEXT) for text in axes.texts]
    frame = axes.get_window_extent()
    for text, x, y in labels:
        tried: list[tuple[float, int, Any, Any]] = []
        for distance, degrees in product(_DISTANCES_PT, _DIRECTIONS_DEGREES):
            label = _label(axes, text, (x, y), distance, math.radians(degrees))
            box = _extent(label)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            cost = sum(weight for other, weight in obstacles if box.overlaps(other)) + (0 if inside else _OUTSIDE)
            tried.append((cost, len(tried), label, box))
            if not cost:
                break
        _, _, best, box = min(tried, key=lambda item: item[:2])
        for _, _, label, _ in tried:
            if label is not best:
                label.remove()
        obstacles.append((box, _ON_TEXT))


def _label(axes: Any, text: str, place: tuple[float, float], distance: float, angle: float) -> Any:
    from matplotlib import rcParams

    across, up = math.cos(angle), math.sin(angle)
    line = {"arrowstyle": "-", "color": rcParams["text.color"], "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
    label = axes.annotate(
        text, place, xytext=(distance * across, distance * up), textcoords="offset points", fontsize=8,
        ha="left" if across > 0.5 else "right" if across < -0.5 else "center",
        va="bottom" if up > 0.5 else "top" if up < -0.5 else "center",
        arrowprops=line if distance > _LEADER_PT else None,
    )  # fmt: skip
    label.set_in_layout(False)
    return label


def _extent(label: Any) -> Any:
    """The box of an annotation's text in pixels, without its line."""
    from matplotlib.text import Text

    label.get_window_extent()  # puts the text in its place
    return Text.get_window_extent(label)


def _along(places: Any) -> list[tuple[float, float]]:
    """Places a few pixels apart on the line through ``places``."""
    found: list[tuple[float, float]] = []
    for (x, y), (to_x, to_y) in pairwise([(float(a), float(b)) for a, b in places]):
        count = max(1, round(math.hypot(to_x - x, to_y - y) / _SAMPLE_PX))
        found += [(x + (to_x - x) * i / count, y + (to_y - y) * i / count) for i in range(count + 1)]
    return found


def _around(centre: Any, reach: float) -> Any:
    from matplotlib.transforms import Bbox

    x, y = float(centre[0]), float(centre[1])
    return Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)
