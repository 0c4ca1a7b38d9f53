"""Structure distance: whether the parts of a picture are still alike as they were (Tumanyan et al., 2022)."""

from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffedit.io.checks import check_literal
from diffedit.networks import Domain, out_of_domain
from eval.scoring.batch import Batch
from eval.scoring.metric import means


@runtime_checkable
class Tokens(Protocol):
    """A network that describes places of a picture: keys of a ViT's attention, or features on a grid."""

    hash: str
    domain: Domain

    def tokens(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b t d"]:
        """One vector a place; values are taken as they come."""


class StructureDistance:
    """Mean squared difference of the cosine self-similarities of input and edit.

    With the keys of DINO's last layer this is Splice's and PIE-Bench's structure distance (times 1,000 here, as tables
    print it).

    Args:
        network: keys of DINO (`diffedit.networks.dino.DinoKeys`), or any other tokens.
        values: `unit` feeds it pictures in [0, 1]; `pie_compat` in [0, 255], as PIE-Bench's published code does,
            against what the network was trained on.
    """

    higher_is_better: ClassVar = {"dino_structure": "lower"}
    input_kind: ClassVar = "pictures"
    aggregate = staticmethod(means)

    def __init__(self, network: Tokens, values: Literal["unit", "pie_compat"] = "unit") -> None:
        check_literal("metric.dino_structure.values", values, ("unit", "pie_compat"))
        self.network, self.scale = network, {"unit": 1.0, "pie_compat": 255.0}[values]
        self.last: tuple[Tensor, Tensor] | None = None

    def fingerprint(self) -> str:
        """The weights and the range."""
        return f"structure-1-{self.network.hash}-{self.scale:g}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """As far as the network knows such pictures."""
        return out_of_domain(self.network, batch.truths)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One distance an image."""
        if self.last is None or self.last[0] is not batch.inputs:  # the inputs come again with every ratio
            self.last = batch.inputs, self.similarity(batch.inputs)
        difference = self.last[1] - self.similarity(batch.edits)
        return {"dino_structure": 1000 * difference.square().mean((1, 2)).cpu()}

    def similarity(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b t t"]:
        """Cosines of all pairs of places."""
        images = images if self.scale == 1 else images * self.scale  # the same object is known again
        tokens = F.normalize(self.network.tokens(images), dim=2)
        return tokens @ tokens.transpose(1, 2)
