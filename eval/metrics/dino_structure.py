"""Structure distance: whether the parts of a picture are still alike as they were (Tumanyan et al., 2022)."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffedit.io.cache import BatchCache
from diffedit.io.checks import check_literal
from diffedit.networks import Tokens
from eval.scoring.batch import Batch
from eval.scoring.metric import Metric

SCALES = {"unit": 1.0, "pie_compat": 255.0}


class StructureDistance(Metric):
    """Mean squared difference of the cosine self-similarities of input and edit.

    With the keys of DINO's last layer this is Splice's and PIE-Bench's structure distance (times 1,000 here, as tables
    print it).

    Args:
        network: keys of DINO (`diffedit.networks.dino.DinoKeys`), or any other tokens.
        values: `unit` feeds it pictures in [0, 1]; `pie_compat` in [0, 255], as PIE-Bench's published code does,
            against what the network was trained on.
    """

    version: ClassVar = "structure-1"
    higher_is_better: ClassVar = {"dino_structure": False}

    def __init__(self, network: Tokens, values: Literal["unit", "pie_compat"] = "unit") -> None:
        check_literal("metric.dino_structure.values", values, tuple(SCALES))
        self.network = network
        self.scale = SCALES[values]
        self.networks = (network,)
        self.settings = (f"{self.scale:g}",)
        self.inputs = BatchCache(5e8)  # the inputs come again with every variant

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One distance an image."""
        before = self.inputs.get("similarity", batch.inputs, lambda: self.similarity(batch.inputs))
        difference = before - self.similarity(batch.edits)
        return {"dino_structure": 1000 * difference.square().mean((1, 2)).cpu()}

    def similarity(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b t t"]:
        """Cosines of all pairs of places."""
        images = images if self.scale == 1 else images * self.scale  # networks recognise the same object
        tokens = F.normalize(self.network.tokens(images), dim=2)
        return tokens @ tokens.transpose(1, 2)
