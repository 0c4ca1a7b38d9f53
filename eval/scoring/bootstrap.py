"""Error bars: one paired bootstrap over images serves every score of every method.

Every score is the mean of one number an image: its value there, or, for what only a set has (FID, CSFID, KID), its
pseudo-value, which is the score plus the image's influence on it (the linearisation of the bootstrap; Efron, 1982). So
scores of all metrics, variants and methods are resampled alike, and any of them can be compared at equal values of any
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

NAN = float("nan")


class Interval(NamedTuple):
    """A value with the interval that resampling the images gives; NaN where none was computed."""

    value: float
    low: float = NAN
    high: float = NAN


class Estimate(NamedTuple):
    """A score before its interval.

    Attributes:
        value: the score; NaN where it is not defined.
        pseudo_values: one an image, of which the score is the mean; None where nothing is known of its error.
    """

    value: float
    pseudo_values: Float[ndarray, " n"] | None = None

    def shift(self, by: float) -> "Estimate":
        """The score plus a number."""
        return Estimate(float(self.value + by), None if self.pseudo_values is None else self.pseudo_values + by)

    def scale(self, factor: float) -> "Estimate":
        """The score times a factor."""
        return Estimate(self.value * factor, None if self.pseudo_values is None else self.pseudo_values * factor)


def estimate_mean(values: Float[ndarray, " n"]) -> Estimate:
    """The mean of one value an image."""
    values = np.asarray(values, dtype=np.float64)
    return Estimate(float(values.mean()), values)


def estimate_ratio(sums: Float[ndarray, " n"], counts: Float[ndarray, " n"]) -> Estimate:
    """A mean over parts of which each image has its own number: sum of sums over sum of counts; NaN without any."""
    sums, counts = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if not counts.sum():
        return Estimate(NAN)
    value = sums.sum() / counts.sum()
    return Estimate(float(value), value + (sums - value * counts) / counts.mean())


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap resamples of n images: the weight of each image, (resamples, n); weights sum to n.

    Of n images, n - 1 are drawn with replacement and weighted by n / (n - 1), so that the variance of a resampled mean
    is the unbiased estimate also for the four images of a FlexIT class (Rao and Wu, 1988). The same for equal n,
    groups and seed, so that methods are compared on the same resamples.

    Attributes:
        n: images.
        groups: the class of each image; classes of two images or more are resampled each for itself, so that none is
            ever empty.
        resamples: how many.
        seed: of the resampling.
        level: of the intervals.
    """

    n: int
    groups: Sequence[str] | None = None
    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    weights: Float[ndarray, "resamples n"] = field(init=False, repr=False)

    @classmethod
    def of_labels(cls, labels: Sequence[str], resamples: int = 1000, seed: int = 0) -> "Bootstrap":
        """For a set of images: class by class where every image has one ("": none)."""
        return cls(len(labels), list(labels) if all(labels) else None, resamples, seed)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        weights = np.ones((self.resamples, self.n))
        for members in self.members():
            if (size := len(members)) > 1:
                counts = random.multinomial(size - 1, np.full(size, 1 / size), self.resamples)
                weights[:, members] = counts * (size / (size - 1))
        object.__setattr__(self, "weights", weights)

    def members(self) -> list[ndarray]:
        """Indices of the images of each group; groups of a single image are one, or they would have no spread."""
        if self.groups is None:
            return [np.arange(self.n)]
        _, group, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        group[sizes[group] == 1] = -1
        return [np.flatnonzero(group == k) for k in np.unique(group)]

    def means(self, values: Float[ndarray, "n ..."]) -> Float[ndarray, "resamples ..."]:
        """The mean of each resample."""
        return np.tensordot(self.weights, values, 1) / self.n

    def percentiles(self, values: Float[ndarray, " resamples"]) -> tuple[float, float]:
        """The percentile interval of one value a resample."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(values, (tail, 1 - tail))
        return float(low), float(high)

    def interval(self, estimate: Estimate) -> Interval:
        """A score with its interval; none for one image."""
        if estimate.pseudo_values is None or self.n < 2:
            return Interval(estimate.value)
        return Interval(estimate.value, *self.percentiles(self.means(estimate.pseudo_values)))


class MatchedDifference(NamedTuple):
    """Two methods where a metric has the same value for both: the same edit strength, or the same fidelity.

    Attributes:
        at: that value of the matched metric.
        first: the compared metric of the first method there; NaN where its strengths do not reach from below to above.
        second: of the second.
        difference: first minus second, with its interval over the resamples; no interval where more resamples than the
            interval leaves out do not reach the value.
        reached: share of resamples in which both methods reach it.
        p: two-sided, of no difference: twice the smaller share of resamples on one side of 0; NaN without an interval.
    """

    at: float
    first: float
    second: float
    difference: Interval
    reached: float
    p: float


def interpolate_at(
    matched: Float[ndarray, "b strengths"], compared: Float[ndarray, "b strengths"], at: float
) -> Float[ndarray, " b"]:
    """The compared metric where the matched one first reaches `at` as the strength grows, linear in between.

    NaN where it never does, and where the smallest strength is beyond it already: what lies below is not known.

    Args:
        matched: curves, by rising strength, that rise on the whole.
        compared: at the same strengths.
        at: the value asked for.
    """
    if matched[:, -1].mean() < matched[:, 0].mean():  # a metric that falls as the strength grows, such as csfid
        matched = -matched
        at = -at
    reached = matched >= at
    k = reached.argmax(1)
    rows = np.arange(len(matched))
    bracketed = reached.any(1) & ((k > 0) | (matched[:, 0] == at))
    before = np.maximum(k - 1, 0)
    rise = matched[rows, k] - matched[rows, before]
    fraction = np.where(rise > 0, (at - matched[rows, before]) / np.where(rise > 0, rise, 1), 0.0)
    value = compared[rows, before] + fraction * (compared[rows, k] - compared[rows, before])
    return np.where(bracketed, value, np.nan)


def compare_at(
    first: tuple[ndarray, ndarray], second: tuple[ndarray, ndarray], at: float, bootstrap: Bootstrap
) -> MatchedDifference:
    """A metric of two methods where another one has the same value for both, paired over images.

    Args:
        first: (matched, compared) metric of the first method: each image's pseudo-value at each strength,
            (n, strengths) each.
        second: of the second; the same images.
        at: the value of the matched metric.
        bootstrap: the resamples.
    """
    (one, one_resampled), (other, other_resampled) = (
        (
            interpolate_at(matched.mean(0)[None], compared.mean(0)[None], at)[0],
            interpolate_at(bootstrap.means(matched), bootstrap.means(compared), at),
        )
        for matched, compared in (first, second)
    )
    gap = one_resampled - other_resampled
    reached = np.isfinite(gap)
    low = high = p = NAN
    if reached.mean() >= bootstrap.level:
        low, high = bootstrap.percentiles(gap[reached])
        p = min(1.0, 2 * (1 + min((gap[reached] <= 0).sum(), (gap[reached] >= 0).sum())) / (1 + reached.sum()))
    difference = Interval(float(one - other), low, high)
    return MatchedDifference(at, float(one), float(other), difference, float(reached.mean()), float(p))
