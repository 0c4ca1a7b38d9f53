"""A diffusion model that needs no training: the exact noise estimate of a Gaussian mixture, in closed form.

The clean distribution is a mixture of isotropic Gaussians, one or more for each class; x = alpha * x0 + sigma * eps is
then a mixture as well, and the ideal estimate is E[eps | x] = sum_j p(j | x) * sigma * (x - alpha * m_j) / v, with
v = (alpha * std)^2 + sigma^2. It is the model that tests are made of: everything a method does can be computed by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from diffedit.backbones.base import PixelBackbone
from diffedit.io.checks import Count, Seed
from diffedit.io.hashing import hash_text
from diffedit.sampling.noise import make_generator
from diffedit.sampling.schedule import NoiseSchedule, TrainedTimes, scaled_linear
from diffedit.types import Level, Prediction


@dataclass(frozen=True)
class AnalyticBackbone(PixelBackbone):
    """Images are their own latents: x = 2 * image - 1, with 3 channels.

    A text stands for the classes it names, as words; "" stands for all of them.

    Attributes:
        resolution: side of the images and of the latent grid.
        classes: their names.
        modes: Gaussians of each class.
        std: standard deviation of each Gaussian.
        seed: of the means, which are uniform in [-1, 1] and differ between classes in the central quarter only, so that
            a change of class has a place: 1/4 <= row, column < 3/4 of the side.
        dtype: `float32` or `float64`.
    """

    resolution: Count = 16
    classes: Sequence[str] = ("apple", "pear", "plum")
    modes: Count = 2
    std: Annotated[float, Gt(0)] = 0.1
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float32"
    means: Float[Tensor, "classes modes 3 H W"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        side, draw = self.resolution, make_generator(self.seed, "analytic", "means")
        shape = (len(self.classes), self.modes, 3, side, side)
        background = (torch.rand((1, *shape[1:]), generator=draw) * 2 - 1).expand(shape)
        objects = torch.rand((*shape[:3], 1, 1), generator=draw) * 2 - 1
        inside = torch.zeros(side, side, dtype=torch.bool)
        inside[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
        object.__setattr__(self, "means", torch.where(inside, objects, background).to(getattr(torch, self.dtype)))

    def schedule(self, steps: int) -> NoiseSchedule:
        """Latent diffusion's schedule, leading spacing with offset 1, clean at level 0."""
        times, alphas_cumprod = TrainedTimes(1000, "leading", 1), scaled_linear()
        warning = times.describe_gap(steps, alphas_cumprod)
        return NoiseSchedule.discrete(alphas_cumprod, times.choose(steps), clean=1.0, warning=warning)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Its settings are all there is."""
        return {"settings": hash_text(repr(self))}

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b 3 H W"], Float[Tensor, "b 3 H W"]]:
        """In the dtype of the model."""
        return super().posterior(images.to(self.means.dtype))

    def embed(self, texts: Sequence[str]) -> list[Tensor]:
        """Log-weights of the classes, (classes,), for each text.

        Raises:
            ValueError: a text that names no class.
        """
        return [self.class_weights(text) for text in texts]

    def class_weights(self, text: str) -> Float[Tensor, " classes"]:
        """The log-weights of one text."""
        words = text.lower().replace(",", " ").split()
        named = torch.tensor([not text or name in words for name in self.classes])
        if not named.any():
            raise ValueError(f"the text {text!r} names none of the analytic model's classes: {', '.join(self.classes)}")
        return named.to(self.means.dtype).log()

    def predict(
        self, x: Float[Tensor, "b 3 H W"], levels: Sequence[Level], conds: Sequence[Float[Tensor, " classes"]]
    ) -> Prediction:
        """The exact E[eps | x] and E[x0 | x]."""
        rows = [self.predict_one(*row) for row in zip(x, levels, conds, strict=True)]
        return Prediction(*(torch.stack(part) for part in zip(*rows, strict=True)))

    def predict_one(
        self, x: Float[Tensor, "3 H W"], level: Level, cond: Float[Tensor, " classes"]
    ) -> tuple[Tensor, ...]:
        """(E[x0 | x], E[eps | x]) of one latent."""
        alpha, sigma, _ = level
        variance = (alpha * self.std) ** 2 + sigma**2
        away = x - self.means * alpha
        log_weight = cond[:, None] - away.square().sum((2, 3, 4)) / (2 * variance)
        weight = log_weight.flatten().softmax(0).reshape(log_weight.shape)
        mean_away = (weight[:, :, None, None, None] * away).sum((0, 1))
        mean = (weight[:, :, None, None, None] * self.means).sum((0, 1))
        return mean + mean_away * (alpha * self.std**2 / variance), mean_away * (sigma / variance)
