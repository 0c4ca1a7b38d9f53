"""CSFID and SFID (FlexIT): squared distances of mean features, class by class and of the whole set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eval.metrics.functional.u_statistics import Pairs, over_set, shares, within
from eval.scoring.bootstrap import Estimate
from eval.scoring.reference import Reference


class Csfid:
    """Class-wise simplified FID: mean over target classes of |mean of the class's features - its reference mean|^2.

    Means only, no covariance; classes count alike. `csfid` is the raw figure, comparable with published ones of the
    same n a class; `csfid_debiased` is free of what finite n adds: tr(covariance of the class) / n, and the same of the
    reference. Their intervals are of resampling the images within each class; the reference is fixed.
    """

    higher_is_better: ClassVar = {"csfid": "lower", "csfid_debiased": "lower"}
    version: ClassVar = "csfid-2"
    classes: ClassVar = True

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """Raw and debiased; a ValueError for a class without reference pictures."""
        places = members(labels)
        kernels = [Pairs.of(kernel) for _, kernel in self.kernels(features, reference, places)]
        raw, debiased = shares(kernels, list(places.values()))
        return {"csfid": raw, "csfid_debiased": moved(debiased, -np.mean([bias(reference, name) for name in places]))}

    def kernels(
        self, features: Float[ndarray, "n d"], reference: Reference, places: Mapping[str, ndarray]
    ) -> Iterator[tuple[str, Float[ndarray, "k k"]]]:
        """Of each class, the products of its features about the reference mean."""
        for name, rows in places.items():
            if name not in reference.class_mean:
                known = ", ".join(list(reference.class_mean)[:5]) or "no classes"
                raise ValueError(f"csfid: {reference.source} has no pictures of class {name}; it has {known}")
            own = features[rows].astype(np.float64) - reference.class_mean[name]
            yield name, own @ own.T

    def table(self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]) -> pd.DataFrame:
        """One row a class: n, reference pictures, raw and debiased distance."""
        rows = []
        for name, kernel in self.kernels(features, reference, members(labels)):
            numbers = {"csfid": kernel.mean(), "csfid_debiased": Pairs.of(kernel).unbiased - bias(reference, name)}
            rows.append({"class": name, "n": len(kernel), "reference": reference.class_n[name], **numbers})
        return pd.DataFrame(rows)


class Sfid:
    """Simplified FID: |mean of features - reference mean|^2 of the whole set; raw, and debiased as CSFID is."""

    higher_is_better: ClassVar = {"sfid": "lower", "sfid_debiased": "lower"}
    version: ClassVar = "sfid-1"
    classes: ClassVar = False

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """Raw and debiased."""
        own = features.astype(np.float64) - reference.mean
        raw, debiased = over_set(lambda rows: own[rows] @ own.T, labels)
        scatters = [(reference.n, float(np.trace(reference.cov)))]
        counts = reference.class_n.values()
        if sum(counts) == reference.n and min(counts) > 1:  # as many of each class as there were: no chance in that
            scatters = [(count, reference.class_scatter[name]) for name, count in reference.class_n.items()]
        return {"sfid": raw, "sfid_debiased": moved(debiased, -within(scatters))}


def members(labels: Sequence[str]) -> dict[str, ndarray]:
    """The places of each class's images, by name."""
    labels = np.asarray(labels)
    return {str(name): np.flatnonzero(labels == name) for name in np.unique(labels)}


def bias(reference: Reference, name: str) -> float:
    """What the finite reference of a class adds; NaN of one picture."""
    return reference.class_scatter[name] / reference.class_n[name]


def moved(found: Estimate, by: float) -> Estimate:
    """Plus a number."""
    return Estimate(float(found.value + by), None if found.images is None else found.images + by)
