"""What Blended Latent Diffusion is judged by: precision inside the mask, diversity, background error, cost.

Every figure is of given masks, and of all samples of a request where it has several.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from eval.benchmarks.stilllife.scene import ATTRIBUTES
from eval.gallery import Batch
from eval.metrics import Scope, means
from eval.metrics.distance import PerceptualDistance
from eval.networks.stilllife import load
from eval.statistics import Shares, share_of_mean, share_of_ratio


def given_masks(batch: Batch) -> Bool[Tensor, "b 1 H W"]:
    """The requests' own masks, in pixels."""
    return torch.stack([request.mask() for request in batch.requests]) >= 0.5


def without_masks(batch: Batch) -> str | None:
    """Which requests have no given mask; None where all have one."""
    lacking = [request.id for request in batch.requests if request.mask is None]
    if not lacking:
        return None
    if len(lacking) == len(batch.requests):
        return "the benchmark has no given masks"
    return f"{len(lacking)} requests of {len(batch.requests)} have no given mask: {', '.join(lacking[:5])}"


def all_samples(batch: Batch) -> tuple[Float[Tensor, "b n 3 H W"], Float[Tensor, "b n"]]:
    """All samples and which is the best; the edit alone where there is one."""
    if batch.samples is None:
        return batch.edits[:, None], torch.ones(len(batch.edits), 1)
    return batch.samples()


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

    better: ClassVar = {"precision": "higher", "precision_best": "higher", "diversity": "higher"}
    reads: ClassVar = "pictures"

    def __init__(self, weights: str = "weights/stilllife_features", device: str = "auto") -> None:
        self.judge = load(weights, device)
        self.distance = PerceptualDistance(self.judge)

    def fingerprint(self) -> str:
        """The weights."""
        return f"local-precision-1-{self.judge.hash}"

    def missing(self, batch: Batch) -> str | None:
        """Needs given masks, and to know the wanted fruit."""
        if reason := without_masks(batch):
            return reason
        if not batch.truths or any(truth.attribute != "fruits" for truth in batch.truths):
            return "only edits of fruit: the other attributes are not inside a mask (benchmark.attributes=[fruits])"
        return None

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, "b ..."]]:
        """Shares of a request's samples; and the distances of its correct pairs as (sum, count)."""
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

    def figures(self, facts: Mapping[str, Float[ndarray, "n ..."]], scope: Scope) -> dict[str, Shares]:
        """Means over requests; diversity is over all pairs, NaN where there is none."""
        found = {name: share_of_mean(facts[name]) for name in ("precision", "precision_best")}
        return found | {"diversity": share_of_ratio(*facts["pairs"].T)}


class Cost:
    """What one sample took, as the records say: seconds of wall time and evaluations of the denoiser.

    The seconds are of all ratios of the run together, the evaluations of this one and what it shares with the others.
    """

    better: ClassVar = {"seconds": "lower", "evaluations": "lower"}
    reads: ClassVar = "pictures"
    figures = staticmethod(means)

    def fingerprint(self) -> str:
        """Nothing to set."""
        return "cost-1"

    def missing(self, batch: Batch) -> str | None:
        """Every run has it; what was not edited has none."""
        return None if batch.records else "nothing was edited"

    def facts(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Two numbers a request, each divided by its samples."""
        own = [next(e for e in record["edits"] if e["ratio"] == batch.ratio) for record in batch.records]
        asked = [
            record["shared_evaluations"] + edit["evaluations"] for record, edit in zip(batch.records, own, strict=True)
        ]
        count = torch.tensor(
            [max(1, sum(e["ratio"] == batch.ratio for e in record.get("samples", ()))) for record in batch.records]
        )
        seconds = torch.tensor([record["seconds"] for record in batch.records])
        return {"seconds": seconds / count, "evaluations": torch.tensor(asked) / count}
