"""Numbers beside the points of curves, where nothing else is: not over points, nor lines, nor each other."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import BboxBase
from numpy import ndarray

FEW = 2  # labels between the ends of a curve, where there is little room
NARROW = 5.0  # inches of a figure or a panel with little room
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}  # an outlined text would be no text
STEP = 2.0  # pixels between two places of a line that a label is kept off
DISTANCES = (3.0, 6.5, 10.0, 14.0)  # points between a mark and its label; the last two of ends alone
DIRECTIONS = {  # of a label from its point: the corners first, as error bars go straight
    (1, 1): ("left", "bottom"),
    (1, -1): ("left", "top"),
    (-1, 1): ("right", "bottom"),
    (-1, -1): ("right", "top"),
    (0, 1): ("center", "bottom"),
    (0, -1): ("center", "top"),
    (1, 0): ("left", "center"),
    (-1, 0): ("right", "center"),
}
COSTS = {"outside": 1000.0, "label": 100.0, "point": 25.0, "other": 3.0, "line": 1.0, "bar": 1e-3, "point away": 0.02}


class PointLabel(NamedTuple):
    """A text beside a point; one at the end of a curve may cover a line, another one covers nothing."""

    text: str
    point: tuple[float, float]
    colour: str
    is_end: bool


class Obstacles(NamedTuple):
    """What a label should not cover: places in pixels."""

    points: Float[ndarray, "n 2"]
    lines: Float[ndarray, "m 2"]
    bars: Float[ndarray, "k 2"]


def list_labels(texts: Sequence[str], points: Sequence[tuple[float, float]], colour: str) -> list[PointLabel]:
    """The labels of one curve: its ends, then what lies between from the middle on; "" for a point without one."""
    known = [i for i, text in enumerate(texts) if text]
    ends = sorted({*known[:1], *known[-1:]})
    middle = (len(texts) - 1) / 2
    between = sorted((i for i in known if i not in ends), key=lambda i: abs(i - middle))
    return [PointLabel(texts[i], points[i], colour, i in ends) for i in (*ends, *between)]


def place_labels(figure: Figure, curves: Iterable[tuple[Axes, list[PointLabel]]]) -> None:
    """Write the labels of all curves; the ends first.

    The figure must be drawn but for them: its layout is settled here, and the labels leave it as it is.
    """
    figure.draw_without_rendering()
    curves = list(curves)
    for axes in dict.fromkeys(axes for axes, _ in curves):
        own = [labels for other, labels in curves if other is axes]
        obstacles = find_obstacles(axes)
        most = FEW if axes.bbox.width / figure.dpi < 0.7 * NARROW else np.inf
        taken: list[BboxBase] = []
        for labels in own:
            for label in labels:
                if label.is_end:
                    add_label(axes, label, obstacles, taken)
        for labels in own:
            written = 0
            for label in labels:
                if not label.is_end and written < most:
                    written += add_label(axes, label, obstacles, taken)


def find_obstacles(axes: Axes) -> Obstacles:
    """What is drawn, in pixels: points of curves, places along their lines, and along error bars."""
    points, lines, bars = [np.empty((0, 2))], [np.empty((0, 2))], [np.empty((0, 2))]
    for line in axes.lines:
        if line.get_transform() == axes.transData and len(line.get_xydata()):
            path = axes.transData.transform(line.get_xydata())
            points.append(path)
            lines += [] if line.get_linestyle() == "None" else sample(path)
    for collection in axes.collections:
        if isinstance(collection, LineCollection):
            for segment in collection.get_segments():
                bars += sample(axes.transData.transform(segment))
    return Obstacles(np.concatenate(points), np.concatenate(lines), np.concatenate(bars))


def sample(path: Float[ndarray, "n 2"]) -> Iterator[Float[ndarray, "k 2"]]:
    """Places along each part of a path."""
    for start, end in pairwise(path):
        length = np.hypot(*(end - start))
        if np.isfinite(length):
            yield start + np.linspace(0, 1, max(2, int(length / STEP)))[:, None] * (end - start)


def add_label(axes: Axes, label: PointLabel, obstacles: Obstacles, taken: list[BboxBase]) -> bool:
    """Write a label where it covers least; not over a point or another label. Whether it was written."""
    text = axes.annotate(
        label.text, label.point, textcoords="offset points", xytext=(0, 0), color=label.colour, fontsize="small"
    )
    text.set_bbox(PAPER)
    text.set_in_layout(False)
    own = axes.transData.transform(label.point)
    best, least, box = None, np.inf, None
    for place in list_places(DISTANCES if label.is_end else DISTANCES[:2]):
        move(text, *place)
        here = text.get_window_extent()
        cost = COSTS["point away"] * place[1] + measure(here, axes.bbox, own, obstacles, taken)
        if cost < least:
            own = axes.transData.transform(label.point)
    best, least, box = place, cost, here
    if best is None or box is None or least >= COSTS["point" if label.is_end else "line"]:
        text.remove()
        return False
    move(text, *best)
    taken.append(box)
    return True


def list_places(distances: Sequence[float]) -> Iterator[tuple[tuple[int, int], float]]:
    """(direction, distance) to be tried, in this order."""
    for distance in distances:
        for direction in DIRECTIONS:
            yield direction, distance


def move(text: Annotation, direction: tuple[int, int], distance: float) -> None:
    """Put a label in that direction from its point."""
    far = distance * (0.75 if all(direction) else 1.1)
    text.set_position((far * direction[0], far * direction[1]))
    horizontal, vertical = DIRECTIONS[direction]
    text.set(ha=horizontal, va=vertical)


def measure(
    box: BboxBase, within: BboxBase, own: Float[ndarray, "2"], obstacles: Obstacles, taken: Sequence[BboxBase]
) -> float:
    """What a label would cover there; 0 for nothing."""
    cost = COSTS["label"] * sum(box.overlaps(other) for other in taken)
    inside = (within.x0 <= box.x0, box.x1 <= within.x1, within.y0 <= box.y0, box.y1 <= within.y1)
    cost += COSTS["outside"] * (not all(inside))
    middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    nearest = np.hypot(*(obstacles.points - middle).T).min()
    cost += COSTS["other"] * (nearest < np.hypot(*(own - middle)) - 0.5)  # it would be taken for that point's
    cost += COSTS["point"] * count_inside(obstacles.points, box, 2.5)
    cost += COSTS["line"] * count_inside(obstacles.lines, box, 0.5)
    return cost + COSTS["bar"] * count_inside(obstacles.bars, box, 0.5)


def count_inside(places: Float[ndarray, "n 2"], box: BboxBase, margin: float) -> int:
    """How many places lie in a box, or so near to it."""
    x, y = places.T
    near = (x > box.x0 - margin) & (x < box.x1 + margin) & (y > box.y0 - margin) & (y < box.y1 + margin)
    return int(near.sum())
