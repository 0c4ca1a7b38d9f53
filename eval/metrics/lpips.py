"""LPIPS between input and edit, on any network's layers."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from diffedit.networks import Perceptual, out_of_domain
from eval.metrics.functional.pairwise import PerceptualDistance
from eval.scoring.batch import Batch
from eval.scoring.metric import means


class Lpips:
    """Perceptual distance of edit and input (Zhang et al., 2018); 0 is no change. Tables often print it times 100.

    Args:
        network: whose layers are compared.
    """

    higher_is_better: ClassVar = {"lpips": "lower"}
    input_kind: ClassVar = "pictures"
    aggregate = staticmethod(means)

    def __init__(self, network: Perceptual) -> None:
        self.distance = PerceptualDistance(network)

    def fingerprint(self) -> str:
        """The weights."""
        return f"lpips-2-{self.distance.network.hash}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """As far as the network knows such pictures."""
        return out_of_domain(self.distance.network, batch.truths)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One distance an image."""
        return {"lpips": self.distance(batch.inputs, batch.edits)}
