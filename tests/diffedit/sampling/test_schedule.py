import itertools

import pytest
import torch
from diffusers import DDIMScheduler

from diffedit.backbones.loading import make_schedule
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.sampling.schedule import (
    SPACINGS,
    NoiseSchedule,
    TrainedTimes,
    open_schedule,
    read_ratios,
    scaled_linear,
)


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


# -------------------------------------------------------------------------------------------- the times of the training

MANY = (1, 2, 3, 7, 10, 15, 19, 20, 25, 50, 100, 150, 250, 400, 500, 501, 600, 999, 1000)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("offset", [0, 1])
def test_times_are_those_of_diffusers(spacing, offset):
    """But for what was not trained, and for the time -1 that a rounding gives it too many."""
    scheduler = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    for steps in MANY:
        scheduler.set_timesteps(steps)
        theirs = sorted(scheduler.timesteps.tolist())
        if theirs[-1] < 1000:
            assert TrainedTimes(1000, spacing, offset).choose(steps) == theirs


def test_a_time_below_the_first_is_no_level():
    """diffusers has 62 times for 61 steps, of which the first is -1: the noisiest, read from the end."""
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(61)
    assert (len(scheduler.timesteps), min(scheduler.timesteps)) == (62, -1)
    assert TrainedTimes(1000, "trailing").choose(61) == sorted(scheduler.timesteps.tolist())[1:]
    for steps in range(1, 1001):
        for spacing in SPACINGS:
            times = TrainedTimes(1000, spacing).choose(steps)
            assert len(set(times)) == steps
            assert 0 <= times[0] <= times[-1] < 1000


@pytest.mark.parametrize("steps", [10, 20, 50, 100, 250])
def test_the_usual_numbers_of_steps_are_what_they_were(steps, tiny, analytic):
    """To the bit, as diffusers' own timesteps gave them."""
    scheduler = DDIMScheduler.from_config(tiny.scheduler.config)
    scheduler.set_timesteps(steps)
    before = NoiseSchedule.discrete(
        scheduler.alphas_cumprod, scheduler.timesteps, scheduler.final_alpha_cumprod.item()
    ).levels
    assert tiny.schedule(steps).levels == before
    every = 1000 // steps
    assert [level.timestep for level in before] == [0, *range(1, 1000, every)]
    assert analytic.schedule(steps).levels == schedule(steps).levels


@pytest.mark.parametrize(
    ("steps", "spacing", "offset", "said"),
    [
        (0, "leading", 1, "steps = 0: the model was trained at 1000 noise levels, that is 1 to 999 steps"),
        (1000, "leading", 1, "the last is t = 1000, and the model was trained at 0 to 999; the nearest is 999"),
        (500, "leading", 2, "the last is t = 1000, and the model was trained at 0 to 999; the nearest is 499"),
        (1001, "leading", 0, "that is 1 to 1000 steps where they are spaced as leading; the nearest is 1000"),
        (1500, "linspace", 1, "that is 1 to 1000 steps where they are spaced as linspace; the nearest is 1000"),
    ],
)
def test_what_cannot_be_is_refused(steps, spacing, offset, said):
    with pytest.raises(ValueError, match=f"steps = {steps}: .*{said.removeprefix(f'steps = {steps}: ')}"):
        TrainedTimes(1000, spacing, offset).choose(steps)


@pytest.mark.parametrize(
    ("steps", "spacing", "top"),
    [
        *((150, "leading", 895), (400, "leading", 799), (501, "leading", 501), (600, "leading", 600)),
        *((10, "leading", 901), (20, "leading", None), (50, "leading", None), (100, "leading", None)),
        *((150, "trailing", None), (501, "linspace", None), (1, "linspace", 0), (1, "trailing", None)),
    ],
)
def test_what_is_not_reached_is_told_with_its_numbers(steps, spacing, top):
    alphas = scaled_linear()
    told = TrainedTimes(1000, spacing, 1, "backbone.timestep_spacing").describe_gap(steps, alphas)
    if top is None:
        assert told == ""
        return
    assert f"steps = {steps}: spaced as {spacing}, the highest level is t = {top} of 999, where" in told
    assert f"where {100 * alphas[top].item() ** 0.5:.1f} % of the signal is left, and 6.8 % at the end" in told
    assert "Farther: backbone.timestep_spacing=trailing" in told


def test_it_is_told_once_a_run(tiny, caplog):
    for steps in (15, 50):
        open_schedule(tiny, steps)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "steps = 15" in caplog.text


def make_blank(**config):
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing", **config)
    return make_schedule(scheduler, 10, 1.0)


def test_where_no_signal_is_left_a_model_of_epsilon_is_not_decoded():
    blank = make_blank()
    assert blank[10].alpha == 0
    assert blank.start_levels([0.3, 0.9]) == [3, 9]
    with pytest.raises(ValueError, match=r"r = 1: level 10 of 10 \(t = 999\) has no signal left .* ratios up to 0\.9 "):
        blank.start_levels([0.3, 1.0])
    with pytest.raises(ValueError, match=r"ratios up to 0\.9; or backbone\.timestep_spacing=leading"):
        blank.find_level(1.0)
    assert make_blank(prediction_type="v_prediction").start_levels([0.3, 1.0]) == [3, 10]


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", None])
def test_the_spacing_is_a_setting(spacing, tiny_folder, tiny):
    """Which is part of what names the model."""
    backbone = StableDiffusion.from_pretrained(str(tiny_folder), device="cpu", timestep_spacing=spacing)
    times = TrainedTimes(1000, spacing or "leading", 1).choose(15)
    assert [level.timestep for level in backbone.schedule(15).levels] == [0, *times]
    assert (backbone.fingerprint == tiny.fingerprint) == (spacing in ("leading", None))
