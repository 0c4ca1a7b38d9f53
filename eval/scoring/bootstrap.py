"""Error bars: one paired bootstrap over images serves every figure of every method.

Every figure is the mean of one number an image: its value there, or, for what only a set has (FID, CSFID, KID), its
share in the figure, which is the figure plus the image's influence on it (the linearisation of the bootstrap; Efron,
1982). So figures of all metrics, ratios and methods are resampled alike, and any of them can be compared at equal
values of any other.
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
    """A figure before its interval.

    Attributes:
        value: the figure; NaN where it is not defined.
        images: each image's share, which the figure is the mean of; None where nothing is known of its error.
    """

    value: float
    images: Float[ndarray, " n"] | None = None


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

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        weights = np.ones((self.resamples, self.n))
        for members in self.members():
            if (size := len(members)) > 1:
                counts = random.multinomial(size - 1, np.full(size, 1 / size), self.resamples)
                weights[:, members] = counts * (size / (size - 1))
        object.__setattr__(self, "weights", weights)

    def members(self) -> list[ndarray]:
        """The places of the images of each group; groups of a single image are one, or they would have no spread."""
        if self.groups is None:
            return [np.arange(self.n)]
        _, group, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        group[sizes[group] == 1] = -1
        return [np.flatnonzero(group == k) for k in np.unique(group)]

    def means(self, values: Float[ndarray, "n ..."]) -> Float[ndarray, "resamples ..."]:
        """The mean of each resample."""
        return np.tensordot(self.weights, values, 1) / self.n

    def interval(self, samples: Float[ndarray, " resamples"]) -> tuple[float, float]:
        """The percentile interval of some resampled values."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(samples, (tail, 1 - tail))
        return float(low), float(high)

    def figure(self, shares: Estimate) -> Interval:
        """The figure with its interval; none for one image."""
        if shares.images is None or self.n < 2:
            return Interval(shares.value)
        return Interval(shares.value, *self.interval(self.means(shares.images)))


class MatchedDifference(NamedTuple):
    """Two methods where a metric has the same value for both: the same edit strength, or the same fidelity.

    Attributes:
        at: that value of the matched metric.
        ours: the compared metric of the first method there; NaN where its ratios do not reach from below to above.
        theirs: of the second.
        difference: first minus second, with its interval over the resamples; no interval where more resamples than the
            interval leaves out do not reach the value.
        share: of resamples in which both methods reach it.
        p: two-sided, of no difference: twice the smaller share of resamples on one side of 0; NaN without an interval.
    """

    at: float
    ours: float
    theirs: float
    difference: Interval
    share: float
    p: float


def crossing(matched: Float[ndarray, "b ratios"], other: Float[ndarray, "b ratios"], at: float) -> Float[ndarray, " b"]:
    """The other metric where the matched one first reaches `at` as the ratio grows, linear in between.

    NaN where it never does, and where the smallest ratio is beyond it already: what lies below is not known.

    Args:
        matched: curves, by rising ratio, that rise on the whole.
        other: at the same ratios.
        at: the value asked for.
    """
    if matched[:, -1].mean() < matched[:, 0].mean():  # a metric that falls as the ratio grows, such as csfid
        matched, at = -matched, -at
    reached = matched >= at
    k, rows = reached.argmax(1), np.arange(len(matched))
    bracketed = reached.any(1) & ((k > 0) | (matched[:, 0] == at))
    before = np.maximum(k - 1, 0)
    rise = matched[rows, k] - matched[rows, before]
    share = np.where(rise > 0, (at - matched[rows, before]) / np.where(rise > 0, rise, 1), 0.0)
    value = other[rows, before] + share * (other[rows, k] - other[rows, before])
    return np.where(bracketed, value, np.nan)


def compare(
    ours: tuple[ndarray, ndarray], theirs: tuple[ndarray, ndarray], at: float, draws: Bootstrap
) -> MatchedDifference:
    """A metric of two methods where another one has the same value for both, paired over images.

    Args:
        ours: (matched, compared) metric of the first method: each image's share at each ratio, (n, ratios) each.
        theirs: of the second; the same images.
        at: the value of the matched metric.
        draws: the resamples.
    """
    found = []
    for matched, other in (ours, theirs):
        value = crossing(matched.mean(0)[None], other.mean(0)[None], at)[0]
        found.append((value, crossing(draws.means(matched), draws.means(other), at)))
    (one, many), (two, others) = found
    gap = many - others
    seen = np.isfinite(gap)
    low = high = p = NAN
    if seen.mean() >= draws.level:
        low, high = draws.interval(gap[seen])
        p = min(1.0, 2 * (1 + min((gap[seen] <= 0).sum(), (gap[seen] >= 0).sum())) / (1 + seen.sum()))
    return MatchedDifference(
        at, float(one), float(two), Interval(float(one - two), low, high), float(seen.mean()), float(p)
    )
