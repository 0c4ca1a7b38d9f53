"""Metrics: facts of every image, then figures of the whole set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.types import EditRequest
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate, estimate_mean
from eval.scoring.reference import References


@dataclass(frozen=True)
class MetricContext:
    """What the figures of a set may need beside its facts.

    Attributes:
        requests: in the order of the facts.
        references: statistics of pictures that edits should look like.
    """

    requests: list[EditRequest]
    references: References | None = None


@runtime_checkable
class Metric(Protocol):
    """A measure of edits.

    Attributes:
        better: for each of its figures, whether `higher` or `lower` is better.
        reads: `pictures`, which it is given some at a time; or `features` alone, which are kept, so that it is given
            the whole set, without pictures.
    """

    better: Mapping[str, str]
    reads: Literal["pictures", "features"]

    def fingerprint(self) -> str:
        """Names settings and weights: a figure is not computed again while they stay the same."""

    def undefined_reason(self, batch: Batch) -> str | None:
        """Why this metric is not defined for such requests; None where it is."""

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, "b ..."]]:
        """What is measured on each image; a single number each, or a vector for the whole set to be judged by."""

    def aggregate(self, facts: Mapping[str, Float[ndarray, "n ..."]], context: MetricContext) -> dict[str, Estimate]:
        """The figures of the set, by name, and each image's share in them."""


def means(facts: Mapping[str, Float[ndarray, " n"]], context: MetricContext) -> dict[str, Estimate]:
    """The mean of every fact: the figures of a metric that measures each image for itself."""
    return {name: estimate_mean(values) for name, values in facts.items()}
