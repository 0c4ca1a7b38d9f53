"""The floor of the contrast mask: what is noise gives an empty mask, what is contrast the same one."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrast_maps import compute_iou, draw_differences
from helpers import make_request
from scipy.stats import kstest, t, ttest_1samp

from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.engine.queries import run_alone
from diffedit.mask import ContrastMask, Quantile, compute_errors
from diffedit.sampling.noise import RequestNoise

FLOOR = 3.0
FINDER = ContrastMask(outliers=Quantile())


class Rounding:
    """A backbone whose noise estimates have an error of their own in every row, as arithmetic in batches has."""

    def __init__(self, backbone, size, seed=0):
        self.backbone, self.size, self.random = backbone, size, torch.Generator().manual_seed(seed)

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def predict(self, x, levels, conds):
        prediction = self.backbone.predict(x, levels, conds)
        error = torch.randn(prediction.eps.shape, generator=self.random)
        return prediction._replace(eps=prediction.eps + self.size * error)


def find(finder, backbone, target, reference, seed=0):
    x0 = backbone.encode(make_request(backbone, seed=seed).image()[None])
    conds = (text if isinstance(text, torch.Tensor) else backbone.embed([text])[0] for text in (target, reference))
    program = finder.find(make_request(backbone), x0, *conds, backbone.schedule(20), RequestNoise(seed, "a"))
    return run_alone(program, backbone)


@pytest.mark.parametrize("antithetic", [False, True])
def test_equal_texts_through_float_noise_give_an_empty_mask(analytic, antithetic):
    """Without the floor, a relative threshold edits the noise."""
    finder = replace(FINDER, antithetic=antithetic)
    for seed in range(10):
        backbone = Rounding(analytic, 1e-6, seed)
        assert find(finder, backbone, "pear", "pear", seed).latent.any()
        mask = find(replace(finder, floor=FLOOR), backbone, "pear", "pear", seed)
        assert not mask.latent.any()
        assert mask.metadata()["mask_flag"] == "no contrast"
        assert 0.3 < mask.metadata()["mask_contrast_errors"] < 2
        assert mask.contrast_map.max() > 0  # kept as it was


def test_texts_that_are_equal_to_the_bit_give_an_empty_mask(analytic):
    mask = find(replace(FINDER, floor=FLOOR), analytic, "pear", "pear")
    assert mask.metadata()["mask_contrast_errors"] == 0
    assert not mask.latent.any()


@pytest.mark.parametrize("antithetic", [False, True])
def test_real_contrast_has_the_mask_that_it_has_without_a_floor(analytic, antithetic):
    finder = replace(FINDER, antithetic=antithetic)
    for seed in range(5):
        for backbone in (analytic, Rounding(analytic, 1e-6, seed)):
            plain = find(finder, analytic, "pear", "apple", seed)
            mask = find(replace(finder, floor=FLOOR), backbone, "pear", "apple", seed)
            assert mask.latent.any()
            assert torch.equal(mask.latent, plain.latent)
            assert mask.contrast_errors > 2 * FLOOR
            assert mask.metadata()["mask_flag"] == ""


def test_of_nearly_equal_texts_what_is_above_the_noise_is_kept():
    """Weights of two classes that differ by a part: the same contrast, smaller; empty once the noise drowns it."""
    backbone = AnalyticBackbone(std=0.5)

    def weigh(by):
        return torch.tensor([0.5 - by, 0.5 + by, 0.0]).log()

    plain = find(FINDER, backbone, weigh(1e-2), weigh(0))
    errors = []
    for by in (1e-2, 1e-3, 1e-4, 0):
        mask = find(replace(FINDER, floor=FLOOR), Rounding(backbone, 1e-6), weigh(by), weigh(0))
        errors.append(mask.contrast_errors)
        if mask.latent.any():
            assert compute_iou(mask.latent, plain.latent) > 0.9


def test_one_place_and_channel_is_students_t():
    values = np.random.default_rng(0).standard_normal((10, 1, 1, 1))
    ours = compute_errors(torch.from_numpy(values), torch.ones(1, 1, dtype=torch.bool))
    assert ours == pytest.approx(abs(ttest_1samp(values.ravel(), 0).statistic))


def test_without_contrast_the_errors_are_one_whatever_the_mask_and_at_worst_students():
    """Independent places, and places that all move as one: there |t| of n - 1 degrees of freedom, to the law."""
    independent, coherent = [], []
    for seed in range(300):
        differences, inside = draw_differences(16, 0.1, 4, seed, channels=2)
        chosen = FINDER.binarise(differences.abs().mean(1).mean(0))[0, 0]  # by the same differences
        assert compute_iou(chosen, inside) > 0.5
        independent.append(compute_errors(differences, chosen))
        coherent.append(compute_errors(differences[:, :1, :1, :1] * differences[0].abs(), chosen))
    assert np.square(independent).mean() == pytest.approx(1, abs=0.05)
    assert max(independent) < FLOOR
    assert kstest(coherent, lambda x: 2 * t(9).cdf(x) - 1).pvalue > 0.01


def test_the_errors_grow_with_the_root_of_the_noises():
    differences, inside = draw_differences(16, 0.2, 1, 0, noises=640)
    differences = differences + 2 * inside
    few, many = (compute_errors(differences[:n], inside) for n in (40, 640))
    assert many / few == pytest.approx(4, rel=0.1)
    assert compute_errors(inside.float().expand(3, 1, 16, 16), inside) == math.inf
    assert compute_errors(torch.zeros(3, 1, 16, 16), inside) == 0


def test_a_floor_needs_noises_to_tell_a_spread():
    for settings in ({"num_noises": 1}, {"num_noises": 3, "antithetic": True}):
        with pytest.raises(ValueError, match=r"floor = 3.*num_noises = \d gives too few: take"):
            ContrastMask(floor=3.0, **settings)
    with pytest.raises(ValueError, match="floor = 0"):
        ContrastMask(floor=0.0)
