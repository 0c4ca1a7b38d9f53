"""Methods whose true curves are known, measured on pictures at sparse strengths; what intervals say of them is counted.

A method turns a strength into an effort s. An edit of effort s succeeds for a share F(s) of pictures and changes them
by G(s) on average; so two methods that differ in their effort alone have the same curve, entered at other places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from eval.metrics.functional.csfid import Csfid
from eval.scoring.bootstrap import Bootstrap, Interval
from eval.scoring.matched import Curve, MatchedDifference, MatchedValue, compare_at
from eval.scoring.reference import Reference

Function = Callable[[np.ndarray], np.ndarray]


def draw_luck(random: np.random.Generator, lasting: np.ndarray, shared: float, columns: int) -> np.ndarray:
    """Luck of each picture (a row), of unit variance: this share of it lasts, the rest is new in each column."""
    return np.sqrt(shared) * lasting + np.sqrt(1 - shared) * random.normal(size=(len(lasting), columns))


def find_effort(curve: Function, value: float) -> np.ndarray:
    """At which a curve has a value."""
    return np.array(brentq(lambda s: float(curve(np.array(s))) - value, 1e-9, 3))


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
        drawn = []
        for effort in efforts:
            luck = draw_luck(random, difficulty, self.shared, len(effort))
            factor = draw_luck(random, size, self.shared, len(effort))
            success = (luck < norm.ppf(self.success(effort))).astype(float)
            drawn.append((success, self.change(effort) * (1 + self.spread * factor)))
        return drawn

    def true_change(self, success: float) -> float:
        """Of edits of which this share succeeds."""
        return float(self.change(find_effort(self.success, success)))

    def true_success(self, change: float) -> float:
        """Of edits that change pictures so much."""
        return float(self.success(find_effort(self.change, change)))


@dataclass(frozen=True)
class ClassWorld:
    """Pictures of some classes, and how far off their class edits leave them: CSFID, and LPIPS.

    Attributes:
        distance: true CSFID, by effort.
        change: mean change of a picture, by effort.
        classes: of pictures.
        per_class: pictures of each.
        width: of the features, of unit variance within a class.
        shared: share of the variance of a picture's luck that is its own at every strength and of every method.
        spread: of a picture's change, relative.
    """

    distance: Function
    change: Function
    classes: int = 12
    per_class: int = 4
    width: int = 8
    shared: float = 0.7
    spread: float = 0.2

    @property
    def labels(self) -> list[str]:
        """The class of each picture."""
        return [f"{kind:02d}" for kind in range(self.classes) for _ in range(self.per_class)]

    @property
    def reference(self) -> Reference:
        """Without any chance in it: each class's mean is 0."""
        names, none = sorted(set(self.labels)), np.empty((0, self.width))
        of_classes = dict.fromkeys(names, 1), dict.fromkeys(names, np.zeros(self.width)), dict.fromkeys(names, 0.0)
        return Reference(
            "truth", 64, "network", 10**9, np.zeros(self.width), np.eye(self.width), *of_classes, none, [], none, []
        )

    def draw(self, random: np.random.Generator, efforts: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(debiased CSFID's pseudo-values, change) of each picture at each effort, for methods of these efforts."""
        n, reference = self.classes * self.per_class, self.reference
        features, size = random.normal(size=(n, self.width)), random.normal(size=(n, 1))
        away = random.normal(size=(self.classes, self.width))
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        drawn = []
        for effort in efforts:
            columns = []
            for distance in self.distance(effort):
                luck = draw_luck(random, features, self.shared, self.width)
                off = np.sqrt(distance) * np.repeat(away, self.per_class, axis=0)
                columns.append(Csfid()(luck + off, reference, self.labels)["csfid_debiased"].pseudo_values)
            factor = draw_luck(random, size, self.shared, len(effort))
            drawn.append((np.stack(columns, 1), self.change(effort) * (1 + self.spread * factor)))
        return drawn

    def true_distance(self, change: float) -> float:
        """CSFID of edits that change pictures so much."""
        return float(self.distance(find_effort(self.change, change)))


class Outcome(NamedTuple):
    """What many simulations came to.

    Attributes:
        coverage: share of the printed intervals that hold the true difference.
        found: share of the printed p below 0.05.
        printed: share of simulations with an interval.
        width: mean of the intervals' widths.
        bias: mean difference less the true one.
    """

    coverage: float
    found: float
    printed: float
    width: float
    bias: float

    def describe(self) -> str:
        """In a line, for a log."""
        return ", ".join(f"{name} {value:.4f}" for name, value in self._asdict().items())


def simulate(
    worlds: tuple[World, World],
    strengths: Sequence[float],
    efforts: tuple[Function, Function],
    match: str,
    at: float,
    count: int,
    resamples: int = 400,
    compare: Callable = compare_at,
) -> Outcome:
    """Two methods, each of a world of its own (the same one: equal curves), compared where `match` is equal.

    Args:
        worlds: of both; of the same n.
        strengths: that both are run at.
        efforts: of each, by strength.
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
    return count_outcome(rows, true[0] - true[1])


def simulate_csfid(
    worlds: tuple[ClassWorld, ClassWorld],
    strengths: Sequence[float],
    efforts: tuple[Function, Function],
    at: float,
    count: int,
    resamples: int = 400,
) -> Outcome:
    """As `simulate`: debiased CSFID of two methods where both change the pictures equally."""
    strengths = np.array(strengths)
    bootstrap = Bootstrap.of_labels(worlds[0].labels, resamples)
    rows = []
    for seed in range(count):
        places = [effort(strengths) for effort in efforts]
        drawn = {world: world.draw(np.random.default_rng(seed), places) for world in set(worlds)}  # the same pictures
        curves = []
        for i, world in enumerate(worlds):
            csfid, change = drawn[world][i]
            curves.append(Curve(strengths, change, csfid))
        found = compare_at(*curves, at, bootstrap)
        rows.append((*found.difference, found.p))
    return count_outcome(rows, worlds[0].true_distance(at) - worlds[1].true_distance(at))


def count_outcome(rows: Sequence[tuple[float, float, float, float]], difference: float) -> Outcome:
    """Of (value, low, high, p) of each simulation, and the true difference."""
    value, low, high, p = np.array(rows).T
    printed = np.isfinite(low)
    inside = (low <= difference) & (difference <= high)
    return Outcome(
        float(inside[printed].mean()),
        float((p[printed] < 0.05).mean()),
        float(printed.mean()),
        float((high - low)[printed].mean()),
        float(value[printed].mean() - difference),
    )


def compare_by_lines(first: Curve, second: Curve, at: float, bootstrap: Bootstrap) -> MatchedDifference:
    """As it was done before: straight lines between strengths, whose error is in no interval."""

    def interpolate(curve: Curve, weights: np.ndarray) -> np.ndarray:
        matched, compared = (
            np.atleast_2d(weights @ values / bootstrap.n) for values in (curve.matched, curve.compared)
        )
        is_reached = (matched[:, 0] <= at) & (at <= matched.max(1))
        k = np.maximum((matched >= at).argmax(1), 1)
        rows = np.arange(len(k))
        (low, high), (start, end) = ((values[rows, k - 1], values[rows, k]) for values in (matched, compared))
        return np.where(is_reached, start + (at - low) / np.maximum(high - low, 1e-12) * (end - start), np.nan)

    value = float(np.subtract(*(interpolate(curve, np.ones(bootstrap.n))[0] for curve in (first, second))))
    gap = np.subtract(*(interpolate(curve, bootstrap.weights) for curve in (first, second)))
    reached = np.isfinite(gap)
    low = high = p = float("nan")
    if reached.mean() >= bootstrap.level:
        low, high = bootstrap.percentiles(gap[reached])
        p = min(1.0, 2 * (1 + min((gap[reached] <= 0).sum(), (gap[reached] >= 0).sum())) / (1 + reached.sum()))
    nothing = MatchedValue(float("nan"))
    return MatchedDifference(at, nothing, nothing, Interval(value, low, high), float(reached.mean()), p)
