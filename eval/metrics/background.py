"""What an edit changed outside the mask, where nothing should change; and inside it."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffedit.io.checks import check_literal
from diffedit.networks import Perceptual
from eval.metrics.functional.pairwise import PerceptualDistance, Pictures, psnr
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate, estimate_mean, estimate_ratio
from eval.scoring.metric import Metric, MetricContext

Region = Float[Tensor, "b 1 H W"]
AVERAGES = ("mask", "pie_compat")


class BackgroundError(Metric):
    """Input against edit outside the request's mask: squared error (times 1,000), PSNR in dB, SSIM, LPIPS.

    Also `mse_inside`, the squared error inside the mask. A picture without an outside (its mask is everything) has no
    error there and is left out of these means, as PIE-Bench does; `has_outside` is the share of the others.

    Args:
        network: whose layers LPIPS compares; PIE-Bench's code takes squeeze.
        average: `mask` averages over the pixels outside the mask, each from its own surroundings; `pie_compat` makes
            both pictures black inside the mask and averages over the whole frame, as PIE-Bench's published code does:
            so its scores look better the larger the mask is.
    """

    version: ClassVar = "background-3"
    higher_is_better: ClassVar = {
        **dict.fromkeys(("mse_outside", "lpips_outside"), False),
        **dict.fromkeys(("psnr_outside", "ssim_outside", "mse_inside", "has_outside"), True),
    }
    needs: ClassVar = ("mask",)

    def __init__(self, network: Perceptual, average: Literal["mask", "pie_compat"] = "mask") -> None:
        check_literal("metric.background.average", average, AVERAGES)
        self.average = average
        self.networks = (network,)
        self.settings = (average,)
        self.distance = PerceptualDistance(network)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Five numbers an image, and whether it has an outside and an inside."""
        inside = batch.given_masks().float()
        outside = 1 - inside
        values = {"has_outside": outside.amax((1, 2, 3)), "has_inside": inside.amax((1, 2, 3))}
        before, after = batch.inputs, batch.edits
        values["mse_inside"] = squared_error(before, after, inside)
        if self.average == "pie_compat":
            before, after = before * outside, after * outside
            outside = torch.ones_like(outside)
            lpips = self.distance(before, after)
        else:
            lpips = mean_over(self.distance.spread(before, after)[1], outside)
        return values | {
            "mse_outside": squared_error(before, after, outside),
            "psnr_outside": psnr(before, after, outside),
            "ssim_outside": mean_over(ssim(before, after), outside),
            "lpips_outside": lpips,
        }

    def aggregate(self, values: Mapping[str, Float[ndarray, " n"]], context: MetricContext) -> dict[str, Estimate]:
        """Means over the pictures that have the region."""
        scores = {"has_outside": estimate_mean(values["has_outside"])}
        for name, column in values.items():
            if not name.startswith("has_"):
                has = values[f"has_{name.rpartition('_')[2]}"]
                scores[name] = estimate_ratio(column * has, has)
        return scores


def mean_over(values: Float[Tensor, "b 1 H W"], region: Region) -> Float[Tensor, " b"]:
    """The mean over a region of each picture; 0 where it has no pixels."""
    return (values * region).sum((1, 2, 3)) / region.sum((1, 2, 3)).clamp(min=1)


def squared_error(one: Pictures, other: Pictures, region: Region) -> Float[Tensor, " b"]:
    """Mean squared error over a region, times 1,000."""
    return 1000 * mean_over((one - other).square().mean(1, keepdim=True), region)


def ssim(one: Pictures, other: Pictures) -> Float[Tensor, "b 1 H W"]:
    """Structural similarity of each pixel (Wang et al., 2004; Gaussian window of 11, sigma 1.5), mean over channels.

    In float64: in float32 its differences of squares make 0.99999 of equal pictures.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # here: it loads torchvision

    _, spread = structural_similarity_index_measure(
        other.double(), one.double(), data_range=1.0, reduction="none", return_full_image=True
    )
    return spread.mean(1, keepdim=True).float()
