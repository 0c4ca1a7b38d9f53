"""What an edit took."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from eval.scoring.batch import Batch
from eval.scoring.metric import Metric


class Cost(Metric):
    """What one sample took, as the records say: seconds of wall time and evaluations of the denoiser.

    The seconds are of all variants of the run together, the evaluations of this one and what it shares with the others.
    """

    version: ClassVar = "cost-1"
    higher_is_better: ClassVar = {"seconds": False, "evaluations": False}
    needs: ClassVar = ("record",)

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """Two numbers a request, each divided by its samples."""
        variant = str(batch.variant)
        seconds, evaluations, samples = [], [], []
        for record in batch.records:
            edit = next(edit for edit in record["edits"] if edit["variant"] == variant)
            seconds.append(record["seconds"])
            evaluations.append(record["shared_evaluations"] + edit["evaluations"])
            samples.append(max(1, sum(sample["variant"] == variant for sample in record.get("samples", ()))))
        count = torch.tensor(samples)
        return {"seconds": torch.tensor(seconds) / count, "evaluations": torch.tensor(evaluations) / count}
