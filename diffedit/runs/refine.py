"""The strengths that a comparison at equal accuracy, or equal fidelity, needs: those around the matching point.

Between sparse strengths a curve is interpolated, and what is read off there is as wrong as the curve is bent. So a run
is measured, extended by a strength inside the bracket that holds the point, and measured again, until the bracket is
narrow.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import isnan, nan
from typing import NamedTuple, TypeVar

from diffedit.sampling.schedule import find_level

log = logging.getLogger("run")

K = TypeVar("K")  # a level or a ratio

NARROW = 0.04  # of all levels: a bracket of this width is not divided again
ROUNDS = 8  # at most; each halves a bracket at the least by a quarter


class Target(NamedTuple):
    """A figure, and the value of it that others are compared at."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Of `accuracy@0.7`; a ValueError for anything else."""
        metric, _, word = str(text).partition("@")
        try:
            value = float(word)
        except ValueError:
            value = nan
        if not metric.isidentifier() or isnan(value):
            raise ValueError(f"refine = {text}: a metric and a value of it are wanted, such as accuracy@0.7")
        return cls(metric, value)


def refine(
    extend: Callable[[Sequence[float]], object],
    measure: Callable[[], Mapping[float, float]],
    target: Target,
    ratios: Sequence[float],
    steps: int,
) -> list[float]:
    """Extend a run by strengths around the point where a figure has a value; returns all its strengths.

    Args:
        extend: edits at these strengths, of which all but the last are done.
        measure: the figure at each strength that is done.
        target: the figure and its value.
        ratios: that are done.
        steps: N.
    """
    ratios, curve = list(ratios), measure()
    for _ in range(ROUNDS):
        level = choose_level({find_level(ratio, steps): curve[ratio] for ratio in ratios}, target.value, steps)
        if level is None:
            break
        ratios.append(level / steps)
        log.info("refine: %s = %g is looked for at ratio %g", target.metric, target.value, ratios[-1])
        extend(ratios)
        curve = measure()
    tell_bracket({ratio: curve[ratio] for ratio in sorted(curve)}, target)
    return ratios


def choose_level(curve: Mapping[int, float], value: float, steps: int) -> int | None:
    """The next level to edit at; None where the bracket is narrow, a level has the value, or none is left.

    Args:
        curve: the figure by level.
        value: looked for.
        steps: N; levels are 1 to N.
    """
    levels = sorted(curve)
    if value in curve.values():
        return None
    bracket = find_bracket(levels, curve, value)
    if bracket is None:
        return choose_beyond(levels, curve, value, steps)
    low, high = bracket
    gap = high - low
    if gap <= max(1, round(NARROW * steps)):
        return None
    share = (value - curve[low]) / (curve[high] - curve[low])
    margin = max(1, gap // 4)  # a bent curve may lead to one end again and again
    return min(max(low + round(share * gap), low + margin), high - margin)


def find_bracket(levels: Sequence[K], curve: Mapping[K, float], value: float) -> tuple[K, K] | None:
    """The first neighbours between which the figure passes the value; None where it nowhere does."""
    return next((pair for pair in pairwise(levels) if (curve[pair[0]] - value) * (curve[pair[1]] - value) < 0), None)


def choose_beyond(levels: Sequence[int], curve: Mapping[int, float], value: float, steps: int) -> int | None:
    """A level beyond the end whose figure is nearer to the value: half-way to what there is; None at the last."""
    first, last = levels[0], levels[-1]
    if abs(curve[first] - value) < abs(curve[last] - value):
        return (first + 1) // 2 if first > 1 else None
    return (last + steps + 1) // 2 if last < steps else None


def tell_bracket(curve: Mapping[float, float], target: Target) -> None:
    """Say where the value lies, or that no strength reaches it."""
    bracket = find_bracket(list(curve), curve, target.value)
    values = ", ".join(f"{ratio:g}: {figure:.4g}" for ratio, figure in curve.items())
    if bracket is not None:
        log.info("refine: %s = %g lies between ratios %g and %g (%s)", *target, *bracket, values)
    elif target.value not in curve.values():
        log.warning("refine: no ratio reaches %s = %g (%s)", *target, values)
