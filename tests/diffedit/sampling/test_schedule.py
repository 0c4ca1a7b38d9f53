import itertools

import pytest
import torch
from diffusers import DDIMScheduler

from diffedit.sampling.schedule import NoiseSchedule, read_ratios, scaled_linear


def schedule(steps):
    every = 1000 // steps
    return NoiseSchedule.discrete(scaled_linear(), range(1, steps * every + 1, every), clean=1.0)


@pytest.mark.parametrize(
    ("ratio", "steps", "level"), [(0.58, 50, 29), (0.1, 10, 1), (1, 50, 50), (1 / 49, 49, 1), (0.5, 5, 2), (0.7, 5, 4)]
)
def test_a_ratio_is_rounded_to_a_level(ratio, steps, level):
    assert schedule(steps).find_level(ratio) == level


@pytest.mark.parametrize(
    ("ratio", "steps"), [(0, 50), (-0.1, 50), (1.01, 50), (0.01, 50), (0.09, 10), (float("nan"), 50)]
)
def test_a_bad_ratio_is_refused_with_n_and_r(ratio, steps):
    with pytest.raises(ValueError, match=f"{ratio}.*N = {steps}"):
        schedule(steps).find_level(ratio)


def test_starts_keep_their_order_and_refuse_twins():
    assert schedule(10).start_levels([0.9, 0.3]) == [9, 3]
    with pytest.raises(ValueError, match=r"0\.31 and 0\.33 are both level 3 of N = 10"):
        schedule(10).start_levels([0.31, 0.33])
    with pytest.raises(ValueError, match="at least one"):
        schedule(10).start_levels([])


def test_ratios_are_a_list():
    assert read_ratios([0.3, 1]) == [0.3, 1.0]
    for bad in (0.5, "0.5,x", None):
        with pytest.raises(ValueError, match="a list of numbers is wanted"):
            read_ratios(bad)


def test_levels_go_from_clean_to_noisy_and_preserve_variance():
    levels = list(schedule(50).levels)
    assert len(levels) == 51
    assert schedule(50).steps == 50
    assert levels[0] == (1.0, 0.0, 0)
    assert all(a.sigma < b.sigma and a.timestep <= b.timestep for a, b in itertools.pairwise(levels))
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1) for level in levels)


def test_the_schedule_is_latent_diffusions():
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(scaled_linear().float(), scheduler.alphas_cumprod, rtol=1e-5, atol=0)
