"""LPIPS between input and edit, on any network's layers."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from diffedit.networks import Perceptual
from eval.metrics.functional.pairwise import PerceptualDistance
from eval.scoring.batch import Batch
from eval.scoring.metric import Metric


class Lpips(Metric):
    """Perceptual distance of edit and input (Zhang et al., 2018); 0 is no change. Tables often print it times 100.

    Args:
        network: whose layers are compared.
    """

    version: ClassVar = "lpips-2"
    higher_is_better: ClassVar = {"lpips": False}

    def __init__(self, network: Perceptual) -> None:
        self.networks = (network,)
        self.distance = PerceptualDistance(network)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        return {"lpips": self.distance(batch.inputs, batch.edits)}
