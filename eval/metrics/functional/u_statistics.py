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
class PairSums:
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
    def of(cls, kernel: Kernel) -> "PairSums":
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


def find_narrowing(kernels: Sequence[PairSums]) -> float:
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


def estimate_over_classes(kernels: Sequence[PairSums], members: Sequence[ndarray]) -> tuple[Estimate, Estimate]:
    """(mean over classes of the mean over all pairs, the same over pairs of different images).

    Args:
        kernels: of each class.
        members: indices of each class's images in the set.
    """
    total = sum(map(len, members))
    scale = find_narrowing(kernels)
    influence = np.zeros(total)
    for pairs, indices in zip(kernels, members, strict=True):
        influence[indices] = total / (len(kernels) * len(indices)) * scale * pairs.influence
    biased = float(np.mean([pairs.biased for pairs in kernels]))
    unbiased = float(np.mean([pairs.unbiased for pairs in kernels]))
    spread = unbiased + influence if np.isfinite(unbiased) else None
    return Estimate(biased, biased + influence), Estimate(unbiased, spread)


def estimate_over_set(
    block: Callable[[slice], Float[ndarray, "b n"]], labels: Sequence[str]
) -> tuple[Estimate, Estimate]:
    """(mean over all pairs, the same over pairs of different images) of a whole set.

    A set with a fixed number of images of each class spreads less than one drawn at random, so that leaving out the
    pairs of an image with itself would take away too much: pairs within a class are averaged over different images and
    weighted as all pairs of the class. Two images or more of each class are needed, else the set counts as drawn at
    random.

    Args:
        block: some rows of the kernel; never all at once.
        labels: the class of each image, or "".
    """
    members = find_strata(labels)
    n = len(labels)
    sums = np.empty((n, len(members)))
    diagonal = np.empty(n)
    square = 0.0
    for start in range(0, n, ROWS):
        rows = block(slice(start, start + ROWS))
        at = np.arange(start, start + len(rows))
        diagonal[at] = rows[np.arange(len(rows)), at]
        square += (rows**2).sum()
        for c, indices in enumerate(members):
            sums[at, c] = rows[:, indices].sum(1)
    pairs = PairSums(sums.sum(1), diagonal, float(square - (diagonal**2).sum()))
    if len(members) == 1:
        return estimate_over_classes([pairs], members)
    influence = np.empty(n)
    row_means = pairs.rows / n
    for c, indices in enumerate(members):
        size = len(indices)
        sums[indices, c] = (sums[indices, c] - diagonal[indices]) * size / (size - 1)
        influence[indices] = 2 * (row_means[indices] - row_means[indices].mean())
    value = float(sums.sum() / n**2)
    return Estimate(pairs.biased, influence + pairs.biased), Estimate(value, influence + value)


def find_strata(labels: Sequence[str]) -> list[ndarray]:
    """Indices of each class, where every image has one and every class has two images or more; else all in one."""
    names = np.asarray(labels)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    if not all(labels) or min(map(len, members)) < 2:
        return [np.arange(len(names))]
    return members


def sampling_error(scatters: Sequence[tuple[int, float]]) -> float:
    """The square of the error of a mean over classes, of (images, trace of covariance) of each class."""
    total = sum(count for count, _ in scatters)
    return float(sum(count * scatter for count, scatter in scatters) / total**2)
