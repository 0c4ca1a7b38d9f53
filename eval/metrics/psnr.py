"""PSNR between input and edit."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from eval.metrics.functional.pairwise import psnr
from eval.scoring.batch import Batch
from eval.scoring.metric import Metric


class Psnr(Metric):
    """Peak signal-to-noise ratio of edit and input over the whole picture, in dB; at most 100, where both are equal.

    What a method keeps with nothing to edit: DDIM inversion and back, as `editor=encode_decode editor.guidance=0`, or
    the autoencoder alone, as `editor=round_trip`.
    """

    version: ClassVar = "psnr-1"
    higher_is_better: ClassVar = {"psnr": True}

    def per_image(self, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        return {"psnr": psnr(batch.inputs, batch.edits)}
