"""CLIP metrics, by any open_clip model: agreement with the text, and with the change of texts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.networks.clip import OpenClip
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate, estimate_ratio
from eval.scoring.metric import Metric, MetricContext


class ClipScore(Metric):
    """100 * max(cosine(picture, target text), 0), clamped for each image (Hessel et al., 2021, without their 2.5).

    torchmetrics clamps the mean instead, which differs where single images are negative.

    Args:
        clip: the model.
    """

    version: ClassVar = "clip-score-2"
    higher_is_better: ClassVar = {"clip_score": True}
    input_kind: ClassVar = "features"
    needs: ClassVar = ("target",)

    def __init__(self, clip: OpenClip) -> None:
        self.clip = clip
        self.networks = (clip,)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        pictures = batch.features(self.clip, "edits")
        texts = batch.features(self.clip.reader, "targets")
        return {"clip_score": 100 * F.cosine_similarity(pictures, texts).clamp(min=0)}


class ClipInside(ClipScore):
    """The same of the edit inside the given mask, black outside: PIE-Bench's agreement of the edited region.

    A picture whose mask is empty is left out, as PIE-Bench does.

    Args:
        clip: the model.
    """

    version: ClassVar = "clip-inside-1"
    higher_is_better: ClassVar = {"clip_inside": True}
    input_kind: ClassVar = "pictures"
    needs: ClassVar = ("target", "mask")

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image, and whether its mask holds anything."""
        masks = batch.given_masks().float()
        values = super().per_image(replace(batch, edits=batch.edits * masks, kept=None))
        return {"clip_inside": values["clip_score"], "has_inside": masks.amax((1, 2, 3))}

    def aggregate(self, values: Mapping[str, Float[ndarray, " n"]], context: MetricContext) -> dict[str, Estimate]:
        """The mean over the pictures that have an inside."""
        has = values["has_inside"]
        return {"clip_inside": estimate_ratio(values["clip_inside"] * has, has)}


class ClipDirectional(ClipScore):
    """100 * cosine of the change of the picture and the change of the text, in CLIP's space (Gal et al., 2022).

    Both changes are differences of unit embeddings. An edit that changes nothing has no direction: it is 0, and counted
    in `clip_unchanged`, the share of such edits.

    Args:
        clip: the model.
    """

    version: ClassVar = "clip-directional-1"
    higher_is_better: ClassVar = {"clip_directional": True, "clip_unchanged": False}
    needs: ClassVar = ("target", "source")

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image, and whether it is unchanged."""
        before, after = (F.normalize(batch.features(self.clip, role)) for role in ("inputs", "edits"))
        source, target = (F.normalize(batch.features(self.clip.reader, role)) for role in ("sources", "targets"))
        picture_change = after - before
        text_change = target - source
        still = (picture_change.norm(dim=1) < 1e-6) | (text_change.norm(dim=1) < 1e-6)
        cosine = F.cosine_similarity(picture_change, text_change, eps=1e-12)
        return {"clip_directional": 100 * torch.where(still, 0.0, cosine), "clip_unchanged": still.float()}
