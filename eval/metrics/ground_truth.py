"""Metrics that only a world with exact answers has."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.networks import Perceptual, out_of_domain
from diffedit.types import EditRequest
from eval.metrics.functional.pairwise import PerceptualDistance, psnr
from eval.scoring.batch import Batch
from eval.scoring.metric import means


def exact_mask(request: EditRequest) -> Callable[[], Tensor] | None:
    """Where the perfect edit differs, where that is known; else the given mask."""
    return request.true_mask or request.mask


class MaskIou:
    """Intersection over union of the method's mask and the exact one; the same at every ratio."""

    higher_is_better: ClassVar = {"mask_iou": "higher"}
    input_kind: ClassVar = "pictures"
    aggregate = staticmethod(means)

    def fingerprint(self) -> str:
        """Nothing to set."""
        return "mask-iou-1"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs a mask of the method and one of the benchmark."""
        if batch.masks is None:
            return "the method has no mask"
        return None if all(map(exact_mask, batch.requests)) else "the benchmark has no exact masks"

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """1 where both are empty."""
        exact = torch.stack([exact_mask(request)() for request in batch.requests]) > 0.5
        found = batch.masks > 0.5
        both, either = ((found & exact).sum((1, 2, 3)), (found | exact).sum((1, 2, 3)))
        return {"mask_iou": torch.where(either > 0, both / either.clamp(min=1), 1.0)}


class CounterfactualError:
    """How far an edit is from the exact true_edit: everywhere, inside the exact mask, and outside it.

    PSNR in dB (100 where equal), LPIPS on any network.

    Args:
        network: whose layers LPIPS compares.
    """

    higher_is_better: ClassVar = {
        **dict.fromkeys(("cf_lpips", "cf_lpips_inside", "cf_lpips_outside"), "lower"),
        **dict.fromkeys(("cf_psnr", "cf_psnr_inside", "cf_psnr_outside"), "higher"),
    }
    input_kind: ClassVar = "pictures"
    aggregate = staticmethod(means)

    def __init__(self, network: Perceptual) -> None:
        self.distance = PerceptualDistance(network)
        self.last: tuple[list[EditRequest] | None, Tensor | None] = (None, None)

    def fingerprint(self) -> str:
        """The weights."""
        return f"true_edit-2-{self.distance.network.hash}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs the exact answer."""
        known = all(each.true_edit and exact_mask(each) for each in batch.requests)
        return out_of_domain(self.distance.network, batch.truths) if known else "the benchmark knows no counterfactuals"

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Six numbers an image."""
        exact = self.exact(batch.requests)
        inside = (torch.stack([exact_mask(request)() for request in batch.requests]) > 0.5).float()
        where = {"": torch.ones_like(inside), "_inside": inside, "_outside": 1 - inside}
        whole, spread = self.distance.spread(exact, batch.edits)
        found = {}
        for name, region in where.items():
            share = region.sum((1, 2, 3)).clamp(min=1)
            found[f"cf_lpips{name}"] = (spread * region).sum((1, 2, 3)) / share
            found[f"cf_psnr{name}"] = psnr(exact, batch.edits, region)
        return found | {"cf_lpips": whole}

    def exact(self, requests: list[EditRequest]) -> Float[Tensor, "b 3 H W"]:
        """The counterfactuals; the same object for the same requests, which come with every ratio."""
        if self.last[0] is not requests:
            self.last = requests, torch.stack([request.true_edit() for request in requests])
        return self.last[1]
