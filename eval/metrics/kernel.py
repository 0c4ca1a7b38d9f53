"""Kernel distances of sets of features: KID and CMMD. Unbiased, so their floor is 0 at any n."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from eval.metrics.quadratic import shares, unbiased
from eval.reference import Reference
from eval.statistics import Shares

Gram = Callable[[Float[ndarray, "n d"], Float[ndarray, "m d"]], Float[ndarray, "n m"]]
ROWS = 1024  # of a kernel matrix at a time


def polynomial(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
    """(x . y / d + 1)^3, the kernel of KID (Binkowski et al., 2018)."""
    return (one @ other.T / one.shape[1] + 1) ** 3


def gaussian(one: Float[ndarray, "n d"], other: Float[ndarray, "m d"]) -> Float[ndarray, "n m"]:
    """exp(-|x - y|^2 / (2 * 10^2)) of features of unit length, the kernel of CMMD (Jayasumana et al., 2024)."""
    return np.exp((one @ other.T - 1) / 100)


def mmd(features: Float[ndarray, "n d"], reference: Float[ndarray, "m d"], gram: Gram) -> tuple[Shares, float]:
    """Squared maximum mean discrepancy, unbiased, with its shares; and the mean of the reference's own kernel.

    Over pairs of different pictures, h(x, y) = k(x, y) - g(x) - g(y) + c with g the mean of k over the reference and c
    its mean over pairs within it: the U-statistic over all pictures, not over subsets as in other codes, which draw 100
    of 1,000 to save memory.
    """
    features = np.asarray(features, dtype=np.float64)
    parts = np.array_split(features, -(-len(features) // ROWS))
    across = np.concatenate([gram(part, reference).mean(1) for part in parts])
    within = within_mean(reference.tobytes(), reference.shape, gram)
    kernel = gram(features, features) - across[:, None] - across[None] + within
    _, found = shares([kernel], [np.arange(len(kernel))])
    return found, within


@lru_cache(8)
def within_mean(data: bytes, shape: tuple[int, int], gram: Gram) -> float:
    """The mean of the kernel over pairs of different pictures; remembered, for it is the same at every ratio."""
    features = np.frombuffer(data, dtype=np.float64).reshape(shape)
    n = len(features)
    total = sum(gram(features[i : i + ROWS], features).sum() for i in range(0, n, ROWS))
    alone = sum(np.trace(gram(features[i : i + ROWS], features[i : i + ROWS])) for i in range(0, n, ROWS))
    return float((total - alone) / (n * (n - 1)))


class Kid:
    """Kernel Inception distance, times 1,000: squared MMD under a cubic kernel, unbiased."""

    better: ClassVar = {"kid": "lower"}
    version: ClassVar = "kid-1"
    classes: ClassVar = False

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Shares]:
        """NaN of a single image."""
        found, _ = mmd(features, reference.kept.astype(np.float64), polynomial)
        return {"kid": scaled(found, 1000)}


class Cmmd:
    """CLIP maximum mean discrepancy, times 1,000 (Jayasumana et al., 2024), on CLIP's embeddings of unit length.

    `cmmd` counts pictures paired with themselves, as the authors' code does, so its floor is above 0 at finite n;
    `cmmd_debiased` does not.
    """

    better: ClassVar = {"cmmd": "lower", "cmmd_debiased": "lower"}
    version: ClassVar = "cmmd-1"
    classes: ClassVar = False

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Shares]:
        """As the authors' code computes it, and unbiased."""
        own, other = unit(features), unit(reference.kept)
        found, within = mmd(own, other, gaussian)
        # the kernel of a picture with itself is 1
        alone = (1 - unbiased(gaussian(own, own))) / len(own) + (1 - within) / len(other)
        biased = Shares(found.value + alone, None if found.images is None else found.images + alone)
        return {"cmmd": scaled(biased, 1000), "cmmd_debiased": scaled(found, 1000)}


def unit(features: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """Of unit length, float64."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def scaled(found: Shares, factor: float) -> Shares:
    """Times a factor."""
    return Shares(found.value * factor, None if found.images is None else found.images * factor)
