"""CLIP metrics, by any open_clip model: agreement with the text, and with the change of texts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.networks import out_of_domain
from diffedit.networks.clip import OpenClip
from eval.scoring.batch import Batch, given_masks, without_masks
from eval.scoring.bootstrap import Estimate, estimate_ratio
from eval.scoring.metric import MetricContext, means


class ClipScore:
    """100 * max(cosine(picture, target text), 0), clamped for each image (Hessel et al., 2021, without their 2.5).

    torchmetrics clamps the mean instead, which differs where single images are negative.

    Args:
        clip: the model.
    """

    higher_is_better: ClassVar = {"clip_score": "higher"}
    input_kind: ClassVar = "features"
    aggregate = staticmethod(means)

    def __init__(self, clip: OpenClip) -> None:
        self.clip = clip

    def fingerprint(self) -> str:
        """The weights, the preparation of pictures and the tokenizer."""
        return f"clip-score-2-{self.clip.hash}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Defined for every target text, as far as the model knows what it is about."""
        return out_of_domain(self.clip, batch.truths)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image."""
        seen, said = batch.features(self.clip, "edits"), batch.features(self.clip.reader, "targets")
        return {"clip_score": 100 * F.cosine_similarity(seen, said).clamp(min=0)}


class ClipInside(ClipScore):
    """The same of the edit inside the given mask, black outside: PIE-Bench's agreement of the edited region.

    A picture whose mask is empty is left out, as PIE-Bench does.

    Args:
        clip: the model.
    """

    higher_is_better: ClassVar = {"clip_inside": "higher"}
    input_kind: ClassVar = "pictures"

    def fingerprint(self) -> str:
        """The weights, the preparation of pictures and the tokenizer."""
        return f"clip-inside-1-{self.clip.hash}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs given masks."""
        return without_masks(batch) or super().undefined_reason(batch)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image, and whether its mask holds anything."""
        masks = given_masks(batch).float()
        scores = super().per_image(replace(batch, edits=batch.edits * masks, kept=None))
        return {"clip_inside": scores["clip_score"], "has_inside": masks.amax((1, 2, 3))}

    @staticmethod
    def aggregate(facts: Mapping[str, Float[ndarray, " n"]], context: MetricContext) -> dict[str, Estimate]:
        """The mean over the pictures that have an inside."""
        has = facts["has_inside"]
        return {"clip_inside": estimate_ratio(facts["clip_inside"] * has, has)}


class ClipDirectional:
    """100 * cosine of the change of the picture and the change of the text, in CLIP's space (Gal et al., 2022).

    Both changes are differences of unit embeddings. An edit that changes nothing has no direction: it is 0, and counted
    in `clip_unchanged`, the share of such edits.

    Args:
        clip: the model.
    """

    higher_is_better: ClassVar = {"clip_directional": "higher", "clip_unchanged": "lower"}
    input_kind: ClassVar = "features"
    aggregate = staticmethod(means)

    def __init__(self, clip: OpenClip) -> None:
        self.clip = clip

    def fingerprint(self) -> str:
        """The weights, the preparation of pictures and the tokenizer."""
        return f"clip-directional-1-{self.clip.hash}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs source texts."""
        if not all(request.source for request in batch.requests):
            return "the benchmark has no source texts"
        return out_of_domain(self.clip, batch.truths)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One score an image, and whether it is unchanged."""
        before, after = (F.normalize(batch.features(self.clip, of)) for of in ("inputs", "edits"))
        source, target = (F.normalize(batch.features(self.clip.reader, of)) for of in ("sources", "targets"))
        moved, asked = after - before, target - source
        still = (moved.norm(dim=1) < 1e-6) | (asked.norm(dim=1) < 1e-6)
        cosine = F.cosine_similarity(moved, asked, eps=1e-12)
        return {"clip_directional": 100 * torch.where(still, 0.0, cosine), "clip_unchanged": still.float()}
