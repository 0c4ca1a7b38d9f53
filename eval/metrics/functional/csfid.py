"""CSFID and SFID (FlexIT): squared distances of mean features, class by class and of the whole set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eval.metrics.functional.distance import Distance
from eval.metrics.functional.u_statistics import PairSums, estimate_over_classes, estimate_over_set, sampling_error
from eval.scoring.bootstrap import Estimate
from eval.scoring.reference import Reference

FEWEST = 4  # pictures of a class from which on its share in an interval is known


class Csfid(Distance):
    """Class-wise simplified FID: mean over target classes of |mean of the class's features - its reference mean|^2.

    Means only, no covariance; classes count alike. `csfid` is the raw score, comparable with published ones of the
    same n a class; `csfid_debiased` is free of what finite n adds: tr(covariance of the class) / n, and the same of the
    reference. Their intervals are of resampling the images within each class; the reference is fixed. There are none
    where more than a tenth of the classes have fewer than four images: two or three say too little of how a class
    spreads.
    """

    version: ClassVar = "csfid-3"
    higher_is_better: ClassVar = {"csfid": False, "csfid_debiased": False}
    needs_classes: ClassVar = True

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """Raw and debiased; a ValueError for a class without reference pictures."""
        members = group_by_class(labels)
        sums = [PairSums.of(kernel) for _, kernel in self.kernels(features, reference, members)]
        raw, debiased = estimate_over_classes(sums, list(members.values()))
        bias = np.mean([reference_bias(reference, name) for name in members])
        scores = {"csfid": raw, "csfid_debiased": debiased.shift(-bias)}
        if self.notes(labels):
            return {name: Estimate(estimate.value) for name, estimate in scores.items()}
        return scores

    def notes(self, labels: Sequence[str]) -> dict[str, str]:
        """Why there is no interval, where classes are too small for one."""
        few = [len(rows) for rows in group_by_class(labels).values() if len(rows) < FEWEST]
        if len(few) <= len(set(labels)) / 10:
            return {}
        reason = f"no interval: {len(few)} of {len(set(labels))} classes have fewer than {FEWEST} pictures"
        return dict.fromkeys(self.higher_is_better, reason)

    def kernels(
        self, features: Float[ndarray, "n d"], reference: Reference, members: Mapping[str, ndarray]
    ) -> Iterator[tuple[str, Float[ndarray, "k k"]]]:
        """Of each class, the products of its features about the reference mean."""
        for name, rows in members.items():
            if name not in reference.class_mean:
                known = ", ".join(list(reference.class_mean)[:5]) or "no classes"
                raise ValueError(f"csfid: {reference.source} has no pictures of class {name}; it has {known}")
            centred = features[rows].astype(np.float64) - reference.class_mean[name]
            yield name, centred @ centred.T

    def class_table(self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]) -> pd.DataFrame:
        """Of each class: n, reference pictures, raw and debiased distance."""
        rows = []
        for name, kernel in self.kernels(features, reference, group_by_class(labels)):
            debiased = PairSums.of(kernel).unbiased - reference_bias(reference, name)
            sizes = {"class": name, "n": len(kernel), "reference": reference.class_n[name]}
            rows.append(sizes | {"csfid": kernel.mean(), "csfid_debiased": debiased})
        return pd.DataFrame(rows)


class Sfid(Distance):
    """Simplified FID: |mean of features - reference mean|^2 of the whole set; raw, and debiased as CSFID is."""

    version: ClassVar = "sfid-1"
    higher_is_better: ClassVar = {"sfid": False, "sfid_debiased": False}

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        centred = features.astype(np.float64) - reference.mean
        raw, debiased = estimate_over_set(lambda rows: centred[rows] @ centred.T, labels)
        scatters = [(reference.n, float(np.trace(reference.cov)))]
        counts = reference.class_n.values()
        if sum(counts) == reference.n and min(counts) > 1:  # as many of each class as there were: no chance in that
            scatters = [(count, reference.class_scatter[name]) for name, count in reference.class_n.items()]
        return {"sfid": raw, "sfid_debiased": debiased.shift(-sampling_error(scatters))}


def group_by_class(labels: Sequence[str]) -> dict[str, ndarray]:
    """Indices of each class's images, by name."""
    labels = np.asarray(labels)
    return {str(name): np.flatnonzero(labels == name) for name in np.unique(labels)}


def reference_bias(reference: Reference, name: str) -> float:
    """What the finite reference of a class adds; NaN of one picture."""
    return reference.class_scatter[name] / reference.class_n[name]
