"""What an edit took."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from eval.scoring.batch import Batch
from eval.scoring.metric import means


class Cost:
    """What one sample took, as the records say: seconds of wall time and evaluations of the denoiser.

    The seconds are of all ratios of the run together, the evaluations of this one and what it shares with the others.
    """

    higher_is_better: ClassVar = {"seconds": "lower", "evaluations": "lower"}
    input_kind: ClassVar = "pictures"
    aggregate = staticmethod(means)

    def fingerprint(self) -> str:
        """Nothing to set."""
        return "cost-1"

    def undefined_reason(self, batch: Batch) -> str | None:
        """Every run has it; what was not edited has none."""
        return None if batch.records else "nothing was edited"

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
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
