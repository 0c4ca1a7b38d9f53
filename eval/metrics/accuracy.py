"""Whether a classifier sees what an edit asked for."""

import hashlib
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.networks import Extractor
from eval.scoring.batch import Batch
from eval.scoring.metric import Metric, find_lack


@runtime_checkable
class Classifier(Extractor, Protocol):
    """An extractor whose features are logits. `labels` are their classes, as the benchmark names them."""

    labels: Sequence[str]


@runtime_checkable
class JudgingTruth(Protocol):
    """A ground truth that knows what a classifier should see in the edit, where no class is asked for.

    It may have `is_one_of_several`: the picture shows other classes beside the one that is changed, so that the best
    guess among classes says little, and this verdict is taken.
    """

    def judged_by(self, labels: Sequence[str]) -> bool:
        """Whether a classifier with these labels can tell."""

    def judge(self, logits: Float[Tensor, " classes"], labels: Sequence[str]) -> tuple[float, float]:
        """(whether what was asked for is seen, share of everything else that is kept)."""


class EditAccuracy(Metric):
    """Whether the classifier sees what was asked for.

    `accuracy`: where the benchmark has target classes, its best guess among them is the target (FlexIT: the largest
    logit of the benchmark's target classes). Elsewhere, and where pictures show several classes, the ground truth
    judges: on Still Life, whether the new value of the changed attribute is seen (for fruit: the new kind, and the
    replaced kind no more).

    `kept`, where there is such a ground truth: the share of the other attributes in which the classifier sees what the
    input holds; `both`: what was asked for is seen, and everything else is kept.

    Args:
        classifier: gives logits.
    """

    version: ClassVar = "accuracy-4"
    higher_is_better: ClassVar = {"accuracy": True, "kept": True, "both": True}
    input_kind: ClassVar = "features"

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.networks = (classifier,)

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the classes."""
        return (hashlib.sha256(repr(tuple(self.classifier.labels)).encode()).hexdigest()[:8],)

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs target classes that the classifier has, or a ground truth that judges it."""
        unlabelled = find_lack(batch, "label")
        if unlabelled is None:
            return super().undefined_reason(batch) or self.find_nameless(batch)
        truths = [truth for truth in batch.ground_truths if isinstance(truth, JudgingTruth)]
        if not truths:
            return unlabelled
        judged = all(truth.judged_by(self.classifier.labels) for truth in truths)
        return None if judged else "the classifier knows no Still Life; networks=stilllife has one that does"

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """0 or 1, and a share."""
        logits = batch.features(self.classifier, "edits")
        targets = [request.label for request in batch.requests]
        values = {}
        if truths := [truth for truth in batch.ground_truths if isinstance(truth, JudgingTruth)]:
            pairs = [truth.judge(row, self.classifier.labels) for truth, row in zip(truths, logits, strict=True)]
            values = {"accuracy": torch.tensor([right for right, _ in pairs])}
            values["kept"] = torch.tensor([kept for _, kept in pairs])
        several = any(getattr(truth, "is_one_of_several", False) for truth in truths)
        if all(targets) and not several:  # the ground truth's verdict gives way to FlexIT's
            values["accuracy"] = self.guess_among(logits, targets)
        if "kept" in values:
            values["both"] = values["accuracy"] * (values["kept"] == 1)
        return values

    def find_nameless(self, batch: Batch) -> str | None:
        """Which target class the classifier does not have."""
        lacking = sorted({request.label for request in batch.requests} - set(self.classifier.labels))
        if not lacking:
            return None
        known = ", ".join(self.classifier.labels[:5])
        return (
            f"the classifier has no class {', '.join(lacking[:5])}; it has {known}, ...: networks.classifier.classes= "
            "names them as the benchmark does"
        )

    def guess_among(self, logits: Float[Tensor, "b classes"], targets: Sequence[str]) -> Float[Tensor, " b"]:
        """Whether the largest logit among the target classes of the set is that of the image's target."""
        columns = {name: i for i, name in enumerate(self.classifier.labels)}
        classes = sorted(set(targets))
        best = logits[:, [columns[name] for name in classes]].argmax(1)
        return torch.tensor([float(classes[k] == target) for k, target in zip(best.tolist(), targets, strict=True)])
