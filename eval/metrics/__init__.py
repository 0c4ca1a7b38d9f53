"""Metrics: facts of every image, then figures of the whole set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.types import EditRequest
from eval.features import ReferenceSet
from eval.gallery import Batch
from eval.statistics import Draws, Figure


@dataclass(frozen=True)
class Scope:
    """What the figures of a set may need beside its facts.

    Attributes:
        requests: in the order of the facts.
        draws: the resamples of the bootstrap.
        reference: pictures that edits should look like, where the benchmark has some.
    """

    requests: list[EditRequest]
    draws: Draws
    reference: ReferenceSet | None


@runtime_checkable
class Metric(Protocol):
    """A measure of edits. `better` says for each of its figures whether `higher` or `lower` is better."""

    better: Mapping[str, str]

    def fingerprint(self) -> str:
        """Names settings and weights: a figure is not computed again while they stay the same."""

    def missing(self, batch: Batch) -> str | None:
        """Why this metric is not defined for such requests; None where it is."""

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, "b ..."]]:
        """What is measured on each image; a single number each, or a vector for the whole set to be judged by."""

    def figures(self, facts: Mapping[str, Float[ndarray, "n ..."]], scope: Scope) -> dict[str, Figure]:
        """The figures of the set, by name."""


def means(facts: Mapping[str, Float[ndarray, " n"]], scope: Scope) -> dict[str, Figure]:
    """The mean of every fact: the figures of a metric that measures each image for itself."""
    return {name: scope.draws.mean(values) for name, values in facts.items()}
