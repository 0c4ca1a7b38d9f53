"""Metrics that need to know the true edit."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import interpolate

from diffedit.io.cache import BatchCache
from diffedit.mask import to_latent_grid
from diffedit.networks import Perceptual
from eval.metrics.functional.pairwise import PerceptualDistance, psnr
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate, estimate_mean
from eval.scoring.metric import Metric, MetricContext


class MaskIou(Metric):
    """Intersection over union of the method's mask and the exact one; the same for every variant."""

    version: ClassVar = "mask-iou-1"
    higher_is_better: ClassVar = {"mask_iou": True}
    needs: ClassVar = ("method_mask", "true_mask")

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """1 where both are empty."""
        return {"mask_iou": compute_iou(batch.masks > 0.5, batch.true_masks())}


class MaskCeiling(Metric):
    """What the latent grid allows a mask: IoU of the exact one, reduced to it, and itself; the same for every variant.

    A place of the grid is in the reduced mask where more than half of its pixels are. With it `true_area` is measured,
    the exact mask's share of the picture, by which `diffedit plot by_area=[mask_iou]` groups; it is no score.
    """

    version: ClassVar = "mask-ceiling-1"
    higher_is_better: ClassVar = {"mask_ceiling": True}
    needs: ClassVar = ("true_mask", "grid")

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """The IoU, and the area."""
        exact = batch.true_masks()
        reduced = torch.cat([to_latent_grid(mask, batch.grid) for mask in exact])
        back = interpolate(reduced.float(), exact.shape[-2:]) > 0
        return {"mask_ceiling": compute_iou(back, exact), "true_area": exact.float().mean((1, 2, 3))}

    def aggregate(self, values: Mapping[str, Float[ndarray, "n ..."]], context: MetricContext) -> dict[str, Estimate]:
        """The mean of the IoU alone."""
        return {"mask_ceiling": estimate_mean(values["mask_ceiling"])}


def compute_iou(one: Bool[Tensor, "b 1 H W"], other: Bool[Tensor, "b 1 H W"]) -> Float[Tensor, " b"]:
    """Intersection over union; 1 where both are empty."""
    both, either = (pixels.sum((1, 2, 3)) for pixels in (one & other, one | other))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


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
