"""Which of several samples is the best."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.networks.clip import OpenClip
from diffedit.types import EditRequest, Network


@runtime_checkable
class Rank(Protocol):
    """Says which of several edits is the best."""

    networks: tuple[Network, ...]  # part of a run's identity
    needs_mask: bool

    def __call__(
        self, request: EditRequest, images: Float[Tensor, "n 3 H W"], masks: Bool[Tensor, "n 1 H W"] | None
    ) -> Sequence[float]:
        """A score for each, higher is better."""


@settings
class KeepFirst:
    """No ranking: the first sample is the one."""

    networks: ClassVar = ()
    needs_mask: ClassVar = False

    def __call__(
        self, request: EditRequest, images: Float[Tensor, "n 3 H W"], masks: Bool[Tensor, "n 1 H W"] | None
    ) -> list[float]:
        """Falls with the place."""
        return [-float(k) for k in range(len(images))]


@settings
class ClipRank:
    """Ranks samples by the cosine of picture and target text (Blended Latent Diffusion, §3.5).

    Attributes:
        clip: the model.
        region: `mask` makes the picture black outside the mask, as the official code does; `whole` takes all of it.
    """

    clip: OpenClip
    region: Literal["mask", "whole"] = "mask"

    @property
    def networks(self) -> tuple[Network, ...]:
        return (self.clip,)

    @property
    def needs_mask(self) -> bool:
        """To make the outside black."""
        return self.region == "mask"

    @torch.no_grad()
    def __call__(
        self, request: EditRequest, images: Float[Tensor, "n 3 H W"], masks: Bool[Tensor, "n 1 H W"] | None
    ) -> list[float]:
        """One cosine a picture; a ValueError where a mask is needed and the editor has none."""
        if self.region == "mask":
            if masks is None:
                raise ValueError(f"request {request.id}: rank.region=mask and the editor has no mask: take whole")
            images = torch.where(masks, images, 0)
        return (self.clip.images(images) @ self.clip.texts([request.target_text])[0]).tolist()
