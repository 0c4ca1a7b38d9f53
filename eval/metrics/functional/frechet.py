"""FID: Fréchet distance of the Gaussians of two sets of features, in float64 by a nuclear norm."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.metrics.functional.distance import Distance
from eval.scoring.bootstrap import Estimate
from eval.scoring.reference import Reference


def frechet_distance(
    features: Float[ndarray, "n d"], mean: Float[ndarray, " d"], factor: Float[ndarray, "d k"]
) -> tuple[float, Float[ndarray, " n"]]:
    """(Fréchet distance, what each image adds to it to first order).

    |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). With X the centred features over the square root of n - 1 and
    C2 = L L^T, the last trace is the nuclear norm of X L: no square root of a matrix, exact for fewer images than
    dimensions too. Its derivative by the weight of an image needs the same singular vectors.

    Args:
        features: of the pictures.
        mean: of the reference.
        factor: L, a factor of the reference's covariance.
    """
    features = np.asarray(features, dtype=np.float64)
    n = len(features)
    if n < 2:
        raise ValueError("a Fréchet distance needs two images or more in each set")
    centre = features.mean(0)
    centred = (features - centre) / np.sqrt(n - 1)
    values, spectrum = decompose(centred @ factor)
    trace = values.sum()
    squares = (centred**2).sum(1)
    distance = ((centre - mean) ** 2).sum() + squares.sum() + (factor**2).sum() - 2 * trace
    along = 2 * np.sqrt(n - 1) * centred @ (centre - mean)
    influence = along + (n * squares - squares.sum()) - (n * spectrum - trace)
    return float(distance), influence


def frechet_of_sets(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> float:
    """The distance of two sets of features."""
    if len(other) < 2:
        raise ValueError("a Fréchet distance needs two images or more in each set")
    other = np.asarray(other, dtype=np.float64)
    mean = other.mean(0)
    return frechet_distance(one, mean, (other - mean).T / np.sqrt(len(other) - 1))[0]


def decompose(matrix: Float[ndarray, "n k"]) -> tuple[Float[ndarray, " r"], Float[ndarray, " n"]]:
    """Singular values s, and sum of s_j U_ij^2 for each row i, by way of the smaller triangular factor."""
    if len(matrix) <= matrix.shape[1]:
        left, values, _ = np.linalg.svd(np.linalg.qr(matrix.T, mode="r").T)
        return values, left**2 @ values
    _, values, right = np.linalg.svd(np.linalg.qr(matrix, mode="r"))
    positive = values > values[0] * np.finfo(np.float64).eps * len(matrix)
    return values, ((matrix @ right[positive].T) ** 2 / values[positive]).sum(1)


class Fid(Distance):
    """Fréchet distance of the edits to the reference.

    Biased in n, by an amount that depends on the model: compare at equal n only, and with the row of real pictures. The
    interval is of the score at this n (linearised: a resample of few images would have another bias than the images).
    """

    version: ClassVar = "fid-2"
    higher_is_better: ClassVar = {"fid": False}

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """NaN of a single image."""
        if reference.n < 2:
            raise ValueError(f"fid: {reference.source}: {reference.n} reference picture; two are needed at the least")
        if len(features) < 2:
            return {"fid": Estimate(float("nan"))}
        value, influence = frechet_distance(features, reference.mean, reference.factor)
        return {"fid": Estimate(value, value + influence)}
