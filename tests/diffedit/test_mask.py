import itertools

import numpy as np
import pytest
import torch
from helpers import GivenNoise, make_request
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.filters import threshold_otsu

from diffedit.engine.queries import run_alone
from diffedit.mask import (
    ContrastMask,
    Fixed,
    GivenMask,
    KeepOutliers,
    Mask,
    MeanClamp,
    Otsu,
    Quantile,
    dilate,
    rescale,
    to_latent_grid,
)
from diffedit.sampling.noise import RequestNoise
from diffedit.types import Predict, Recall

MAP = torch.from_numpy(np.random.default_rng(0).gamma(1.0, 1.0, (16, 16)).astype(np.float32))


def find(finder, backbone, request=None, x0=None):
    """The mask that the finder makes of a request, or of this latent."""
    target, reference = backbone.embed(["pear", "apple"])
    request = request or make_request(backbone)
    x0 = backbone.encode(request.image()[None]) if x0 is None else x0
    program = finder.find(request, x0, target, reference, backbone.schedule(20), RequestNoise(0, "a"))
    return run_alone(program, backbone)


def test_the_map_costs_one_query_of_two_evaluations_a_noise(analytic):
    x0 = torch.zeros(1, 3, 16, 16)
    program = ContrastMask(num_noises=10).find(
        make_request(analytic), x0, "Q", "R", analytic.schedule(50), RequestNoise(0, "a")
    )
    assert isinstance(next(program), Recall)
    query = program.send([])  # nobody has made it
    assert isinstance(query, Predict)
    assert len(query.x) == 20
    assert query.conds == ("Q",) * 10 + ("R",) * 10
    assert query.level == analytic.schedule(50)[25]
    assert torch.equal(query.x[:10], query.x[10:])
    assert not torch.equal(query.x[0], query.x[1])


def test_the_map_is_the_mean_of_absolute_differences(analytic):
    """Written out for two noises."""
    schedule, x0 = analytic.schedule(20), torch.full((1, 3, 16, 16), 0.2)
    noise = RequestNoise(0, "a").randn_like(x0, "mask", 2)
    target, reference = analytic.embed(["pear", "apple"])
    maps = []
    for sample in noise:
        x = (schedule[10].alpha * x0 + schedule[10].sigma * sample[None]).float()
        q, r = (analytic.predict(x, [schedule[10]], [cond]).eps[0] for cond in (target, reference))
        maps.append(q - r)
    mean_abs = sum(difference.abs().mean(0) for difference in maps) / 2
    l2 = sum(difference.square().sum(0).sqrt() for difference in maps) / 2
    torch.testing.assert_close(find(ContrastMask(num_noises=2), analytic, x0=x0).contrast_map, mean_abs)
    torch.testing.assert_close(find(ContrastMask(num_noises=2, reduction="l2"), analytic, x0=x0).contrast_map, l2)


@pytest.mark.parametrize("n", [1, 4, 5])
def test_antithetic_noises_come_in_pairs_at_the_same_cost(analytic, n):
    """z and -z beside each other, the last of an odd n alone; the first ones are those of fewer noises."""
    x0, schedule = torch.full((1, 3, 16, 16), 0.2), analytic.schedule(50)

    def ask(count):
        finder = ContrastMask(num_noises=count, antithetic=True)
        program = finder.find(make_request(analytic), x0, "Q", "R", schedule, RequestNoise(0, "a"))
        assert isinstance(next(program), Recall)
        return program.send([])  # nobody has made it

    query, level = ask(n), schedule[25]
    assert len(query.x) == 2 * n
    assert query.conds == ("Q",) * n + ("R",) * n
    assert torch.equal(query.x[:n], query.x[n:])
    z = RequestNoise(0, "a").randn_like(x0, "mask", (n + 1) // 2)
    signed = [sign * one for one in z for sign in (1, -1)][:n]
    assert torch.equal(query.x[:n], torch.stack(signed) * level.sigma + x0 * level.alpha)
    assert torch.equal(ask(6).x[:n], query.x[:n])


def test_an_antithetic_map_is_the_mean_of_that_of_the_noises_and_of_their_opposites(analytic):
    z = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x0, schedule = torch.full((1, 3, 16, 16), 0.2), analytic.schedule(20)
    target, reference = analytic.embed(["pear", "apple"])

    def find_map(noise, **settings):
        program = ContrastMask(**settings).find(
            make_request(analytic), x0, target, reference, schedule, GivenNoise(mask=noise)
        )
        return run_alone(program, analytic).contrast_map

    both = find_map(z, num_noises=6, antithetic=True)
    torch.testing.assert_close(both, (find_map(z, num_noises=3) + find_map(-z, num_noises=3)) / 2)
    assert not torch.allclose(both, find_map(z, num_noises=3))


def test_three_means_and_one_half_is_more_than_one_and_a_half_means():
    mask = ContrastMask(outliers=MeanClamp(3.0), threshold=Fixed(0.5)).binarise(MAP)
    assert torch.equal(mask[0, 0], 1.5 * MAP.mean() < MAP)


def test_rules_for_extreme_values():
    assert rescale(MAP, KeepOutliers()).aminmax() == (0, 1)
    low, high = np.quantile(MAP, [0.1, 0.9])
    torch.testing.assert_close(rescale(MAP, Quantile(0.9, "both")), ((MAP - low) / (high - low)).clamp(0, 1))
    torch.testing.assert_close(rescale(MAP, Quantile(0.9)), (MAP / high).clamp(max=1))
    torch.testing.assert_close(rescale(MAP, MeanClamp(2.0)), (MAP / (2 * MAP.mean())).clamp(0, 1))
    for bad, message in (
        (lambda: Quantile(0.3), "q = 0.3"),
        (lambda: MeanClamp(0.0), "factor"),
        (lambda: Fixed(50), "value"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


def test_the_masks_of_higher_thresholds_lie_inside_each_other():
    masks = [ContrastMask(threshold=Fixed(value)).binarise(MAP) for value in (0.25, 0.5, 0.75)]
    assert all((inner <= outer).all() and inner.sum() < outer.sum() for outer, inner in itertools.pairwise(masks))


def test_otsu_is_scikit_images():
    mask = ContrastMask(outliers=KeepOutliers(), threshold=Otsu()).binarise(MAP)
    assert torch.equal(mask[0, 0], rescale(MAP, KeepOutliers()) > threshold_otsu(rescale(MAP, KeepOutliers()).numpy()))


@pytest.mark.parametrize("outliers", [MeanClamp(), Quantile(), KeepOutliers()])
@pytest.mark.parametrize("threshold", [Fixed(), Otsu()])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_map_without_contrast_has_a_mask_for_every_rule(outliers, threshold, value):
    """Equal texts give zeros; and a constant is above half of three means nowhere."""
    mask = ContrastMask(outliers=outliers, threshold=threshold).binarise(torch.full((16, 16), value))
    assert not mask.any()
    assert Mask(mask).metadata() == {"mask_area": 0.0, "mask_flag": "empty"}


def test_a_full_mask_is_flagged():
    assert Mask(torch.ones(1, 1, 4, 4, dtype=torch.bool)).metadata() == {"mask_area": 1.0, "mask_flag": "full"}
    assert Mask(torch.eye(4, dtype=torch.bool)[None, None]).metadata() == {"mask_area": 0.25, "mask_flag": ""}


def test_smoothing_is_a_gaussian_filter():
    mask = ContrastMask(outliers=MeanClamp(), blur=1.5).binarise(MAP)
    smooth = gaussian_filter(MAP.numpy(), 1.5, mode="nearest")
    assert np.array_equal(mask[0, 0].numpy(), smooth > 1.5 * smooth.mean())


@pytest.mark.parametrize("by", [0, 1, 3])
def test_dilation_is_scipys(by):
    mask = MAP > 3
    square = np.ones((2 * by + 1, 2 * by + 1), dtype=bool)
    assert np.array_equal(dilate(mask, by)[0, 0].numpy(), binary_dilation(mask.numpy(), square))
    assert torch.equal(ContrastMask(dilate=by).binarise(MAP), dilate(ContrastMask().binarise(MAP), by))


def test_a_grown_mask_grows_in_pixels_too(tiny):
    """What is pasted or ranked later is the region that was edited."""
    mask = torch.zeros(1, 32, 32)
    mask[0, 13:15, 13:15] = 1
    request = make_request(tiny, mask=lambda: mask)
    plain, grown = (find(GivenMask("any", by), tiny, request) for by in (0, 1))
    assert torch.equal(plain.pixel_mask, mask > 0)
    assert grown.pixel_mask.sum() == 12 * 12
    assert torch.equal(grown.pixel_mask, torch.nn.functional.interpolate(grown.latent.float(), (32, 32))[0] > 0)


@pytest.mark.parametrize("downsample", ["nearest", "corner"])
def test_nearest_is_that_of_pillow_and_corner_that_of_torch(downsample):
    mask = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)) >= 0.5
    latent = to_latent_grid(mask, (16, 16), downsample)[0, 0].numpy()
    pillow = np.asarray(Image.fromarray(mask[0].numpy()).convert("L").resize((16, 16), Image.Resampling.NEAREST)) > 0
    interpolated = torch.nn.functional.interpolate(mask[None].float(), (16, 16))[0, 0].numpy() > 0
    assert np.array_equal(latent, pillow if downsample == "nearest" else interpolated)
    assert not np.array_equal(pillow, interpolated)


def test_a_given_mask_on_the_latent_grid():
    """Blocks of 4 x 4 pixels; 8 of 16 is not more than half, and a pixel of 0.4 is not edited."""
    mask = torch.zeros(1, 8, 8)
    mask[0, :4, :2], mask[0, 0, 4], mask[0, 4:, 4:] = 1, 1, 0.6
    mask[0, 4:, :4] = 0.4
    area, touched = (to_latent_grid(mask >= 0.5, (2, 2), downsample)[0, 0] for downsample in ("area", "any"))
    assert area.tolist() == [[False, False], [False, True]]
    assert touched.tolist() == [[True, True], [False, True]]
    centre, corner = (to_latent_grid(mask >= 0.5, (2, 2), downsample)[0, 0] for downsample in ("nearest", "corner"))
    assert centre.tolist() == [[False, False], [False, True]]  # pixels (2, 2), (2, 6), (6, 2), (6, 6)
    assert corner.tolist() == [[True, True], [False, True]]  # pixels (0, 0), (0, 4), (4, 0), (4, 4)
    mask[0, 0, 2] = 1
    assert to_latent_grid(mask >= 0.5, (2, 2))[0, 0].tolist() == [[True, False], [False, True]]


def test_a_given_mask_is_used_and_grown(analytic):
    mask = torch.zeros(1, 16, 16)
    mask[0, 8, 8] = 1
    request = make_request(analytic, mask=lambda: mask)
    assert find(GivenMask(), analytic, request).latent.sum() == 1
    assert find(GivenMask(dilate=2), analytic, request).latent.sum() == 25
    assert find(GivenMask(), analytic, request).contrast_map is None


def test_bad_settings_are_refused():
    for settings in ({"num_noises": 0}, {"blur": -1.0}, {"dilate": -1}, {"noise_strength": 50}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            ContrastMask(**settings)
    with pytest.raises(ValueError, match="dilate"):
        GivenMask(dilate=-1)


def test_a_map_of_nan_is_an_error(analytic):
    with pytest.raises(FloatingPointError, match="contrast map"):
        find(ContrastMask(), analytic, x0=torch.full((1, 3, 16, 16), float("nan")))
