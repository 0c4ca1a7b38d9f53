"""What Blended Latent Diffusion is judged by: precision inside the mask, diversity, background error, cost.

Every figure is of given masks, and of all samples of a request where it has several.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from eval.metrics.functional.pairwise import PerceptualDistance
from eval.scoring.batch import Batch, all_samples, given_masks, without_masks
from eval.scoring.bootstrap import Estimate, estimate_mean, estimate_ratio
from eval.scoring.metric import MetricContext
from eval.stilllife.network import load
from eval.stilllife.scene import ATTRIBUTES


class LocalPrecision:
    """Whether the classifier sees the wanted fruit inside the given mask (Blended Latent Diffusion, §4.2).

    It is shown the sample inside the mask and the input outside, so that only the inside can earn it. A sample is
    correct where the new kind is seen and the replaced one no more.

    `precision`: share of correct samples (the paper's batch precision); `precision_best`: of the best-ranked ones;
    `diversity`: mean LPIPS between two correct samples of a request, of the same composites.

    Args:
        weights: folder of the feature network.
        device: "auto" takes CUDA where there is one.
    """

    higher_is_better: ClassVar = {"precision": "higher", "precision_best": "higher", "diversity": "higher"}
    input_kind: ClassVar = "pictures"

    def __init__(self, weights: str = "weights/stilllife_features", device: str = "auto") -> None:
        self.judge = load(weights, device)
        self.distance = PerceptualDistance(self.judge)

    def fingerprint(self) -> str:
        """The weights."""
        return f"local-precision-1-{self.judge.hash}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs given masks, and to know the wanted fruit."""
        if reason := without_masks(batch):
            return reason
        if not batch.truths or any(truth.attribute != "fruits" for truth in batch.truths):
            return "only edits of fruit: the other attributes are not inside a mask (benchmark.attributes=[fruits])"
        return None

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, "b ..."]]:
        """Estimate of a request's samples; and the distances of its correct pairs as (sum, count)."""
        samples, best = all_samples(batch)
        inside = given_masks(batch)[:, None]
        shown = torch.where(inside, samples, batch.inputs[:, None])
        right = self.correct(batch, shown)
        pairs = torch.stack([self.pairs(*each) for each in zip(shown, right, strict=True)])
        rows = {"precision": right.float().mean(1), "precision_best": (right * best).sum(1)}
        return rows | {"pairs": pairs}

    def correct(self, batch: Batch, shown: Float[Tensor, "b n 3 H W"]) -> Bool[Tensor, "b n"]:
        """Whether each composite shows the new kind, and the replaced one no more."""
        there = torch.stack([self.judge(each.contiguous()).fruits > 0 for each in shown.unbind(1)], 1)
        kinds = list(ATTRIBUTES["fruits"])
        right = []
        for seen, truth in zip(there, batch.truths, strict=True):
            new, old = (
                set(one.fruits) - set(other.fruits)
                for one, other in ((truth.after, truth.before), (truth.before, truth.after))
            )
            good = seen[:, [kinds.index(kind) for kind in new]].all(1)
            right.append(good & ~seen[:, [kinds.index(kind) for kind in old]].any(1))
        return torch.stack(right)

    def pairs(self, shown: Float[Tensor, "n 3 H W"], right: Bool[Tensor, " n"]) -> Float[Tensor, "2"]:
        """(sum of distances, count) over the pairs of correct samples of one request."""
        good = shown[right]
        i, j = torch.triu_indices(len(good), len(good), 1)
        total = self.distance(good[i], good[j]).sum() if len(i) else torch.zeros(())
        return torch.stack([total, torch.tensor(float(len(i)))])

    def aggregate(self, facts: Mapping[str, Float[ndarray, "n ..."]], context: MetricContext) -> dict[str, Estimate]:
        """Means over requests; diversity is over all pairs, NaN where there is none."""
        found = {name: estimate_mean(facts[name]) for name in ("precision", "precision_best")}
        return found | {"diversity": estimate_ratio(*facts["pairs"].T)}
