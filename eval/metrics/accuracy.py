"""Whether a classifier sees what an edit asked for."""

import hashlib
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffedit.networks import Extractor, out_of_domain
from eval.scoring.batch import Batch
from eval.scoring.metric import means


@runtime_checkable
class Classifier(Extractor, Protocol):
    """An extractor whose features are logits. `labels` are their classes, as the benchmark names them."""

    labels: Sequence[str]


class EditAccuracy:
    """Whether the classifier sees what was asked for.

    `accuracy`: where the benchmark has target classes, its best guess among them is the target (FlexIT: the largest
    logit of the benchmark's target classes). On Still Life without classes: it sees the new value of the changed
    attribute (for fruit: the new kind, and the replaced kind no more), and `kept` is the share of the other attributes
    in which it sees what the input holds.

    Args:
        classifier: gives logits.
    """

    higher_is_better: ClassVar = {"accuracy": "higher", "kept": "higher"}
    input_kind: ClassVar = "features"
    aggregate = staticmethod(means)

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def fingerprint(self) -> str:
        """The weights, and the names of the classes."""
        labels = hashlib.sha256(repr(tuple(self.classifier.labels)).encode()).hexdigest()[:8]
        return f"accuracy-3-{self.classifier.hash}-{labels}"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Needs target classes, or to know which attribute was asked for."""
        if all(request.label for request in batch.requests):
            return out_of_domain(self.classifier, batch.truths) or self.nameless(batch)
        if not batch.truths:
            return "the benchmark has no target classes"
        known = all(truth.judged_by(self.classifier.labels) for truth in batch.truths)
        return None if known else "the classifier knows no Still Life; networks=stilllife has one that does"

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """0 or 1, and a share."""
        logits = batch.features(self.classifier, "edits")
        found = {}
        if batch.truths:
            rows = [truth.judge(row, self.classifier.labels) for truth, row in zip(batch.truths, logits, strict=True)]
            found = {name: torch.tensor([row[k] for row in rows]) for k, name in enumerate(("accuracy", "kept"))}
        if all(request.label for request in batch.requests):  # Still Life's own verdict gives way to FlexIT's
            found["accuracy"] = self.restricted(logits, [request.label for request in batch.requests])
        return found

    def nameless(self, batch: Batch) -> str | None:
        """Which target class the classifier does not have."""
        lacking = sorted({request.label for request in batch.requests} - set(self.classifier.labels))
        if not lacking:
            return None
        known = ", ".join(self.classifier.labels[:5])
        return (
            f"the classifier has no class {', '.join(lacking[:5])}; it has {known}, ...: networks.classifier.classes= "
            "names them as the benchmark does"
        )

    def restricted(self, logits: Float[Tensor, "b classes"], targets: Sequence[str]) -> Float[Tensor, " b"]:
        """Whether the largest logit among the target classes of the set is that of the image's target."""
        columns = {name: i for i, name in enumerate(self.classifier.labels)}
        classes = sorted(set(targets))
        best = logits[:, [columns[name] for name in classes]].argmax(1)
        return torch.tensor([float(classes[k] == target) for k, target in zip(best.tolist(), targets, strict=True)])
