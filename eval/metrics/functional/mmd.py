"""Kernel distances of sets of features: KID and CMMD. Unbiased, so they are about 0 of real pictures at any n."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.metrics.functional.distance import Distance
from eval.metrics.functional.u_statistics import ROWS, estimate_over_set
from eval.scoring.bootstrap import Estimate
from eval.scoring.reference import Reference

Gram = Callable[[Float[ndarray, "n d"], Float[ndarray, "m d"]], Float[ndarray, "n m"]]
Prepare = Callable[[ndarray], ndarray]


def polynomial_kernel(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
    """(x . y / d + 1)^3, the kernel of KID (Binkowski et al., 2018)."""
    return (one @ other.T / one.shape[1] + 1) ** 3


def gaussian_kernel(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
    """exp(-|x - y|^2 / (2 * 10^2)) of features of unit length, the kernel of CMMD (Jayasumana et al., 2024)."""
    return np.exp((one @ other.T - 1) / 100)


def squared_mmd(
    features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str] | None, gram: Gram, prepare: Prepare
) -> tuple[Estimate, ...]:
    """Squared maximum mean discrepancy: over all pairs, and unbiased, over pairs of different pictures.

    With labels, each set is taken for one that has a fixed number of pictures of each class (`estimate_over_set`);
    without, for one that is drawn at random, as papers take it.

    h(x, y) = k(x, y) - g(x) - g(y) + c, with g the mean of k over the reference and c its mean over pairs within it.
    All pictures at once, not subsets of 1,000 as in other codes, which save memory.
    """
    if len(reference.kept) < 2:
        raise ValueError(
            f"{reference.source}: features of {len(reference.kept)} pictures were kept (keep=), two are needed"
        )
    edits = prepare(features)
    real = prepare(reference.kept)
    key = gram, labels is None
    if key not in reference.derived:  # the same for every variant
        strata = [""] * len(real) if labels is None else reference.kept_labels
        within = estimate_over_set(lambda rows: gram(real[rows], real), strata)
        reference.derived[key] = tuple(estimate.value for estimate in within)
    blocks = np.array_split(edits, -(-len(edits) // ROWS))
    across = np.concatenate([gram(block, real).mean(1) for block in blocks])
    strata = [""] * len(edits) if labels is None else labels
    estimates = estimate_over_set(lambda rows: gram(edits[rows], edits) - across[rows, None] - across[None], strata)
    return tuple(estimate.shift(by) for estimate, by in zip(estimates, reference.derived[key], strict=True))


class Kid(Distance):
    """Kernel Inception distance, times 1,000: squared MMD under a cubic kernel, unbiased (Binkowski et al., 2018).

    The published estimator, over all pairs of different pictures of the pooled set, whatever their classes.
    """

    version: ClassVar = "kid-2"
    higher_is_better: ClassVar = {"kid": False}

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """NaN of a single image."""
        _, unbiased = squared_mmd(features, reference, None, polynomial_kernel, np.float64)
        return {"kid": unbiased.scale(1000)}


class StratifiedKid(Distance):
    """KID, times 1,000, of sets with a fixed number of pictures of each class: unbiased there, where `Kid` is too low.

    A set with as many pictures of each class spreads less than one drawn at random, so that leaving out the pairs of a
    picture with itself takes too much away (FlexIT's sets of four a class). The same distance, and not the published
    estimator of it; without classes they are equal.
    """

    version: ClassVar = "kid-stratified-1"
    higher_is_better: ClassVar = {"kid_stratified": False}

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """NaN of a single image."""
        _, unbiased = squared_mmd(features, reference, labels, polynomial_kernel, np.float64)
        return {"kid_stratified": unbiased.scale(1000)}


class Cmmd(Distance):
    """CLIP maximum mean discrepancy, times 1,000 (Jayasumana et al., 2024), on CLIP's embeddings of unit length.

    `cmmd` counts pictures paired with themselves, as the authors' code does, so it is above 0 of real pictures at
    finite n; `cmmd_debiased` does not.
    """

    version: ClassVar = "cmmd-1"
    higher_is_better: ClassVar = {"cmmd": False, "cmmd_debiased": False}

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        biased, unbiased = squared_mmd(features, reference, labels, gaussian_kernel, normalize)
        return {"cmmd": biased.scale(1000), "cmmd_debiased": unbiased.scale(1000)}


def normalize(features: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """To unit length, in float64."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
