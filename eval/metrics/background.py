"""What an edit changed outside the mask, where nothing should change; and inside it."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from diffedit.io.checks import check_literal
from diffedit.networks import Perceptual, out_of_domain
from eval.metrics.functional.pairwise import PerceptualDistance, Pictures, psnr
from eval.scoring.batch import Batch, given_masks, without_masks
from eval.scoring.bootstrap import Estimate, estimate_mean, estimate_ratio
from eval.scoring.metric import MetricContext

Region = Float[Tensor, "b 1 H W"]
AVERAGES = ("mask", "pie_compat")


class BackgroundError:
    """Input against edit outside the request's mask: squared error (times 1,000), PSNR in dB, SSIM, LPIPS.

    Also `mse_inside`, the squared error inside the mask. A picture without an outside (its mask is everything) has no
    error there and is left out of these means, as PIE-Bench does; `has_outside` is the share of the others.

    Args:
        network: whose layers LPIPS compares; PIE-Bench's code takes squeeze.
        average: `mask` averages over the pixels outside the mask, each from its own surroundings; `pie_compat` makes
            both pictures black inside the mask and averages over the whole frame, as PIE-Bench's published code does:
            so its figures look better the larger the mask is.
    """

    higher_is_better: ClassVar = {
        **dict.fromkeys(("mse_outside", "lpips_outside"), "lower"),
        **dict.fromkeys(("psnr_outside", "ssim_outside", "mse_inside", "has_outside"), "higher"),
    }
    input_kind: ClassVar = "pictures"

    def __init__(self, network: Perceptual, average: Literal["mask", "pie_compat"] = "mask") -> None:
        check_literal("metric.background.average", average, AVERAGES)
        self.distance, self.average = PerceptualDistance(network), average

    def fingerprint(self) -> str:
        """The weights and the average."""
        return f"background-3-{self.distance.network.hash}-{self.average}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs given masks."""
        return without_masks(batch) or out_of_domain(self.distance.network, batch.truths)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Five numbers an image, and whether it has an outside and an inside."""
        inside = given_masks(batch).float()
        one, other, outside = batch.inputs, batch.edits, 1 - inside
        has = {"has_outside": outside.amax((1, 2, 3)), "has_inside": inside.amax((1, 2, 3))}
        found = {"mse_inside": error(one, other, inside)}
        if self.average == "pie_compat":
            one, other, outside = one * outside, other * outside, torch.ones_like(outside)
            lpips = self.distance(one, other)
        else:
            lpips = mean_over(self.distance.spread(one, other)[1], outside)
        found |= {"mse_outside": error(one, other, outside), "psnr_outside": psnr(one, other, outside)}
        return found | has | {"ssim_outside": mean_over(ssim(one, other), outside), "lpips_outside": lpips}

    def aggregate(self, facts: Mapping[str, Float[ndarray, " n"]], context: MetricContext) -> dict[str, Estimate]:
        """Means over the pictures that have the region."""
        found = {"has_outside": estimate_mean(facts["has_outside"])}
        for name, values in facts.items():
            if not name.startswith("has_"):
                has = facts[f"has_{name.rpartition('_')[2]}"]
                found[name] = estimate_ratio(values * has, has)
        return found


def mean_over(values: Float[Tensor, "b 1 H W"], region: Region) -> Float[Tensor, " b"]:
    """The mean over a region of each picture; 0 where it has no pixels."""
    return (values * region).sum((1, 2, 3)) / region.sum((1, 2, 3)).clamp(min=1)


def error(one: Pictures, other: Pictures, region: Region) -> Float[Tensor, " b"]:
    """Mean squared error over a region, times 1,000."""
    return 1000 * mean_over((one - other).square().mean(1, keepdim=True), region)


def ssim(one: Pictures, other: Pictures) -> Float[Tensor, "b 1 H W"]:
    """Structural similarity of each pixel (Wang et al., 2004; Gaussian window of 11, sigma 1.5), mean over channels.

    In float64: in float32 its differences of squares make 0.99999 of equal pictures.
    """
    _, spread = structural_similarity_index_measure(
        other.double(), one.double(), data_range=1.0, reduction="none", return_full_image=True
    )
    return spread.mean(1, keepdim=True).float()
