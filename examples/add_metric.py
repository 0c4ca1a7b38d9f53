"""A metric of one's own with its own network: DINO similarity (subject fidelity; DreamBooth, Ruiz et al., 2023).

Example: python scripts/score.py --include examples "metric=[lpips,dino_similarity]"
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, no_grad
from torchvision.transforms.v2 import functional as V

from diffedit.io.checks import settings
from diffedit.networks.dino import MEAN, STD, DinoKeys, pick_device
from eval.scoring.metric import Metric


@settings
class DinoClassToken(DinoKeys):
    """The class token of a DINO: found, loaded and named by its hash as the structure distance's network is."""

    name: ClassVar[str] = "dino-class-token"

    @no_grad()
    def embed(self, images: Tensor) -> Tensor:
        images = V.resize(images.to(pick_device(self.device)), [self.side, self.side], antialias=True)
        return self.network(V.normalize(images, MEAN, STD), interpolate_pos_encoding=True).last_hidden_state[:, 0].cpu()


class DinoSimilarity(Metric):
    """Cosine of the class tokens of input and edit; 1 is no change."""

    version: ClassVar = "dino-similarity-1"
    higher_is_better: ClassVar = {"dino_similarity": True}

    def __init__(self, network: DinoClassToken) -> None:
        self.networks = (network,)

    def per_image(self, batch) -> dict[str, Tensor]:
        before, after = (self.networks[0].embed(images) for images in (batch.inputs, batch.edits))
        return {"dino_similarity": F.cosine_similarity(before, after)}
