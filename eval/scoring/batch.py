"""Some requests of a run and their edits: what a metric is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.networks import prepare_all
from diffedit.types import EditRequest
from eval.scoring.features import pixels
from eval.scoring.reference import References

Role = Literal["edits", "inputs", "targets", "sources"]  # what features are of; the last two are texts


@dataclass(frozen=True, eq=False)
class Batch:
    """b requests and their edits at one ratio.

    Attributes:
        requests: what was asked.
        inputs: the pictures before, in [0, 1]; None where a metric reads features alone.
        edits: the pictures after.
        masks: the masks that the method used, at image resolution; None where it has none.
        truths: what Still Life knows of each request.
        benchmark: where they come from.
        records: what the run says of each request.
        ratio: of the edits.
        samples: loads all samples of each request, and 1 for the best one, 0 for the others; None where each request
            has one edit.
        kept: gives features that are kept; None where they are computed on the spot.
        references: statistics of real pictures, where there are some.
    """

    requests: list[EditRequest]
    inputs: Float[Tensor, "b 3 H W"] | None
    edits: Float[Tensor, "b 3 H W"] | None
    masks: Float[Tensor, "b 1 H W"] | None
    truths: list[Any] | None = None
    benchmark: Any = None
    records: list[Mapping[str, Any]] = field(default_factory=list)
    ratio: float = 0.0
    samples: Callable[[], tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]] | None = None
    kept: Callable[[Any, Role], Float[Tensor, "b d"]] | None = None
    references: References | None = None

    def features(self, extractor: Any, of: Role) -> Float[Tensor, "b d"]:
        """What an extractor says of the edits, the inputs, or the texts."""
        if self.kept is not None:
            return self.kept(extractor, of)
        if of in ("edits", "inputs"):
            return extractor.features(prepare_all(extractor, pixels(self.edits if of == "edits" else self.inputs)))
        texts = [request.target if of == "targets" else request.source for request in self.requests]
        return extractor.features(torch.stack([extractor.prepare(text) for text in texts]))


def given_masks(batch: Batch) -> Bool[Tensor, "b 1 H W"]:
    """The requests' own masks, in pixels."""
    return torch.stack([request.mask() for request in batch.requests]) >= 0.5


def without_masks(batch: Batch) -> str | None:
    """Which requests have no given mask; None where all have one."""
    lacking = [request.id for request in batch.requests if request.mask is None]
    if not lacking:
        return None
    if len(lacking) == len(batch.requests):
        return "the benchmark has no given masks"
    return f"{len(lacking)} requests of {len(batch.requests)} have no given mask: {', '.join(lacking[:5])}"


def all_samples(batch: Batch) -> tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]:
    """All samples and which is the best; the edit alone where there is one."""
    if batch.samples is None:
        return batch.edits[:, None], torch.ones(len(batch.edits), 1)
    return batch.samples()
