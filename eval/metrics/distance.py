"""Distances between two pictures."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Pictures = Float[Tensor, "b 3 H W"]


def psnr(one: Pictures, other: Pictures, region: Float[Tensor, "b 1 H W"] | None = None) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1], over a region; at most 100, which equal pictures get."""
    if region is None:
        region = torch.ones_like(one[:, :1])
    square = ((one - other) ** 2).mean(1, keepdim=True)
    error = (square * region).sum((1, 2, 3)) / region.sum((1, 2, 3)).clamp(min=1)
    return -10 * torch.log10(error.clamp(min=1e-10))


class PerceptualDistance:
    """LPIPS without learnt weights (Zhang et al., 2018): squared differences of channel-normalised activations.

    Summed over channels, averaged over places, summed over layers; what the lpips package calls `lpips=False`.

    Args:
        activations: pictures in [0, 1], wherever they are, to the layers' outputs.
    """

    def __init__(self, activations: Callable[[Pictures], list[Tensor]]) -> None:
        self.activations = activations
        self.last: tuple[Tensor, list[Tensor]] | None = None

    def __call__(self, one: Pictures, other: Pictures) -> Float[Tensor, " b"]:
        """One number a pair; a ValueError for pictures outside [0, 1]."""
        return self.spread(one, other)[0]

    def spread(self, one: Pictures, other: Pictures) -> tuple[Float[Tensor, " b"], Float[Tensor, "b 1 H W"]]:
        """The distance, and where it comes from: every layer's map brought to the pictures' size, and summed."""
        layers = self.layers(one, other)
        maps = [F.interpolate(layer, one.shape[-2:], mode="bilinear", align_corners=False) for layer in layers]
        return sum(layer.mean((1, 2, 3)) for layer in layers), sum(maps)

    def layers(self, one: Pictures, other: Pictures) -> list[Float[Tensor, "b 1 _ _"]]:
        """The squared difference at each place of each layer."""
        for images in (one, other):
            low, high = images.amin().item(), images.amax().item()
            if not 0 <= low <= high <= 1:
                raise ValueError(f"LPIPS takes pictures in [0, 1]; these are in [{low:.3g}, {high:.3g}]")
        pairs = zip(self.normalised(one, keep=True), self.normalised(other), strict=True)
        return [((a - b) ** 2).sum(1, keepdim=True).cpu() for a, b in pairs]

    def normalised(self, images: Pictures, keep: bool = False) -> list[Tensor]:
        """The activations, of unit length over channels. The first picture's are kept: it comes with every ratio."""
        if self.last is not None and self.last[0] is images:
            return self.last[1]
        layers = self.activations(images)
        unit = [layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-10) for layer in layers]
        if keep:
            self.last = images, unit
        return unit
