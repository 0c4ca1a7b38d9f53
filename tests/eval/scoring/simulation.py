"""Methods whose true curves are known, measured on pictures at sparse strengths; what intervals say of them is counted.

A method turns a strength into an effort s. An edit of effort s succeeds for a share F(s) of pictures and changes them
by G(s) on average; so two methods that differ in their effort alone have the same curve, entered at other places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from eval.scoring.bootstrap import Bootstrap
from eval.scoring.matched import Curve, compare_at

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class World:
    """Pictures, and what edits do to them.

    Attributes:
        success: F, share of edits that succeed, by effort.
        change: G, mean change of a picture, by effort.
        n: pictures.
        shared: share of the variance of a picture's luck that is its own at every strength and of every method.
        spread: of a picture's change, relative.
    """

    success: Function
    change: Function
    n: int = 256
    shared: float = 0.7
    spread: float = 0.4

    def draw(self, random: np.random.Generator, efforts: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(success, change) of each picture at each effort, for methods of these efforts."""
        difficulty, size = random.normal(size=(2, self.n, 1))
        own = np.sqrt(1 - self.shared)
        drawn = []
        for effort in efforts:
            luck = np.sqrt(self.shared) * difficulty + own * random.normal(size=(self.n, len(effort)))
            factor = np.sqrt(self.shared) * size + own * random.normal(size=(self.n, len(effort)))
            success = (luck < norm.ppf(self.success(effort))).astype(float)
            drawn.append((success, self.change(effort) * (1 + self.spread * factor)))
        return drawn

    def true_change(self, success: float) -> float:
        """Of edits of which this share succeeds."""
        return float(self.change(np.array(brentq(lambda s: float(self.success(np.array(s))) - success, 1e-9, 3))))

    def true_success(self, change: float) -> float:
        """Of edits that change pictures so much."""
        return float(self.success(np.array(brentq(lambda s: float(self.change(np.array(s))) - change, 1e-9, 3))))


class Outcome(NamedTuple):
    """Of many simulations: shares of intervals that hold the true difference, and of p values below 0.05.

    Attributes:
        coverage: of those that were printed.
        found: p below 0.05.
        printed: of all.
        width: mean, of the intervals.
        bias: mean difference found less the true one.
    """

    coverage: float
    found: float
    printed: float
    width: float
    bias: float


def steep(s):
    return expit(10 * (s - 0.45))


def simulate(
    worlds: tuple[World, World],
    strengths: Sequence[float],
    efforts: tuple[Function, Function],
    match: str,
    at: float,
    count: int,
    resamples: int = 500,
    compare: Callable = compare_at,
) -> Outcome:
    """Two methods, each of a world of its own (the same: equal curves), compared where `match` is equal.

    Args:
        worlds: of both; of the same n.
        strengths: that both are run at.
        efforts: of each.
        match: "success" or "change"; the other one is compared.
        at: the matched value.
        count: simulations.
        resamples: of the bootstrap.
        compare: as `compare_at`.
    """
    strengths = np.array(strengths)
    bootstrap = Bootstrap(worlds[0].n, resamples=resamples)
    is_success = match == "success"
    true = [world.true_change(at) if is_success else world.true_success(at) for world in worlds]
    rows = []
    for seed in range(count):
        curves = []
        for i, world in enumerate(worlds):  # the same pictures: both draw from one seed
            success, change = world.draw(np.random.default_rng(seed), [effort(strengths) for effort in efforts])[i]
            pair = (success, change) if is_success else (change, success)
            curves.append(Curve(strengths, *pair, is_success, not is_success))
        found = compare(*curves, at, bootstrap)
        rows.append((*found.difference, found.p))
    value, low, high, p = np.array(rows).T
    printed = np.isfinite(low)
    difference = true[0] - true[1]
    inside = (low <= difference) & (difference <= high)
    return Outcome(
        float(inside[printed].mean()),
        float((p[printed] < 0.05).mean()),
        float(printed.mean()),
        float((high - low)[printed].mean()),
        float(value[printed].mean() - difference),
    )
