"""Some requests of a run and what was made of their pictures: what a metric is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.networks import prepare_all
from diffedit.types import UNEDITED, EditRequest, Variant
from eval.scoring.features import Encoder, to_uint8
from eval.scoring.reference import ReferenceSource

Role = Literal["edits", "inputs", "targets", "sources"]  # what features are of; the last two are texts


@dataclass(frozen=True, eq=False)
class Batch:
    """b requests and one variant of their pictures.

    Attributes:
        requests: what was asked.
        inputs: the pictures before, in [0, 1]; None where a metric reads features alone.
        edits: the pictures after.
        masks: the masks that the method used, at image resolution; None where it has none.
        domain: what the benchmark's pictures are of; None for anything.
        records: what the run says of each request; none where nothing was edited.
        variant: what the edits are.
        samples: loads all samples of each request, and 1 for the best one, 0 for the others; None where each request
            has one edit.
        kept: gives features that are kept; None where they are computed on the spot.
        references: statistics of real pictures, where there are some.
        grid: the latent grid on which the method inferred its masks; None where it did not.
    """

    requests: list[EditRequest]
    inputs: Float[Tensor, "b 3 H W"] | None
    edits: Float[Tensor, "b 3 H W"] | None
    masks: Float[Tensor, "b 1 H W"] | None
    domain: str | None = None
    records: Sequence[Mapping[str, Any]] = field(default_factory=list)
    variant: Variant = UNEDITED
    samples: Callable[[], tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]] | None = None
    kept: Callable[[Encoder, Role], Float[Tensor, "b d"]] | None = None
    references: ReferenceSource | None = None
    grid: tuple[int, int] | None = None

    @property
    def ground_truths(self) -> list[Any]:
        """What the benchmark knows of each edit; none where it does not know it of all."""
        truths = [request.ground_truth for request in self.requests]
        return [] if None in truths else truths

    def given_masks(self) -> Bool[Tensor, "b 1 H W"]:
        """The requests' own masks, in pixels."""
        return torch.stack([request.mask() for request in self.requests]) >= 0.5

    def true_masks(self) -> Bool[Tensor, "b 1 H W"]:
        """Where the true edit differs, in pixels, as far as that is known; else the given mask."""
        return torch.stack([(request.true_mask or request.mask)() for request in self.requests]) > 0.5

    def all_samples(self) -> tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]:
        """All samples and which is the best; the edit alone where there is one."""
        if self.samples is None:
            return self.edits[:, None], torch.ones(len(self.edits), 1)
        return self.samples()

    def features(self, encoder: Encoder, role: Role) -> Float[Tensor, "b d"]:
        """Features of the edits, the inputs, or the texts."""
        if self.kept is not None:
            return self.kept(encoder, role)
        if role in ("edits", "inputs"):
            return encoder.features(prepare_all(encoder, to_uint8(self.edits if role == "edits" else self.inputs)))
        texts = [request.target if role == "targets" else request.source for request in self.requests]
        return encoder.features(torch.stack([encoder.prepare(text) for text in texts]))
