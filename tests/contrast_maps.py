"""Synthetic contrast maps of an object of known area: what a rule for the mask is judged by on any grid."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

AREAS = (0.01, 0.03, 0.05, 0.1, 0.25, 0.6)


def draw_differences(side, area, contrast, seed, noises=10, channels=4, patches=0.1):
    """(differences of the noise estimates, (n, c, h, w); the object, (h, w)).

    Normal noise of no direction, of a scale that varies in patches (their logarithm by `patches`) and is `contrast`
    times larger within an ellipse.
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


def draw_map(*args, **settings):
    """(contrast map, (h, w); the object, (h, w)), as of `draw_differences`."""
    differences, inside = draw_differences(*args, **settings)
    return differences.abs().mean(1).mean(0), inside


def compute_iou(mask, inside):
    """Intersection over union."""
    return ((mask & inside).sum() / (mask | inside).sum()).item()
