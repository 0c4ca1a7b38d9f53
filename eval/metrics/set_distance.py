"""Distances of the set of edits to real pictures, by the features of any network."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.networks import Extractor, out_of_domain
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate
from eval.scoring.metric import MetricContext
from eval.scoring.reference import Reference


@runtime_checkable
class Distance(Protocol):
    """A distance of features to reference statistics.

    Attributes:
        better: for each of its figures, `higher` or `lower`.
        version: names it, and its code.
        classes: whether it needs target classes.
    """

    better: Mapping[str, str]
    version: str
    classes: bool

    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """Its figures."""


class SetDistance:
    """A distance, the network whose features it compares, and how many pictures it compares with.

    Args:
        distance: of features to statistics.
        extractor: of features; its resize policy is part of the figure.
        size: pictures in the reference, where the benchmark gives them and `reference` names no statistics.
    """

    input_kind: ClassVar = "features"

    def __init__(self, distance: Distance, extractor: Extractor, size: int = 1024) -> None:
        self.distance, self.extractor, self.size = distance, extractor, size
        self.higher_is_better = distance.higher_is_better

    def fingerprint(self) -> str:
        """The distance, the network and the size of the reference."""
        return f"{self.distance.version}-{self.extractor.hash}-{self.size}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs pictures to compare with, and target classes where it is class by class."""
        if self.distance.classes and not all(each.label for each in batch.requests):
            return "the benchmark has no target classes"
        if batch.references is None:
            return "no reference pictures"
        return out_of_domain(self.extractor, batch.truths) or batch.references.undefined_reason()

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, "b d"]]:
        """Features of the edits."""
        return {"features": batch.features(self.extractor, "edits")}

    def aggregate(self, facts: Mapping[str, ndarray], context: MetricContext) -> dict[str, Estimate]:
        """The distance's."""
        return self.distance(facts["features"], self.reference(context), [each.label for each in context.requests])

    def reference(self, context: MetricContext) -> Reference:
        """The statistics of real pictures."""
        return context.references(self.extractor, self.size)

    def real_images(self, context: MetricContext) -> tuple[dict[str, Float[ndarray, "n d"]], None] | tuple[None, str]:
        """Facts of as many real pictures as the run has, none of them in the statistics; or why there are none."""
        found, reason = self.reference(context).like([each.label for each in context.requests])
        return (None, reason) if found is None else ({"features": found}, None)

    def table(self, facts: Mapping[str, ndarray], context: MetricContext) -> pd.DataFrame | None:
        """One row a class, where the distance has that."""
        made = getattr(self.distance, "table", None)
        labels = [each.label for each in context.requests]
        return None if made is None else made(facts["features"], self.reference(context), labels)
