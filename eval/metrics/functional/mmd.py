"""Kernel distances of sets of features: KID and CMMD. Unbiased, so their floor is 0 at any n."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.metrics.functional.csfid import moved
from eval.metrics.functional.u_statistics import ROWS, over_set
from eval.scoring.bootstrap import Estimate
from eval.scoring.reference import Reference

Gram = Callable[[Float[ndarray, "n d"], Float[ndarray, "m d"]], Float[ndarray, "n m"]]
Prepare = Callable[[ndarray], ndarray]


def polynomial(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
    """(x . y / d + 1)^3, the kernel of KID (Binkowski et al., 2018)."""
    return (one @ other.T / one.shape[1] + 1) ** 3


def gaussian(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
    """exp(-|x - y|^2 / (2 * 10^2)) of features of unit length, the kernel of CMMD (Jayasumana et al., 2024)."""
    return np.exp((one @ other.T - 1) / 100)


def mmd(
    features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str], gram: Gram, prepare: Prepare
) -> tuple[Estimate, ...]:
    """Squared maximum mean discrepancy with its shares: over all pairs, and unbiased, over pairs of different pictures.

    h(x, y) = k(x, y) - g(x) - g(y) + c, with g the mean of k over the reference and c its mean over pairs within it.
    All pictures at once, not subsets of 1,000 as in other codes, which save memory.
    """
    if len(reference.kept) < 2:
        raise ValueError(
            f"{reference.source}: features of {len(reference.kept)} pictures were kept (keep=), two are needed"
        )
    own, known = prepare(features), prepare(reference.kept)
    if gram not in reference.memory:  # the same at every ratio
        within = over_set(lambda rows: gram(known[rows], known), reference.kept_labels)
        reference.memory[gram] = tuple(each.value for each in within)
    parts = np.array_split(own, -(-len(own) // ROWS))
    across = np.concatenate([gram(part, known).mean(1) for part in parts])
    found = over_set(lambda rows: gram(own[rows], own) - across[rows, None] - across[None], labels)
    return tuple(moved(*each) for each in zip(found, reference.memory[gram], strict=True))


class Kid:
    """Kernel Inception distance, times 1,000: squared MMD under a cubic kernel, unbiased."""

    higher_is_better: ClassVar = {"kid": "lower"}
    version: ClassVar = "kid-1"
    classes: ClassVar = False

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """NaN of a single image."""
        _, found = mmd(features, reference, labels, polynomial, np.float64)
        return {"kid": scaled(found, 1000)}


class Cmmd:
    """CLIP maximum mean discrepancy, times 1,000 (Jayasumana et al., 2024), on CLIP's embeddings of unit length.

    `cmmd` counts pictures paired with themselves, as the authors' code does, so its floor is above 0 at finite n;
    `cmmd_debiased` does not.
    """

    higher_is_better: ClassVar = {"cmmd": "lower", "cmmd_debiased": "lower"}
    version: ClassVar = "cmmd-1"
    classes: ClassVar = False

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """As the authors' code computes it, and unbiased."""
        biased, unbiased = mmd(features, reference, labels, gaussian, unit)
        return {"cmmd": scaled(biased, 1000), "cmmd_debiased": scaled(unbiased, 1000)}


def unit(features: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """Of unit length, float64."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def scaled(found: Estimate, factor: float) -> Estimate:
    """Times a factor."""
    return Estimate(found.value * factor, None if found.images is None else found.images * factor)
