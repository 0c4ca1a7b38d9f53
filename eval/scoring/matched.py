"""Two methods where a metric has the same value for both, between the strengths that were run.

A method is a curve through its strengths: the matched metric and the compared one, each a monotone cubic (PCHIP;
Fritsch and Butland, 1984) of the strength; a share, as accuracy, as its logit, which bends least. Over 54 kinds of
curves at four strengths that errs a fourth as much as straight lines (tests/eval/scoring/test_matched.py).

What is left of the error is in the interval: inner strengths are left out in turn and predicted from the others.
The error between two strengths a and b goes as (x - a)(b - x), as that of a curve whose bend is not seen, so a miss is
worth what that product is at the point, over what it is at the strength left out. Never more than up to the values at
a and b: curves rise or fall between them. An interval then holds for any error of that size, see `bound`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.interpolate import PchipInterpolator
from scipy.special import expit, logit

from eval.scoring.bootstrap import NAN, Bootstrap, Interval

HALVINGS = 30  # of the stretch between two strengths, until the point is found to a billionth of it
# By what a miss counts: with a single inner strength there is a single miss, which is small by chance where a curve
# bends both ways.
SAFETY, SAFETY_OF_ONE = 1.0, 4.0


@dataclass(frozen=True)
class Curve:
    """Each image's pseudo-values in two metrics of one method at rising strengths.

    Attributes:
        strengths: rising.
        matched: the metric that is made equal.
        compared: the one that is compared there.
        is_matched_share: whether the matched metric is a share of images, between 0 and 1.
        is_compared_share: whether the compared one is.
    """

    strengths: Float[ndarray, " s"]
    matched: Float[ndarray, "n s"]
    compared: Float[ndarray, "n s"]
    is_matched_share: bool = False
    is_compared_share: bool = False

    def means(self, weights: Float[ndarray, "b n"]) -> "Means":
        """The curves of resamples; `bootstrap.weights`, or ones for that of the images themselves."""
        n = len(self.matched)
        matched, compared = (weights @ values / n for values in (self.matched, self.compared))
        if self.is_matched_share:
            matched = stretch(matched, n)
        if self.is_compared_share:
            compared = stretch(compared, n)
        if matched[:, -1].mean() < matched[:, 0].mean():  # a metric that falls as the strength grows, such as csfid
            matched = -matched
            return Means(self.strengths, matched, compared, True)
        return Means(self.strengths, matched, compared)

    def level(self, at: float, is_falling: bool) -> float:
        """A value of the matched metric as `Means` has it; NaN for one that no share has."""
        if self.is_matched_share:
            at = float(stretch(np.array([at]), len(self.matched))[0]) if 0 <= at <= 1 else NAN
        return -at if is_falling else at

    def read(self, values: Float[ndarray, " b"]) -> Float[ndarray, " b"]:
        """Values of the compared metric in its own unit."""
        return unstretch(values, len(self.compared)) if self.is_compared_share else values


class Means(NamedTuple):
    """Curves of b resamples: the matched metric, which rises on the whole, and the compared one.

    Shares are logits; of a matched metric that falls, `is_falling`, the negative stands there.
    """

    strengths: Float[ndarray, " s"]
    matched: Float[ndarray, "b s"]
    compared: Float[ndarray, "b s"]
    is_falling: bool = False

    def without(self, k: int) -> "Means":
        """Without one strength."""
        rest = (np.delete(values, k, -1) for values in self[:3])
        return Means(*rest, self.is_falling)


class Found(NamedTuple):
    """Where b curves first reach a value: NaN, and 0, where they never do.

    Attributes:
        compared: the compared metric there.
        strength: the strength there.
        before: index of the last strength before it (or at it).
    """

    compared: Float[ndarray, " b"]
    strength: Float[ndarray, " b"]
    before: Int[ndarray, " b"]


class MatchedValue(NamedTuple):
    """A method where the matched metric has a given value; NaN where its strengths do not reach it.

    Attributes:
        value: of the compared metric.
        error: how far the true curve may lie from that, for the strengths are sparse.
        bracket: the strengths around the point; twice the same where it is one of them.
        step: change of the compared metric from one to the other.
    """

    value: float
    error: float = NAN
    bracket: tuple[float, float] = (NAN, NAN)
    step: float = NAN


class MatchedDifference(NamedTuple):
    """Two methods where a metric has the same value for both: the same edit strength, or the same fidelity.

    Attributes:
        at: that value of the matched metric.
        first: the first method there.
        second: the second.
        difference: first minus second, with its interval over the resamples and over what interpolation may err by in
            both; no interval where more resamples than the interval leaves out do not reach the value.
        reached: share of resamples in which both methods reach it.
        p: two-sided, of no difference: below 0.05 where the interval of level 0.95 leaves out 0; NaN without one.
    """

    at: float
    first: MatchedValue
    second: MatchedValue
    difference: Interval
    reached: float
    p: float


def stretch(shares: Float[ndarray, "..."], n: int) -> Float[ndarray, "..."]:
    """The empirical logit of shares of n images: half an image is added on both sides, so that 0 and 1 have one."""
    return logit((n * np.clip(shares, 0, 1) + 0.5) / (n + 1))


def unstretch(logits: Float[ndarray, "..."], n: int) -> Float[ndarray, "..."]:
    """Shares from their empirical logits."""
    return ((n + 1) * expit(logits) - 0.5) / n


def interpolate_at(means: Means, level: float) -> Found:
    """The compared metric where the matched one first reaches a level as the strength grows, monotone in between.

    Not found where it never does, and where the smallest strength is beyond it already: what lies below is not known.
    """
    strengths, matched, compared, _ = means
    reached = matched >= level
    k = reached.argmax(1)
    is_found = reached.any(1) & ((k > 0) | (matched[:, 0] == level))
    rows, before = np.arange(len(matched)), np.maximum(k - 1, 0)
    if len(strengths) < 2:
        return Found(
            *(np.where(is_found, values[:, 0], NAN) for values in (compared, compared * 0 + strengths)), before
        )
    rising, along = (PchipInterpolator(strengths, values, axis=1).c[:, before, rows] for values in (matched, compared))
    low, high = np.zeros(len(rows)), strengths[before + 1] - strengths[before]
    a, b, c, d = rising
    for _ in range(HALVINGS):  # the cubic rises from below the level to it, or above
        middle = (low + high) / 2
        is_beyond = ((a * middle + b) * middle + c) * middle + d >= level
        low, high = np.where(is_beyond, low, middle), np.where(is_beyond, middle, high)
    is_knot = matched[rows, k] == level  # to the bit what was measured
    values = np.where(is_knot, compared[rows, k], np.polyval(along, high))
    places = np.where(is_knot, strengths[k], strengths[before] + high)
    return Found(*(np.where(is_found, numbers, NAN) for numbers in (values, places)), before)


def find_bend(means: Means, before: int) -> float:
    """The largest miss where an inner strength is left out, over the product of its distances to its neighbours.

    Of the four strengths around a point, as one far off says little of the curve there. Infinite where none can be
    left out: with two strengths, or where no curve through the others reaches what it has.
    """
    strengths, matched, compared, _ = means
    bends = []
    for k in range(max(1, before - 1), min(len(strengths) - 1, before + 3)):
        guess = interpolate_at(means.without(k), float(matched[0, k])).compared[0]
        miss = abs(guess - compared[0, k])
        bends.append(miss / ((strengths[k] - strengths[k - 1]) * (strengths[k + 1] - strengths[k])))
    known = [bend for bend in bends if np.isfinite(bend)]
    if not known:
        return float("inf")
    return max(known) * (SAFETY_OF_ONE if len(known) == 1 else SAFETY)


def find_value(curve: Curve, at: float) -> MatchedValue:
    """A method where the matched metric has a given value, and what interpolation may err by."""
    n = len(curve.matched)
    means = curve.means(np.ones((1, n)))
    found = interpolate_at(means, curve.level(at, means.is_falling))
    value, strength, before = (float(numbers[0]) for numbers in found)
    if np.isnan(value):
        return MatchedValue(NAN)
    here, k = float(curve.read(found.compared)[0]), int(before)
    ends = curve.strengths[[k, min(k + 1, len(curve.strengths) - 1)]]
    if strength in ends:
        return MatchedValue(here, 0.0, (strength, strength), 0.0)
    error = find_bend(means, k) * (strength - ends[0]) * (ends[1] - strength)
    around = np.sort(means.compared[0, k : k + 2])
    low, high = curve.read(np.clip([value - error, value + error], *around))
    step = abs(float(np.diff(curve.read(around))[0]))
    return MatchedValue(here, float(max(here - low, high - here)), (float(ends[0]), float(ends[1])), step)


def compare_at(first: Curve, second: Curve, at: float, bootstrap: Bootstrap) -> MatchedDifference:
    """A metric of two methods where another one has the same value for both, paired over images.

    Args:
        first: of the first method.
        second: of the second; the same images.
        at: the value of the matched metric.
        bootstrap: the resamples.
    """
    one, other = find_value(first, at), find_value(second, at)
    value = one.value - other.value
    gap = resample_at(first, at, bootstrap) - resample_at(second, at, bootstrap)
    reached = np.isfinite(gap)
    half = p = NAN
    if reached.mean() >= bootstrap.level and np.isfinite(value):
        half, p = bound(value, gap[reached] - value, one.error + other.error, bootstrap.level)
    difference = Interval(value, value - half, value + half)
    return MatchedDifference(at, one, other, difference, float(reached.mean()), p)


def bound(value: float, noise: Float[ndarray, " b"], error: float, level: float) -> tuple[float, float]:
    """(half the interval of an estimate, p of no difference) where beside its noise it may be off by an error.

    Of that error the size is known alone. The interval is the shortest about the estimate that holds the truth as often
    as asked for, whatever the error is (Armstrong and Kolesar, 2018): a quantile of |noise + error|, which is less than
    the noise's own bound plus the error.

    Args:
        value: the estimate.
        noise: resamples less the estimate.
        error: at most, on either side.
        level: of the interval.
    """
    sizes = [np.abs(noise + off) for off in (error, -error)]
    half = max(float(np.quantile(size, level)) for size in sizes)
    count = max(int((size >= abs(value)).sum()) for size in sizes)
    return half, min(1.0, (1 + count) / (1 + len(noise)))


def resample_at(curve: Curve, at: float, bootstrap: Bootstrap) -> Float[ndarray, " resamples"]:
    """The compared metric of each resample where the matched one has a given value."""
    means = curve.means(bootstrap.weights)
    return curve.read(interpolate_at(means, curve.level(at, means.is_falling)).compared)
