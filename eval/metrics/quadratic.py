"""Squared distances of means, and what sampling adds to them: U-statistics over images.

|mean of f - m|^2 and MMD^2 alike are means of a kernel h over pairs of images. Over all pairs, an image with itself
included, the mean is what papers report (FlexIT's CSFID, CMMD); it grows by the trace of the covariance over n. Over
pairs of two different images it is unbiased.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.statistics import Shares

Kernel = Float[ndarray, "n n"]


def unbiased(kernel: Kernel) -> float:
    """The mean over pairs of two different images; the kernel's own value for a single image."""
    n = len(kernel)
    if n < 2:
        return float("nan")
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def influence(kernel: Kernel) -> Float[ndarray, " n"]:
    """What each image adds to the mean over all pairs, to first order (sums to 0).

    The pair of an image with itself is in: without, it would be (n - 2) / (n - 1) of it, and nothing for two images.
    """
    return 2 * (kernel.mean(1) - kernel.mean())


def second_order(kernel: Kernel) -> float:
    """Mean square of the part of h that is not a sum of functions of one image each; unbiased for four images or more.

    Sums over two, three and four different images, as in Chen and Qin (2010) for tr(covariance^2), which this is where
    h is the product of centred features.
    """
    n = len(kernel)
    off = kernel - np.diag(np.diagonal(kernel))
    rows, square = off.sum(1), (off**2).sum()
    three = (rows**2).sum() - square
    four = rows.sum() ** 2 - 4 * (rows**2).sum() + 2 * square
    pairs = n * (n - 1)
    return float(square / pairs - 2 * three / (pairs * (n - 2)) + four / (pairs * (n - 2) * (n - 3)))


def narrowing(kernels: Sequence[Float[ndarray, "_ _"]]) -> float:
    """By what to scale the influences of all classes, so that resampling them has the variance of the statistic.

    To first order alone it would count the second-order part of the variance twice: near 0, and for few images in many
    dimensions, that part is all there is, and intervals would be too wide by up to a factor of 1.4. Both variances are
    unbiased estimates, summed over the classes with four images or more; 1 where there is none.
    """
    true = linear = least = 0.0
    for kernel in kernels:
        if (n := len(kernel)) < 4:
            continue
        second = second_order(kernel)
        spread = ((kernel.sum(1) - np.diagonal(kernel)) / (n - 1)).var(ddof=1)
        first = (spread - second * (n - 2) / (n - 1) ** 2) * ((n - 1) / (n - 2)) ** 2
        quadratic, rough = 2 * second / (n * (n - 1)), influence(kernel).var(ddof=1) / n
        true, least, linear = true + 4 * first / n + quadratic, least + quadratic, linear + rough
    if linear <= 0:
        return 1.0
    return float(np.sqrt(np.clip(max(true, least) / linear, 0.05, 1.0)))


def shares(kernels: Sequence[Float[ndarray, "_ _"]], members: Sequence[ndarray]) -> tuple[Shares, Shares]:
    """(mean over classes of the mean over all pairs, the same over pairs of different images), with their shares.

    Args:
        kernels: of each class.
        members: places of each class's images in the set.
    """
    total, classes, scale = sum(map(len, members)), len(kernels), narrowing(kernels)
    images = np.zeros(total)
    for kernel, places in zip(kernels, members, strict=True):
        images[places] = total / (classes * len(kernel)) * scale * influence(kernel)
    biased, fair = (float(np.mean([of(kernel) for kernel in kernels])) for of in (np.mean, unbiased))
    return Shares(biased, biased + images), Shares(fair, fair + images) if np.isfinite(fair) else Shares(fair)


def over_set(kernel: Kernel, labels: Sequence[str]) -> tuple[Shares, Shares]:
    """(mean over all pairs, the same over pairs of different images) of a whole set, with their shares.

    A set with a fixed number of images of each class spreads less than one drawn at random, so that leaving out the
    pairs of an image with itself would take away too much: pairs within a class are averaged over different images and
    weighted as all pairs of the class. Two images or more of each class are needed, else the set counts as drawn at
    random.
    """
    places = strata(labels)
    if len(places) == 1:
        return shares([kernel], places)
    n, means = len(kernel), np.empty_like(kernel, shape=(len(kernel), len(places)))
    for c, own in enumerate(places):
        means[:, c] = kernel[:, own].mean(1)
        block = kernel[np.ix_(own, own)]
        means[own, c] = (block.sum(1) - np.diagonal(block)) / (len(own) - 1)
    rows = means @ np.asarray([len(own) / n for own in places])
    value, images, near = rows.mean(), np.empty(n), kernel.mean(1)
    for own in places:
        images[own] = value + 2 * (near[own] - near[own].mean())
    whole = kernel.mean()
    return Shares(float(whole), images - value + whole), Shares(float(value), images)


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
