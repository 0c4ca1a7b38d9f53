"""Metrics that need to know the true edit."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.io.cache import BatchCache
from diffedit.networks import Perceptual
from eval.metrics.functional.pairwise import PerceptualDistance, psnr
from eval.scoring.batch import Batch
from eval.scoring.metric import Metric


class MaskIou(Metric):
    """Intersection over union of the method's mask and the exact one; the same for every variant."""

    version: ClassVar = "mask-iou-1"
    higher_is_better: ClassVar = {"mask_iou": True}
    needs: ClassVar = ("method_mask", "true_mask")

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """1 where both are empty."""
        exact = batch.true_masks()
        inferred = batch.masks > 0.5
        both = (inferred & exact).sum((1, 2, 3))
        either = (inferred | exact).sum((1, 2, 3))
        return {"mask_iou": torch.where(either > 0, both / either.clamp(min=1), 1.0)}


class CounterfactualError(Metric):
    """How far an edit is from the true one: everywhere, inside the exact mask, and outside it.

    PSNR in dB (100 where equal), LPIPS on any network.

    Args:
        network: whose layers LPIPS compares.
    """

    version: ClassVar = "counterfactual-2"
    higher_is_better: ClassVar = {
        **dict.fromkeys(("cf_lpips", "cf_lpips_inside", "cf_lpips_outside"), False),
        **dict.fromkeys(("cf_psnr", "cf_psnr_inside", "cf_psnr_outside"), True),
    }
    needs: ClassVar = ("true_edit", "true_mask")

    def __init__(self, network: Perceptual) -> None:
        self.networks = (network,)
        self.distance = PerceptualDistance(network)
        self.true_edits = BatchCache(5e8)  # the same objects for every variant, so that activations are kept

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Six numbers an image."""
        exact = self.true_edits.get("pictures", batch.requests, lambda: load_true_edits(batch))
        inside = batch.true_masks().float()
        whole, spread = self.distance.spread(exact, batch.edits)
        values = {}
        for suffix, region in (("", torch.ones_like(inside)), ("_inside", inside), ("_outside", 1 - inside)):
            share = region.sum((1, 2, 3)).clamp(min=1)
            values[f"cf_lpips{suffix}"] = (spread * region).sum((1, 2, 3)) / share
            values[f"cf_psnr{suffix}"] = psnr(exact, batch.edits, region)
        return values | {"cf_lpips": whole}


def load_true_edits(batch: Batch) -> Float[Tensor, "b 3 H W"]:
    """The counterfactual of each request."""
    return torch.stack([request.true_edit() for request in batch.requests])
