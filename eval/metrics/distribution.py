"""Distances between sets of pictures, by features of the Still Life network: FID and the class-wise CSFID."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from eval.features import Features, HasReference
from eval.gallery import Batch
from eval.metrics import Scope
from eval.statistics import Figure


def frechet(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> float:
    """Fréchet distance of the Gaussians of two sets of features, in float64.

    |mean1 - mean2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). The last trace is the nuclear norm of X1 X2^T, with X the
    centred features over the square root of n - 1; it is the same with the triangular factors of X1 and X2, which are
    never larger than d x d. Exact also for fewer images than dimensions.
    """
    parts = []
    for features in (one, other):
        features = np.asarray(features, dtype=np.float64)
        if len(features) < 2:
            raise ValueError("a Fréchet distance needs two images or more in each set")
        mean = features.mean(0)
        parts.append((mean, (features - mean) / np.sqrt(len(features) - 1)))
    (mean, x), (mean2, y) = parts
    factors = [np.linalg.qr(each, mode="r") for each in (x, y)]
    trace = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    return float(((mean - mean2) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2 * trace)


def scatter(features: Float[ndarray, "n d"]) -> float:
    """Trace of the covariance, unbiased; NaN of one picture."""
    if len(features) < 2:
        return math.nan
    return float(np.asarray(features, dtype=np.float64).var(0, ddof=1).sum())


class StillLifeFid:
    """Fréchet distance of the edits to other renders of the same distribution.

    Args:
        weights: folder of the feature network.
        size: pictures in the reference set.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {"fid": "lower"}

    def __init__(self, weights: str = "weights/stilllife_features", size: int = 1024, device: str = "auto") -> None:
        self.features = Features(weights, size, device)

    def fingerprint(self) -> str:
        """The weights and the size of the reference."""
        return f"fid-1-{self.features.judge.hash}-{self.features.size}"

    def missing(self, batch: Batch) -> str | None:
        """Needs pictures to compare with."""
        return None if isinstance(batch.benchmark, HasReference) else "the benchmark has no reference pictures"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, "b d"]]:
        """Features."""
        return {"features": self.features(batch.edits)}

    def figures(self, facts: Mapping[str, ndarray], scope: Scope) -> dict[str, Figure]:
        """No interval: a resample of few images has another bias than the images."""
        if len(facts["features"]) < 2:
            return {"fid": Figure(math.nan)}
        return {"fid": Figure(frechet(facts["features"], self.features.reference(scope.reference)[0]))}


class StillLifeCsfid:
    """Class-wise simplified FID (FlexIT): mean over target classes of |mean of features - mean of the reference|^2.

    `csfid` is the raw figure; `csfid_debiased` subtracts what finite n adds: tr(covariance of the class) / n, and
    the same of the reference.

    Args:
        weights: folder of the feature network.
        size: pictures in the reference set, all classes together.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {"csfid": "lower", "csfid_debiased": "lower"}

    def __init__(self, weights: str = "weights/stilllife_features", size: int = 2400, device: str = "auto") -> None:
        self.features = Features(weights, size, device)

    def fingerprint(self) -> str:
        """The weights and the size of the reference."""
        return f"csfid-1-{self.features.judge.hash}-{self.features.size}"

    def missing(self, batch: Batch) -> str | None:
        """Needs target classes, and pictures of them to compare with."""
        if not isinstance(batch.benchmark, HasReference):
            return "the benchmark has no reference pictures"
        return None if all(each.label for each in batch.requests) else "the benchmark has no target classes"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, "b d"]]:
        """Features."""
        return {"features": self.features(batch.edits)}

    def figures(self, facts: Mapping[str, ndarray], scope: Scope) -> dict[str, Figure]:
        """The interval is that of a class-stratified bootstrap, moved by the bias that resampling itself adds."""
        features = np.asarray(facts["features"], dtype=np.float64)
        known, classes = self.features.reference(scope.reference)
        known, classes = np.asarray(known, dtype=np.float64), np.asarray(classes)
        raw, bias, samples = [], [], []
        labels = np.asarray([request.label for request in scope.requests])
        for members in scope.draws.members():
            (label,) = set(labels[members])
            own, others = features[members], known[classes == label]
            if len(others) < 2:
                raise ValueError(f"csfid: {len(others)} reference pictures of class {label}: raise metric.csfid.size")
            centre = others.mean(0)
            raw.append(((own.mean(0) - centre) ** 2).sum())
            bias.append(scatter(own) / len(own) + scatter(others) / len(others))
            means = scope.draws.counts[:, members] @ own / len(own)
            samples.append(((means - centre) ** 2).sum(1))
        value, shift = float(np.mean(raw)), float(np.mean(bias))
        resampled = np.mean(samples, 0)
        low, high = scope.draws.interval(resampled - resampled.mean() + value)
        if math.isnan(shift):  # a class of one picture has no covariance
            return {"csfid": Figure(value, low, high), "csfid_debiased": Figure(math.nan)}
        return {"csfid": Figure(value, low, high), "csfid_debiased": Figure(value - shift, low - shift, high - shift)}
