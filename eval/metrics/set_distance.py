"""Distances of the set of edits to real pictures, by the features of any network."""

from collections.abc import Mapping
from typing import ClassVar

import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.io.checks import Count
from diffedit.networks import Extractor
from eval.metrics.functional.distance import Distance
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate
from eval.scoring.metric import Metric, MetricContext
from eval.scoring.reference import Reference


class SetDistance(Metric):
    """A distance, the network whose features it compares, and how many pictures it compares with.

    Args:
        distance: of features to statistics.
        extractor: of features; its resize policy is part of the score.
        size: pictures in the reference, where the benchmark gives them and `reference` names no statistics.
    """

    input_kind: ClassVar = "features"
    uses_reference: ClassVar = True

    def __init__(self, distance: Distance, extractor: Extractor, size: Count = 1024) -> None:
        self.distance, self.extractor, self.size = distance, extractor, size
        self.version = distance.version
        self.higher_is_better = distance.higher_is_better
        self.networks = (extractor,)
        self.settings = (size,)
        self.needs = ("label", "references") if distance.needs_classes else ("references",)

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs pictures to compare with, and target classes where it is class by class."""
        return super().undefined_reason(batch) or batch.references.undefined_reason()

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, "b d"]]:
        return {"features": batch.features(self.extractor, "edits")}

    def aggregate(self, values: Mapping[str, ndarray], context: MetricContext) -> dict[str, Estimate]:
        return self.distance(values["features"], self.reference(context), collect_labels(context))

    def notes(self, context: MetricContext) -> dict[str, str]:
        return self.distance.notes(collect_labels(context))

    def class_table(self, values: Mapping[str, ndarray], context: MetricContext) -> pd.DataFrame | None:
        return self.distance.class_table(values["features"], self.reference(context), collect_labels(context))

    def reference(self, context: MetricContext) -> Reference:
        return context.references(self.extractor, self.size)

    def real_images(self, context: MetricContext) -> tuple[dict[str, Float[ndarray, "n d"]] | None, str | None]:
        """Of the same classes as the requests, none of them in the statistics."""
        features, reason = self.reference(context).pick_held_out(collect_labels(context))
        return None if features is None else {"features": features}, reason


def collect_labels(context: MetricContext) -> list[str]:
    """The class of each request."""
    return [request.label for request in context.requests]
