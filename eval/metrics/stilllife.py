"""Metrics by the networks of Still Life, and those that only a world with exact answers has."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.types import EditRequest
from eval.benchmarks.stilllife.benchmarks import Truth
from eval.benchmarks.stilllife.scene import ATTRIBUTES
from eval.gallery import Batch
from eval.metrics import means
from eval.metrics.distance import PerceptualDistance, psnr
from eval.networks.stilllife import CHOICES, load


class StillLifeLpips:
    """LPIPS between input and edit, on the activations of the feature network; 0 is no change.

    Args:
        weights: folder of the feature network.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {"lpips": "lower"}
    figures = staticmethod(means)

    def __init__(self, weights: str = "weights/stilllife_features", device: str = "auto") -> None:
        self.judge = load(weights, device)
        self.distance = PerceptualDistance(self.judge.layers)

    def fingerprint(self) -> str:
        """The weights."""
        return f"lpips-1-{self.judge.hash}"

    def missing(self, batch: Batch) -> str | None:
        """The network knows nothing else than Still Life."""
        return None if batch.truths else "the network knows only Still Life"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """One distance an image."""
        return {"lpips": self.distance(batch.inputs, batch.edits)}


class EditAccuracy:
    """Whether the feature network sees what the edit asked for.

    `accuracy`: it sees the new value of the changed attribute (for fruit: the new kind, and the replaced kind no more).
    `kept`: the share of the other attributes in which it sees what the input holds.

    Args:
        weights: folder of the feature network.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {"accuracy": "higher", "kept": "higher"}
    figures = staticmethod(means)

    def __init__(self, weights: str = "weights/stilllife_features", device: str = "auto") -> None:
        self.judge = load(weights, device)

    def fingerprint(self) -> str:
        """The weights."""
        return f"accuracy-1-{self.judge.hash}"

    def missing(self, batch: Batch) -> str | None:
        """Needs to know which attribute was asked for."""
        return None if batch.truths else "only a Still Life benchmark knows which attribute changes"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """0 or 1, and a share."""
        seen = self.judge(batch.edits)
        there, values = seen.fruits > 0, {name: seen.choices[name].argmax(1) for name in CHOICES}
        rows = [
            judge(truth, there[i], {name: values[name][i] for name in CHOICES}) for i, truth in enumerate(batch.truths)
        ]
        return {name: torch.tensor([row[k] for row in rows]) for k, name in enumerate(("accuracy", "kept"))}


def judge(truth: Truth, there: Tensor, values: Mapping[str, Tensor]) -> tuple[float, float]:
    """(right, share of the other attributes kept) of one edit, from the fruit seen and the values seen."""
    wanted = torch.tensor([kind in truth.after.fruits for kind in ATTRIBUTES["fruits"]])
    before = torch.tensor([kind in truth.before.fruits for kind in ATTRIBUTES["fruits"]])
    moved = wanted != before
    right = {name: values[name] == ATTRIBUTES[name].index(getattr(truth.after, name)) for name in CHOICES}
    right["fruits"] = (there == wanted)[moved].all() if truth.attribute == "fruits" else (there == wanted).all()
    others = [bool(good) for name, good in right.items() if name != truth.attribute]
    return float(right[truth.attribute]), sum(others) / len(others)


def exact_mask(request: EditRequest) -> Callable[[], Tensor] | None:
    """Where the perfect edit differs, where that is known; else the given mask."""
    return request.oracle_mask or request.mask


class MaskIou:
    """Intersection over union of the method's mask and the exact one; the same at every ratio."""

    better: ClassVar = {"mask_iou": "higher"}
    figures = staticmethod(means)

    def fingerprint(self) -> str:
        """Nothing to set."""
        return "mask-iou-1"

    def missing(self, batch: Batch) -> str | None:
        """Needs a mask of the method and one of the benchmark."""
        if batch.masks is None:
            return "the method has no mask"
        return None if all(map(exact_mask, batch.requests)) else "the benchmark has no exact masks"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """1 where both are empty."""
        exact = torch.stack([exact_mask(request)() for request in batch.requests]) > 0.5
        found = batch.masks > 0.5
        both, either = ((found & exact).sum((1, 2, 3)), (found | exact).sum((1, 2, 3)))
        return {"mask_iou": torch.where(either > 0, both / either.clamp(min=1), 1.0)}


class CounterfactualError:
    """How far an edit is from the exact counterfactual: everywhere, inside the exact mask, and outside it.

    PSNR in dB (100 where equal), LPIPS on the feature network.

    Args:
        weights: folder of the feature network.
        device: "auto" takes CUDA where there is one.
    """

    better: ClassVar = {
        **dict.fromkeys(("cf_lpips", "cf_lpips_inside", "cf_lpips_outside"), "lower"),
        **dict.fromkeys(("cf_psnr", "cf_psnr_inside", "cf_psnr_outside"), "higher"),
    }
    figures = staticmethod(means)

    def __init__(self, weights: str = "weights/stilllife_features", device: str = "auto") -> None:
        self.judge = load(weights, device)
        self.distance = PerceptualDistance(self.judge.layers)
        self.last: tuple[list[EditRequest] | None, Tensor | None] = (None, None)

    def fingerprint(self) -> str:
        """The weights."""
        return f"counterfactual-1-{self.judge.hash}"

    def missing(self, batch: Batch) -> str | None:
        """Needs the exact answer."""
        known = all(each.counterfactual and exact_mask(each) for each in batch.requests)
        return None if known else "the benchmark knows no counterfactuals"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
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
            self.last = requests, torch.stack([request.counterfactual() for request in requests])
        return self.last[1]
