import itertools

import numpy as np
import pytest
import torch
from contrast_maps import AREAS, compute_iou, draw_map
from helpers import GivenNoise, make_request
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.stats import norm
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
    TwoClasses,
    dilate,
    find_split,
    rescale,
    split_log,
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
        (lambda: TwoClasses(clamp=0.0), "clamp"),
        (lambda: TwoClasses(least_contrast=0.5), "least_contrast"),
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


RULES = [TwoClasses(), MeanClamp(), Quantile(), Quantile(sides="both"), KeepOutliers()]


@pytest.mark.parametrize("outliers", RULES)
@pytest.mark.parametrize("threshold", [Fixed(), Otsu()])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_map_without_contrast_has_a_mask_for_every_rule(outliers, threshold, value):
    """Equal texts give zeros; and a constant is above half of three means nowhere."""
    mask = ContrastMask(outliers=outliers, threshold=threshold).binarise(torch.full((16, 16), value))
    assert not mask.any()
    assert Mask(mask).metadata() == {"mask_area": 0.0, "mask_flag": "empty"}


@pytest.mark.parametrize("outliers", RULES)
@pytest.mark.parametrize("threshold", [Fixed(), Otsu()])
@pytest.mark.parametrize("contrast", [2, 4])
def test_no_rule_sees_the_scale_of_a_map(outliers, threshold, contrast):
    """By powers of two to the bit, which is what guidance or a dtype could do to it."""
    finder, (values, _) = ContrastMask(outliers=outliers, threshold=threshold), draw_map(16, 0.05, contrast, 0)
    mask = finder.binarise(values)
    assert mask.any()
    for scale in (2.0**-20, 2.0**12):
        assert torch.equal(finder.binarise(scale * values), mask)


# Least IoU of the default, the mean of six maps, by object's contrast and area; the grid of a 512 x 512 picture first.
BOUNDS = {
    (64, 4): dict.fromkeys(AREAS, 0.99),
    (64, 2): {0.01: 0.65, 0.03: 0.8, 0.05: 0.8, 0.1: 0.9, 0.25: 0.94, 0.6: 0.95},
    (16, 4): dict.fromkeys(AREAS, 0.99),
    (16, 2): {0.01: 0.75, 0.03: 0.8, 0.05: 0.75, 0.1: 0.85, 0.25: 0.9, 0.6: 0.95},
}


def measure_iou(finder, side, area, contrast):
    maps = [draw_map(side, area, contrast, seed) for seed in range(6)]
    return np.mean([compute_iou(finder.binarise(values)[0, 0], inside) for values, inside in maps])


@pytest.mark.parametrize(("side", "contrast"), BOUNDS)
def test_the_default_finds_objects_of_any_size(side, contrast):
    found = {area: measure_iou(ContrastMask(), side, area, contrast) for area in AREAS}
    assert {area: iou for area, iou in found.items() if iou < BOUNDS[side, contrast][area]} == {}


@pytest.mark.parametrize("side", [16, 64])
def test_what_the_other_rules_miss(side):
    """A quantile an object smaller than what it leaves out, a multiple of the mean one that is half the picture."""
    for area in (0.01, 0.03):
        assert measure_iou(ContrastMask(outliers=Quantile()), side, area, 4) < 1.2 * area
    assert measure_iou(ContrastMask(outliers=MeanClamp()), side, 0.6, 4) < 0.5
    assert measure_iou(ContrastMask(outliers=MeanClamp()), side, 0.6, 2) < 0.2
    otsu = ContrastMask(outliers=KeepOutliers(), threshold=Otsu())
    assert measure_iou(otsu, 64, 0.01, 2) < 0.05


def test_a_threshold_of_a_half_is_otsus_where_object_and_background_are_flat():
    """Of values without extremes, clamping changes nothing but the object's upper half."""
    values, inside = draw_map(64, 0.25, 4, 0)
    flat = torch.where(inside, values[inside].median(), values)
    counts = np.ones(flat.numel()), np.sort(flat.numpy(), axis=None)
    low, high = TwoClasses().find_bounds(flat)
    assert (low + high) / 2 == pytest.approx((flat[~inside].mean() + flat[inside].mean()).item() / 2, rel=1e-4)
    assert torch.equal(ContrastMask().binarise(flat)[0, 0], flat > threshold_otsu(hist=counts))
    masks = [ContrastMask(threshold=Fixed(value)).binarise(MAP) for value in (0.25, 0.5, 0.75)]
    assert all((inner <= outer).all() and inner.sum() < outer.sum() for outer, inner in itertools.pairwise(masks))


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_otsus_to_the_value(seed):
    """scikit-image's, of a histogram with a bin a value: it names the last value below, ours lies above that."""
    values = np.sort(np.random.default_rng(seed).gamma(1.0, 1.0, 256))
    below = threshold_otsu(hist=(np.ones(256), values))
    split = find_split(values)
    assert (values <= split).sum() == (values <= below).sum()
    assert split == pytest.approx((values[values <= split].mean() + values[values > split].mean()) / 2)


@pytest.mark.parametrize("area", [0.01, 0.1, 0.6])
def test_the_logarithmic_split_is_the_likeliest(area):
    """By scipy's densities, each value in its own class, and the classes by their shares."""
    values = np.sort(draw_map(16, area, 2, 0)[0].numpy(), axis=None).astype(np.float64)
    logs = np.log(values)
    likelihoods = []
    for k in range(1, len(logs)):
        parts = logs[:k], logs[k:]
        spread = np.sqrt(sum(part.var() * len(part) for part in parts) / len(logs))
        likelihoods.append(
            sum(
                norm(part.mean(), spread).logpdf(part).sum() + len(part) * np.log(len(part) / len(logs))
                for part in parts
            )
        )
    best = np.argmax(likelihoods)
    assert values[best] < split_log(logs) < values[best + 1]


def test_extreme_values_do_not_move_the_mask():
    """One place of 100 times the object's contrast, which a rescale by the maximum would leave alone in the mask."""
    values, inside = draw_map(16, 0.2, 4, 0)
    mask = ContrastMask().binarise(values)
    row, column = inside.nonzero()[0]
    values[row, column] *= 100
    assert torch.equal(ContrastMask().binarise(values), mask)
    assert ContrastMask(outliers=KeepOutliers()).binarise(values).sum() == 1


def test_a_map_of_two_values_and_of_zeros():
    values = torch.zeros(8, 8)
    values[2, 3] = 1
    assert ContrastMask().binarise(values).nonzero().tolist() == [[0, 0, 2, 3]]
    values += 1
    assert ContrastMask().binarise(values).sum() == 1


def test_a_full_mask_is_flagged_with_the_rule_that_made_it():
    assert Mask(torch.ones(1, 1, 4, 4, dtype=torch.bool)).metadata() == {"mask_area": 1.0, "mask_flag": "full"}
    assert Mask(torch.eye(4, dtype=torch.bool)[None, None]).metadata() == {"mask_area": 0.25, "mask_flag": ""}
    nearly = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    nearly[0, 0, 0, :4] = False
    assert Mask(nearly, rule="a").metadata() == {"mask_area": pytest.approx(0.96), "mask_flag": "nearly full"} | {
        "mask_rule": "a"
    }
    nearly[0, 0, 0, 4] = False
    assert Mask(nearly, rule="a").metadata() == {"mask_area": pytest.approx(0.95), "mask_flag": ""}


def test_a_mask_of_nearly_everything_names_its_rule(analytic):
    finder = ContrastMask(num_noises=2, outliers=KeepOutliers(), threshold=Fixed(0.0))
    assert find(finder, analytic).metadata()["mask_flag"] in ("full", "nearly full")
    assert find(finder, analytic).metadata()["mask_rule"] == "KeepOutliers(), Fixed(value=0.0)"


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
