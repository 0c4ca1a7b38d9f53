"""What Blended Latent Diffusion is judged by inside the mask: whether the wanted fruit is there, and diversity.

All scores are of given masks, and of all samples of a request where it has several.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from eval.metrics.functional.pairwise import PerceptualDistance
from eval.scoring.batch import Batch
from eval.scoring.bootstrap import Estimate, estimate_mean, estimate_ratio
from eval.scoring.metric import Metric, MetricContext, find_lack
from eval.stilllife.benchmarks import GroundTruth
from eval.stilllife.network import load
from eval.stilllife.scene import ATTRIBUTES


class LocalPrecision(Metric):
    """Whether the classifier sees the wanted fruit inside the given mask (Blended Latent Diffusion, §4.2).

    It is shown the sample inside the mask and the input outside, so that only the inside can earn it. A sample is
    correct where the new kind is seen and the replaced one no more.

    `precision`: share of correct samples (the paper's batch precision); `precision_best`: of the best-ranked ones;
    `diversity`: mean LPIPS between two correct samples of a request, of the same composites.

    Args:
        weights: folder of the feature network.
        device: "auto" takes CUDA where there is one.
    """

    version: ClassVar = "local-precision-1"
    higher_is_better: ClassVar = {"precision": True, "precision_best": True, "diversity": True}

    def __init__(self, weights: str = "weights/stilllife_features", device: str = "auto") -> None:
        self.network = load(weights, device)
        self.networks = (self.network,)
        self.distance = PerceptualDistance(self.network)

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs given masks, and to know the wanted fruit, in squares."""
        if reason := find_lack(batch, "mask"):
            return reason
        if batch.edits.shape[-1] != batch.edits.shape[-2]:
            return "the network judges 64 x 64 pixels, and these pictures are not square (accuracy takes their middle)"
        truths = [truth for truth in batch.ground_truths if isinstance(truth, GroundTruth)]
        if not truths or any(truth.attribute != "fruits" for truth in truths):
            return "only edits of fruit: the other attributes are not inside a mask (benchmark.attributes=[fruits])"
        return None

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, "b ..."]]:
        """Shares of a request's samples; and the distances of its correct pairs as (sum, count)."""
        samples, best = batch.all_samples()
        inside = batch.given_masks()[:, None]
        composites = torch.where(inside, samples, batch.inputs[:, None])
        correct = self.find_correct(batch, composites)
        return {
            "precision": correct.float().mean(1),
            "precision_best": (correct * best).sum(1),
            "pairs": torch.stack([self.sum_pairs(*row) for row in zip(composites, correct, strict=True)]),
        }

    def find_correct(self, batch: Batch, composites: Float[Tensor, "b n 3 H W"]) -> Bool[Tensor, "b n"]:
        """Whether each composite shows the new kind, and the replaced one no more."""
        kinds = list(ATTRIBUTES["fruits"])
        visible = torch.stack([self.network(images.contiguous()).fruits > 0 for images in composites.unbind(1)], 1)
        correct = []
        for rows, truth in zip(visible, batch.ground_truths, strict=True):
            before, after = set(truth.before.fruits), set(truth.after.fruits)
            new = rows[:, [kinds.index(kind) for kind in after - before]].all(1)
            correct.append(new & ~rows[:, [kinds.index(kind) for kind in before - after]].any(1))
        return torch.stack(correct)

    def sum_pairs(self, composites: Float[Tensor, "n 3 H W"], correct: Bool[Tensor, " n"]) -> Float[Tensor, "2"]:
        """(sum of distances, count) over the pairs of correct samples of one request."""
        images = composites[correct]
        i, j = torch.triu_indices(len(images), len(images), 1)
        total = self.distance(images[i], images[j]).sum() if len(i) else torch.zeros(())
        return torch.stack([total, torch.tensor(float(len(i)))])

    def aggregate(self, values: Mapping[str, Float[ndarray, "n ..."]], context: MetricContext) -> dict[str, Estimate]:
        """Means over requests; diversity is over all pairs, NaN where there is none."""
        scores = {name: estimate_mean(values[name]) for name in ("precision", "precision_best")}
        return scores | {"diversity": estimate_ratio(*values["pairs"].T)}
