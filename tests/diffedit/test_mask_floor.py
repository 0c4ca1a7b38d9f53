"""The floor of the contrast mask: what is noise gives an empty mask, what is contrast the same one."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from contrast_maps import compute_iou, draw_differences
from helpers import make_request

from diffedit.engine.queries import run_alone
from diffedit.mask import ContrastMask, Quantile, compute_agreement
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
    """The mask of a picture that the model knows: of its first class, in one of its modes."""
    x0 = backbone.means[0, seed % 2][None] + 0.1 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(seed))
    conds = (backbone.embed([text])[0] if isinstance(text, str) else text for text in (target, reference))
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
        assert abs(mask.metadata()["mask_agreement"]) < FLOOR
        assert mask.contrast_map.max() > 0  # kept as it was


def test_texts_that_are_equal_to_the_bit_give_an_empty_mask(analytic):
    mask = find(replace(FINDER, floor=FLOOR), analytic, "pear", "pear")
    assert mask.metadata()["mask_agreement"] == 0
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
            assert mask.agreement > FLOOR
            assert mask.metadata()["mask_flag"] == ""


class Mixing(Rounding):
    """Whose condition is a number: the estimate under one text, and so much of the way to that under another."""

    def predict(self, x, levels, conds):
        one, other = (
            self.backbone.predict(x, levels, [text] * len(x)) for text in self.backbone.embed(["apple", "pear"])
        )
        way = torch.tensor(conds)[:, None, None, None]
        error = self.size * torch.randn(x.shape, generator=self.random)
        return one._replace(eps=one.eps + way * (other.eps - one.eps) + error)


def test_of_nearly_equal_texts_what_is_above_the_noise_is_kept(analytic):
    """The same contrast, smaller and smaller: the same mask, until the noise drowns it; then none."""
    finder, plain = replace(FINDER, floor=FLOOR), find(FINDER, analytic, "pear", "apple")
    for way in (1, 1e-2, 1e-4):
        assert compute_iou(find(finder, Mixing(analytic, 1e-6), way, 0.0).latent, plain.latent) > 0.95
    for way in (1e-8, 0.0):
        drowned = find(finder, Mixing(analytic, 1e-6), way, 0.0)
        assert not drowned.latent.any()
        assert drowned.contrast_map.max() > 0


def test_under_every_toss_of_signs_the_mean_is_0_and_the_variance_1():
    """All 2 ** 9 of ten noises, by enumeration: of independent places, and of places that move as one."""
    differences, _ = draw_differences(16, 0.1, 4, 0, channels=2)
    chosen = FINDER.binarise(differences.abs().mean(1).mean(0))[0, 0]
    coherent = differences[:, :1, :1, :1].sign() * differences[0].abs()
    signs = torch.tensor(list(product([1.0], *[[1.0, -1.0]] * 9)))[:, :, None, None, None]
    for field, share in ((differences, 0.01), (coherent, 0.0215)):
        found = np.array([compute_agreement(toss * field, chosen) for toss in signs])
        assert found.mean() == pytest.approx(0, abs=1e-9)
        assert found.var() == pytest.approx(1)
        assert (found >= FLOOR).mean() <= share


def test_the_agreement_is_at_most_the_root_of_the_pairs_and_free_of_scale():
    differences, inside = draw_differences(16, 0.2, 1, 0)
    same = differences[:1].expand(10, -1, -1, -1) * torch.arange(1.0, 11)[:, None, None, None]
    assert compute_agreement(same, inside) == pytest.approx(math.sqrt(45))
    one = compute_agreement(differences + inside, inside)
    assert one == pytest.approx(compute_agreement(1e-7 * (differences + inside), inside))
    assert 3 < one < 6.7
    assert compute_agreement(torch.zeros(3, 1, 16, 16), inside) == 0
    assert compute_agreement(differences, torch.zeros(16, 16, dtype=torch.bool)) == 0


def test_a_floor_needs_noises_to_tell_a_spread():
    """What no mask could reach is refused: at most the root of the number of pairs."""
    for settings, most in (({"num_noises": 1}, "0.00"), ({"num_noises": 3}, "1.73"), ({"antithetic": True}, "3.16")):
        with pytest.raises(
            ValueError, match=rf"floor = 3.2: num_noises = \d+ agree by {most} at most.*take more noises"
        ):
            ContrastMask(floor=3.2, **settings)
    assert ContrastMask(num_noises=5, floor=3.0).floor == 3
    with pytest.raises(ValueError, match="floor = 0"):
        ContrastMask(floor=0.0)
