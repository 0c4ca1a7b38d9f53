"""Squared distances of means, and what sampling adds to them: U-statistics over images.

|mean of f - m|^2 and MMD^2 alike are means of a kernel h over pairs of images. Over all pairs, an image with itself
included, the mean is what papers report (FlexIT's CSFID, CMMD); it grows by the trace of the covariance over n. Over
pairs of two different images it is unbiased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.scoring.bootstrap import NAN, Estimate

Kernel = Float[ndarray, "n n"]
ROWS = 1024  # of a kernel at a time


@dataclass(frozen=True)
class Pairs:
    """What the statistics need of a kernel over n images: O(n) numbers.

    Attributes:
        rows: sum of each row, the diagonal included.
        diagonal: the kernel of each image with itself.
        square: sum of squares off the diagonal.
    """

    rows: Float[ndarray, " n"]
    diagonal: Float[ndarray, " n"]
    square: float

    @classmethod
    def of(cls, kernel: Kernel) -> "Pairs":
        """Of a whole kernel."""
        diagonal = np.diagonal(kernel)
        return cls(kernel.sum(1), diagonal, float((kernel**2).sum() - (diagonal**2).sum()))

    @property
    def biased(self) -> float:
        """The mean over all pairs."""
        return float(self.rows.mean() / len(self.rows))

    @property
    def unbiased(self) -> float:
        """The mean over pairs of two different images; NaN of one image."""
        n = len(self.rows)
        return float((self.rows.sum() - self.diagonal.sum()) / (n * (n - 1))) if n > 1 else NAN

    @property
    def influence(self) -> Float[ndarray, " n"]:
        """What each image adds to the mean over all pairs, to first order (sums to 0).

        The pair of an image with itself is in: without it, two images would have none, and n too little.
        """
        return 2 * (self.rows / len(self.rows) - self.biased)

    @property
    def second_order(self) -> float:
        """Mean square of the part of h that is not a sum of functions of one image each; unbiased for 4 images or more.

        Sums over two, three and four different images, as in Chen and Qin (2010) for tr(covariance^2), which this is
        where h is the product of centred features.
        """
        n, rows = len(self.rows), self.rows - self.diagonal
        three = (rows**2).sum() - self.square
        four = rows.sum() ** 2 - 4 * (rows**2).sum() + 2 * self.square
        pairs = n * (n - 1)
        return float(self.square / pairs - 2 * three / (pairs * (n - 2)) + four / (pairs * (n - 2) * (n - 3)))


def narrowing(kernels: Sequence[Pairs]) -> float:
    """By what to scale the influences of all classes, so that resampling them has the variance of the statistic.

    To first order alone it would count the second-order part of the variance twice: near 0, and for few images in many
    dimensions, that part is all there is, and intervals would be too wide by up to a factor of 1.4. Both variances are
    unbiased estimates, summed over the classes with four images or more; 1 where there is none.
    """
    true = linear = least = 0.0
    for pairs in kernels:
        if (n := len(pairs.rows)) < 4:
            continue
        second = pairs.second_order
        spread = ((pairs.rows - pairs.diagonal) / (n - 1)).var(ddof=1)
        first = (spread - second * (n - 2) / (n - 1) ** 2) * ((n - 1) / (n - 2)) ** 2
        quadratic, rough = 2 * second / (n * (n - 1)), pairs.influence.var(ddof=1) / n
        true, least, linear = true + 4 * first / n + quadratic, least + quadratic, linear + rough
    if linear <= 0:
        return 1.0
    return float(np.sqrt(np.clip(max(true, least) / linear, 0.05, 1.0)))


def shares(kernels: Sequence[Pairs], members: Sequence[ndarray]) -> tuple[Estimate, Estimate]:
    """(mean over classes of the mean over all pairs, the same over pairs of different images), with their shares.

    Args:
        kernels: of each class.
        members: places of each class's images in the set.
    """
    total, classes, scale = sum(map(len, members)), len(kernels), narrowing(kernels)
    images = np.zeros(total)
    for pairs, places in zip(kernels, members, strict=True):
        images[places] = total / (classes * len(places)) * scale * pairs.influence
    biased, fair = (float(np.mean([getattr(pairs, of) for pairs in kernels])) for of in ("biased", "unbiased"))
    return Estimate(biased, biased + images), Estimate(fair, fair + images) if np.isfinite(fair) else Estimate(fair)


def over_set(block: Callable[[slice], Float[ndarray, "b n"]], labels: Sequence[str]) -> tuple[Estimate, Estimate]:
    """(mean over all pairs, the same over pairs of different images) of a whole set, with their shares.

    A set with a fixed number of images of each class spreads less than one drawn at random, so that leaving out the
    pairs of an image with itself would take away too much: pairs within a class are averaged over different images and
    weighted as all pairs of the class. Two images or more of each class are needed, else the set counts as drawn at
    random.

    Args:
        block: some rows of the kernel; never all at once.
        labels: the class of each image, or "".
    """
    places, n = strata(labels), len(labels)
    sums, diagonal, square = np.empty((n, len(places))), np.empty(n), 0.0
    for start in range(0, n, ROWS):
        rows = block(slice(start, start + ROWS))
        at = np.arange(start, start + len(rows))
        diagonal[at] = rows[np.arange(len(rows)), at]
        square += (rows**2).sum()
        for c, own in enumerate(places):
            sums[at, c] = rows[:, own].sum(1)
    pairs = Pairs(sums.sum(1), diagonal, float(square - (diagonal**2).sum()))
    if len(places) == 1:
        return shares([pairs], places)
    sizes, images, near = np.asarray([len(own) for own in places]), np.empty(n), pairs.rows / n
    for c, own in enumerate(places):
        sums[own, c] = (sums[own, c] - diagonal[own]) * sizes[c] / (sizes[c] - 1)
        images[own] = 2 * (near[own] - near[own].mean())
    value = float(sums.sum() / n**2)
    return Estimate(pairs.biased, images + pairs.biased), Estimate(value, images + value)


def strata(labels: Sequence[str]) -> list[ndarray]:
    """The places of each class, where every image has one and every class has two images or more; else all in one."""
    names = np.asarray(labels)
    places = [np.flatnonzero(names == name) for name in np.unique(names)]
    if not all(labels) or min(map(len, places)) < 2:
        return [np.arange(len(names))]
    return places


def within(scatters: Sequence[tuple[int, float]]) -> float:
    """The square of the error of a mean over classes, of (images, trace of covariance) of each class."""
    total = sum(count for count, _ in scatters)
    return float(sum(count * scatter for count, scatter in scatters) / total**2)
