"""CLIP score by any open_clip model."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eval.gallery import Batch
from eval.metrics import means
from eval.networks.clip import OpenClip


class ClipScore:
    """100 * max(cosine(picture, target text), 0), each image for itself (Hessel et al., 2021, without their 2.5).

    Args:
        model: a name of open_clip, or a folder in its layout with `local-dir:` before it.
        pretrained: tag or file of the weights; not for a folder.
        knows: what the model was trained on; one that knows `stilllife` only is not asked about anything else.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {"clip_score": "higher"}
    figures = staticmethod(means)

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        knows: Literal["anything", "stilllife"] = "anything",
        device: str = "auto",
    ) -> None:
        if knows not in ("anything", "stilllife"):
            raise ValueError(f"metric.clip_score.knows = {knows!r} is neither anything nor stilllife")
        self.knows, self.clip = knows, OpenClip(model, pretrained, device)

    def fingerprint(self) -> str:
        """The weights, the preparation of pictures and the tokenizer."""
        return f"clip-score-1-{self.clip.hash}"

    def missing(self, batch: Batch) -> str | None:
        """Defined for every target text, as far as the model knows what it is about."""
        return (
            None
            if self.knows == "anything" or batch.truths
            else "this CLIP knows only Still Life; metric.clip_score.model= names another"
        )

    @torch.no_grad()
    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image."""
        seen = self.clip.images(batch.edits)
        said = self.clip.texts([request.target for request in batch.requests])
        return {"clip_score": 100 * (seen * said).sum(1).clamp(min=0).cpu()}
