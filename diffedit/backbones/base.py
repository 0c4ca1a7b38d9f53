"""What most backbones are alike in. A new family is a subclass that overrides what differs."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffedit.types import Level, Prediction


class BaseBackbone:
    """A backbone of squares, without a decoder that could be trained; a latent is the mode of `posterior`."""

    decoder: nn.Module | None = None
    grain: int | None = None
    conditions: Literal["text", "class"] = "text"

    @property
    def numerics(self) -> Mapping[str, str]:
        """What decides the last bits of an answer beside the weights: how the networks are called."""
        return {}

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Latents and their standard deviation."""
        raise TypeError(f"{type(self).__name__} has to say how pictures are encoded: posterior()")

    def encode(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """The posterior's mode."""
        return self.posterior(images)[0]

    def render(
        self, latents: Float[Tensor, "b c h w"], weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b 3 H W"]:
        """Refused: there is no decoder."""
        raise ValueError(f"{type(self).__name__} has no decoder to fit: take reconstruct=pixel_paste or poisson")


class PixelBackbone(BaseBackbone):
    """Pictures in [-1, 1] are their own latents."""

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 3 H W"]]:
        """Nothing is uncertain."""
        latents = images * 2 - 1
        return latents, torch.zeros_like(latents)

    def decode(self, latents: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Back to [0, 1], clipped."""
        return (latents * 0.5 + 0.5).clamp(0, 1)


def send(levels: Sequence[Level], device: torch.device) -> Float[Tensor, "3 b"]:
    """Alphas, sigmas and timesteps in one copy, which the host does not wait for: its memory is pinned on CUDA."""
    numbers = torch.tensor(list(zip(*levels, strict=True)), dtype=torch.float32, pin_memory=device.type == "cuda")
    return numbers.to(device, non_blocking=True)


def as_column(numbers: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    """One number a row, ready to multiply latents."""
    return numbers[:, None, None, None]


def read_output(kind: str, x: Tensor, out: Tensor, alpha: Tensor, sigma: Tensor) -> Prediction:
    """A network's output as x0 and eps, by its prediction type; a ValueError for one that is not known."""
    match kind:
        case "epsilon":
            return Prediction((x - sigma * out) / alpha, out)
        case "v_prediction":
            return Prediction(alpha * x - sigma * out, alpha * out + sigma * x)
    raise ValueError(f"prediction_type {kind!r} is neither epsilon nor v_prediction")
