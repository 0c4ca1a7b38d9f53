"""Means with error bars: a paired bootstrap over images, the same resamples for every method."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray


class Figure(NamedTuple):
    """A value with the interval that resampling the images gives; NaN where none was computed."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Draws:
    """Bootstrap resamples of n images: how often each image is drawn, (resamples, n).

    The same for equal n, groups and seed, so that methods are compared on the same resamples.

    Attributes:
        n: images.
        groups: the class of each image; classes are then resampled each for itself, so none is ever empty.
        resamples: how many.
        seed: of the resampling.
        level: of the intervals.
    """

    n: int
    groups: Sequence[str] | None = None
    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    counts: Float[ndarray, "resamples n"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        counts = np.zeros((self.resamples, self.n))
        for members in self.members():
            size = len(members)
            counts[:, members] = random.multinomial(size, np.full(size, 1 / size), self.resamples)
        object.__setattr__(self, "counts", counts)

    def members(self) -> list[ndarray]:
        """The places of the images of each group, in the order of the groups' names."""
        if self.groups is None:
            return [np.arange(self.n)]
        groups = np.asarray(self.groups)
        return [np.flatnonzero(groups == name) for name in np.unique(groups)]

    def means(self, values: Float[ndarray, "n ..."]) -> Float[ndarray, "resamples ..."]:
        """The mean of each resample."""
        return np.tensordot(self.counts, values, 1) / self.n

    def interval(self, samples: Float[ndarray, " resamples"]) -> tuple[float, float]:
        """The percentile interval of some resampled values."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(samples, (tail, 1 - tail))
        return float(low), float(high)

    def mean(self, values: Float[ndarray, " n"]) -> Figure:
        """The mean of one value an image."""
        values = np.asarray(values, dtype=np.float64)
        return Figure(float(values.mean()), *self.interval(self.means(values)))

    def ratio(self, sums: Float[ndarray, " n"], counts: Float[ndarray, " n"]) -> Figure:
        """A mean over parts of which each image has its own number: sum of sums over sum of counts; NaN without any."""
        sums, counts = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
        if not counts.sum():
            return Figure(float("nan"))
        above, below = self.means(sums), self.means(counts)
        return Figure(float(sums.sum() / counts.sum()), *self.interval(above[below > 0] / below[below > 0]))


class Crossing(NamedTuple):
    """Two methods where both reach the same edit strength.

    Attributes:
        at: the strength.
        ours: fidelity metric of the first method there; NaN where its ratios do not reach from below it to above it.
        theirs: of the second.
        difference: first minus second, with its interval over the resamples; no interval where more resamples than the
            interval leaves out do not reach the strength.
        share: of resamples in which both methods reach this strength.
    """

    at: float
    ours: float
    theirs: float
    difference: Figure
    share: float


def crossing(
    strength: Float[ndarray, "b ratios"], fidelity: Float[ndarray, "b ratios"], at: float
) -> Float[ndarray, " b"]:
    """Fidelity where the strength first reaches `at` as the ratio grows, linear in between.

    NaN where it never does, and where the smallest ratio is beyond it already: what lies below is not known.

    Args:
        strength: curves, by rising ratio.
        fidelity: at the same ratios.
        at: the strength asked for.
    """
    reached = strength >= at
    k, rows = reached.argmax(1), np.arange(len(strength))
    bracketed = reached.any(1) & ((k > 0) | (strength[:, 0] == at))
    before = np.maximum(k - 1, 0)
    rise = strength[rows, k] - strength[rows, before]
    share = np.where(rise > 0, (at - strength[rows, before]) / np.where(rise > 0, rise, 1), 0.0)
    value = fidelity[rows, before] + share * (fidelity[rows, k] - fidelity[rows, before])
    return np.where(bracketed, value, np.nan)


def compare(ours: tuple[ndarray, ndarray], theirs: tuple[ndarray, ndarray], at: float, draws: Draws) -> Crossing:
    """Fidelity of two methods at equal edit strength, paired over images.

    Args:
        ours: (strength, fidelity) of each image at each ratio, each (n, ratios), of the first method.
        theirs: of the second; the same images.
        at: the mean strength at which to compare.
        draws: the resamples.
    """
    found = []
    for strength, fidelity in (ours, theirs):
        value = crossing(strength.mean(0)[None], fidelity.mean(0)[None], at)[0]
        found.append((value, crossing(draws.means(strength), draws.means(fidelity), at)))
    (one, many), (other, others) = found
    gap = many - others
    seen = np.isfinite(gap)
    whole = seen.mean() >= draws.level
    low, high = draws.interval(gap[seen]) if whole else (float("nan"), float("nan"))
    return Crossing(at, float(one), float(other), Figure(float(one - other), low, high), float(seen.mean()))
