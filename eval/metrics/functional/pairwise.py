"""Distances between two pictures."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffedit.io.cache import BatchCache
from diffedit.networks import Perceptual

Pictures = Float[Tensor, "b 3 H W"]

ACTIVATIONS = BatchCache()  # several metrics, and every variant of a run, ask about the same pictures


def psnr(one: Pictures, other: Pictures, region: Float[Tensor, "b 1 H W"] | None = None) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1], over a region; at most 100, which equal pictures get."""
    if region is None:
        region = torch.ones_like(one[:, :1])
    square = ((one - other) ** 2).mean(1, keepdim=True)
    error = (square * region).sum((1, 2, 3)) / region.sum((1, 2, 3)).clamp(min=1)
    return -10 * torch.log10(error.clamp(min=1e-10))


@torch.no_grad()
def activate(network: Perceptual, images: Pictures) -> list[Tensor]:
    """The activations of a network, of unit length over channels."""
    return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in network.layers(images)]


class PerceptualDistance:
    """LPIPS (Zhang et al., 2018): squared differences of channel-normalised activations of some layers.

    Weighted by the network's heads (alike where it has none: `lpips=False` of the lpips package) and summed over
    channels, averaged over places, summed over layers.

    Args:
        network: gives the layers and the heads.
    """

    def __init__(self, network: Perceptual) -> None:
        self.network = network

    def __call__(self, one: Pictures, other: Pictures) -> Float[Tensor, " b"]:
        """One number a pair; a ValueError for pictures outside [0, 1], or too small."""
        return sum(layer.mean((1, 2, 3)) for layer in self.layers(one, other))

    def spread(self, one: Pictures, other: Pictures) -> tuple[Float[Tensor, " b"], Float[Tensor, "b 1 H W"]]:
        """The distance, and where it comes from: every layer's map brought to the pictures' size, and summed."""
        layers = self.layers(one, other)
        maps = [F.interpolate(layer, one.shape[-2:], mode="bilinear", align_corners=False) for layer in layers]
        return sum(layer.mean((1, 2, 3)) for layer in layers), sum(maps)

    def layers(self, one: Pictures, other: Pictures) -> list[Float[Tensor, "b 1 _ _"]]:
        """The weighted squared difference at each place of each layer."""
        for images in (one, other):
            low, high = images.amin().item(), images.amax().item()
            if not 0 <= low <= high <= 1:
                raise ValueError(f"LPIPS takes pictures in [0, 1]; these are in [{low:.3g}, {high:.3g}]")
            if min(images.shape[-2:]) < self.network.smallest:
                raise ValueError(f"LPIPS on this network takes sides of {self.network.smallest} pixels or more")
        pairs = list(zip(*map(self.activations, (one, other)), strict=True))
        heads = self.network.heads or [None] * len(pairs)
        squares = [(a - b) ** 2 for a, b in pairs]
        weighted = [x if head is None else x * head.view(1, -1, 1, 1) for x, head in zip(squares, heads, strict=True)]
        return [x.sum(1, keepdim=True).cpu() for x in weighted]

    def activations(self, images: Pictures) -> list[Tensor]:
        """Of the last few batches: kept."""
        return ACTIVATIONS.get(self.network.hash, images, lambda: activate(self.network, images))
