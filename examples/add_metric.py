"""A metric of one's own with its own network: DINO similarity (subject fidelity; DreamBooth, Ruiz et al., 2023).

Example: diffedit score --include examples "metric=[lpips,dino_similarity]"
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, no_grad

from diffedit.io.checks import settings
from diffedit.networks.dino import DinoKeys
from eval.scoring.metric import Metric


@settings
class DinoClassToken(DinoKeys):
    """The class token of a DINO: found, loaded and named by its hash as the structure distance's network is."""

    name = "dino-class-token"

    @no_grad()
    def embed(self, images: Tensor) -> Tensor:
        return self.encode(images).last_hidden_state[:, 0].cpu()


class DinoSimilarity(Metric):
    """Cosine of the class tokens of input and edit; 1 is no change."""

    version = "dino-similarity-1"
    higher_is_better: ClassVar = {"dino_similarity": True}

    def __init__(self, network: DinoClassToken) -> None:
        self.networks = (network,)

    def per_image(self, batch) -> dict[str, Tensor]:
        tokens = [self.networks[0].embed(images) for images in (batch.inputs, batch.edits)]
        return {"dino_similarity": F.cosine_similarity(*tokens)}
