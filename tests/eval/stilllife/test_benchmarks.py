"""Masks of Still Life that are not the exact ones: strokes, and ellipses at random."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from eval.stilllife.benchmarks import StillLifeClasses, StillLifeRandomMasks, StillLifeStrokes, draw_stroke


def test_strokes_are_thin_and_on_the_fruit():
    """1, 2 and 3 pixels in turn; within a pixel of the exact mask; thinner than a latent place of 4."""
    benchmark = StillLifeStrokes(per_class=3)
    asks, plain = list(benchmark.requests(64)), list(StillLifeClasses(per_class=3).requests(64))
    assert len(asks) == len(benchmark) == 36
    for i, (ask, other) in enumerate(zip(asks, plain, strict=True)):
        width = i % 3 + 1
        assert ask.id == f"{other.id}-w{width}"
        thin, exact = (load()[0].numpy() > 0.5 for load in (ask.mask, ask.true_mask))
        assert np.array_equal(exact, other.mask()[0].numpy() > 0.5)
        assert 0 < thin.sum() < (0.45 if width == 1 else 0.8) * exact.sum()
        assert thin.sum() >= 4
        line = draw_stroke(other.ground_truth, 1, 64)[0].numpy() > 0.5
        assert np.array_equal(thin, binary_dilation(line, np.ones((width, width))) if width > 1 else line)
        assert binary_erosion(line, np.ones((2, 2))).sum() < 0.2 * line.sum()  # one pixel wide, but for joints
        near = torch.nn.functional.max_pool2d(torch.from_numpy(exact).float()[None], 3, 1, 1)[0].numpy() > 0
        assert (thin & ~near).sum() == 0
    with pytest.raises(ValueError, match=r"widths = .*at least 1 item"):
        StillLifeStrokes(widths=())


def test_random_masks_are_where_they_may_be():
    """Within the frame, of the size said, not all alike; the wanted kind is not in the picture."""
    benchmark = StillLifeRandomMasks(per_class=2)
    asks = list(benchmark.requests(64))
    assert len(asks) == len(benchmark) == len({ask.id for ask in asks}) == 24
    shares = []
    for ask in asks:
        inside = ask.mask()[0].numpy() > 0.5
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert all(18 <= len(extent) <= 40 for extent in (rows, columns))
        shares.append(inside.mean())
        assert ask.label not in ask.ground_truth.before.fruits
        assert ask.label in ask.ground_truth.after.fruits
        assert ask.true_mask is None
    assert 0.07 < min(shares) < 0.15 < max(shares) < 0.31
