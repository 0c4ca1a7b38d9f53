"""What a metric is: it measures values of each image, and makes scores of the whole set of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.networks import out_of_domain
from diffedit.types import EditRequest, Network
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate, estimate_mean
from eval.scoring.reference import Reference, ReferenceSource

# What a metric may need of each request: (how it is read, what one lacks, what is said where all lack it). `true_mask`
# is the given mask where the benchmark knows no other.
REQUEST_NEEDS = {
    "target": (lambda request: request.target, "target text", "the benchmark has no target texts"),
    "source": (lambda request: request.source, "source text", "the benchmark has no source texts"),
    "label": (lambda request: request.label, "target class", "the benchmark has no target classes"),
    "mask": (lambda request: request.mask, "given mask", "the benchmark has no given masks"),
    "true_mask": (lambda request: request.true_mask or request.mask, "exact mask", "the benchmark has no exact masks"),
    "true_edit": (lambda request: request.true_edit, "counterfactual", "the benchmark knows no counterfactuals"),
}
# What it may need of a run: (whether it is there, what is said where it is not).
RUN_NEEDS = {
    "method_mask": (lambda batch: batch.masks is not None, "the method has no mask"),
    "grid": (lambda batch: batch.grid is not None, "the method infers no mask on a latent grid"),
    "record": (lambda batch: len(batch.records) > 0, "nothing was edited"),
    "references": (lambda batch: batch.references is not None, "no reference pictures"),
}


@dataclass(frozen=True)
class MetricContext:
    """What the scores of a set may need beside the values of its images.

    Attributes:
        requests: in the order of the values.
        references: statistics of pictures that edits should look like.
    """

    requests: list[EditRequest]
    references: ReferenceSource | None = None


class Metric(ABC):
    """A measure of edits. One that takes means of what it measures has a `version`, `higher_is_better`, `per_image`.

    Attributes:
        version: the metric's name and the number of its code: another one is scored anew.
        higher_is_better: for each of its scores, by name.
        input_kind: `pictures`, which it is given some at a time; or `features` alone, which are kept, so that it is
            given the whole set, without pictures.
        needs: what it is not defined without, of `REQUEST_NEEDS` and `RUN_NEEDS`.
        networks: that it asks, each with a `hash` and a `domain`.
        settings: what else decides its values.
        uses_reference: whether it compares features by its networks with statistics of real pictures.
    """

    version: ClassVar[str]
    higher_is_better: Mapping[str, bool]
    input_kind: Literal["pictures", "features"] = "pictures"
    needs: Sequence[str] = ()
    networks: Sequence[Network] = ()
    settings: Sequence[Any] = ()
    uses_reference: bool = False

    def fingerprint(self) -> str:
        """Names code, weights and settings: a value is not measured again while they stay the same."""
        return "-".join([self.version, *(network.hash for network in self.networks), *map(str, self.settings)])

    def undefined_reason(self, batch: Batch) -> str | None:
        """Why this metric is not defined for such requests; None where it is."""
        reasons = [find_lack(batch, need) for need in self.needs]
        reasons += [out_of_domain(network, batch.domain) for network in self.networks]
        return next(filter(None, reasons), None)

    @abstractmethod
    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, "b ..."]]:
        """What is measured on each image, by name: a number, or a vector for the whole set to be judged by."""

    def aggregate(self, values: Mapping[str, Float[ndarray, "n ..."]], context: MetricContext) -> dict[str, Estimate]:
        """The scores of the set, by name; the mean of each value, unless a metric has others."""
        return {name: estimate_mean(column) for name, column in values.items()}

    def notes(self, context: MetricContext) -> dict[str, str]:
        """What is to be said of a score of this set beside its value, by name: why it has no interval."""
        return {}

    def class_table(self, values: Mapping[str, Float[ndarray, "n ..."]], context: MetricContext) -> pd.DataFrame | None:
        """One row a class, where the metric is class by class."""
        return None

    def reference(self, context: MetricContext) -> Reference | None:
        """The statistics of real pictures that it compares with."""
        return None

    def real_images(self, context: MetricContext) -> tuple[Mapping[str, Float[ndarray, "n ..."]] | None, str | None]:
        """(values of as many real pictures as the set has, why there are none): the floor of a distance to a set."""
        return None, None


def find_lack(batch: Batch, need: str) -> str | None:
    """What is not there of a metric's needs; None where it is."""
    if need in RUN_NEEDS:
        is_there, sentence = RUN_NEEDS[need]
        return None if is_there(batch) else sentence
    read, noun, sentence = REQUEST_NEEDS[need]
    lacking = [request.id for request in batch.requests if not read(request)]
    if not lacking:
        return None
    if len(lacking) == len(batch.requests):
        return sentence
    return f"{len(lacking)} requests of {len(batch.requests)} have no {noun}: {', '.join(lacking[:5])}"
