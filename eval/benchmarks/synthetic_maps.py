"""Synthetic contrast maps of an object of known area: what a rule for the mask is judged by on any grid."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

AREAS = (0.01, 0.03, 0.05, 0.1, 0.25, 0.6)


def draw_differences(
    side: int, area: float, contrast: float, seed: int, noises: int = 10, channels: int = 4, patches: float = 0.1
) -> tuple[Float[Tensor, "n c h w"], Bool[Tensor, "h w"]]:
    """(differences of the noise estimates, the object).

    Normal noise of no direction, of a scale that varies in patches (their logarithm by `patches`) and is `contrast`
    times larger within an ellipse.

    Args:
        side: of the grid.
        area: of the object, a share of the grid.
        contrast: of the object, times the background's.
        seed: with the first three it fixes every draw.
        noises: n.
        channels: c.
        patches: standard deviation of the logarithm of the background's scale.
    """
    rng = np.random.default_rng([side, round(1000 * area), round(10 * contrast), seed])
    field = gaussian_filter(rng.standard_normal((side, side)), side / 16, mode="wrap")
    y, x = np.mgrid[:side, :side] + 0.5
    centre, stretch = rng.uniform(0.3, 0.7, 2) * side, rng.uniform(0.7, 1.4)
    distance = np.hypot((y - centre[0]) * stretch, (x - centre[1]) / stretch).ravel()
    inside = np.zeros(side * side, dtype=bool)
    inside[np.argsort(distance, kind="stable")[: max(1, round(area * side * side))]] = True
    inside = inside.reshape(side, side)
    scale = np.exp(patches * field / field.std()) * np.where(inside, contrast, 1)
    differences = scale * rng.standard_normal((noises, channels, side, side))
    return torch.from_numpy(differences.astype(np.float32)), torch.from_numpy(inside)
