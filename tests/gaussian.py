"""A diffusion model of Gaussian data with any covariance: its noise estimate is linear, and known in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from diffedit.backbones.base import PixelBackbone
from diffedit.sampling.schedule import NoiseSchedule, scaled_linear
from diffedit.types import Prediction


@dataclass(frozen=True, eq=False)
class GaussianBackbone(PixelBackbone):
    """x0 ~ N(m, S), m by the text and one S: E[eps | x] = sigma * (alpha^2 S + sigma^2)^-1 (x - alpha m)."""

    covariance: torch.Tensor  # (d, d), d = 3 * resolution^2
    means: Mapping[str, torch.Tensor]  # (d,) by text
    resolution: int = 2
    fingerprint: ClassVar = {"settings": "gaussian"}

    def schedule(self, steps):
        every = 1000 // steps
        return NoiseSchedule.discrete(scaled_linear(), [i * every + 1 for i in range(steps)], clean=1.0)

    def embed(self, texts):
        return [self.means[text] for text in texts]

    def slope(self, level):
        """The Jacobian of eps at a level."""
        eye = torch.eye(len(self.covariance), dtype=torch.float64)
        return level.sigma * torch.linalg.inv(level.alpha**2 * self.covariance + level.sigma**2 * eye)

    def predict(self, x, levels, conds):
        rows = []
        for one, level, mean in zip(x, levels, conds, strict=True):
            away = (one.flatten().double() - level.alpha * mean) @ self.slope(level)
            rows.append(away.reshape(one.shape).to(x))
        eps = torch.stack(rows)
        alpha, sigma = (torch.tensor([level[k] for level in levels]).to(x)[:, None, None, None] for k in (0, 1))
        return Prediction((x - sigma * eps) / alpha, eps)


@dataclass(frozen=True, eq=False)
class LinearBackbone(GaussianBackbone):
    """eps = slope * x + a number of the text: a network, if of no data."""

    covariance: float  # the slope
    means: Mapping[str, float]

    def embed(self, texts):
        return [self.means[text] for text in texts]

    def predict(self, x, levels, conds):
        eps = self.covariance * x + torch.tensor(conds).to(x)[:, None, None, None]
        alpha, sigma = (torch.tensor([level[k] for level in levels]).to(x)[:, None, None, None] for k in (0, 1))
        return Prediction((x - sigma * eps) / alpha, eps)
