"""The bootstrap covers what it should."""

import numpy as np
import pytest
from scipy.stats import t as student

from eval.scoring.bootstrap import Bootstrap, estimate_mean, estimate_ratio


def test_resamples_are_paired_and_stay_within_groups():
    groups = ["b", "a", "a", "b", "b"]
    bootstrap = Bootstrap(5, groups, 50)
    assert np.array_equal(bootstrap.weights, Bootstrap(5, groups, 50).weights)
    assert bootstrap.weights[:, [1, 2]].sum(1) == pytest.approx(2)
    assert bootstrap.weights[:, [0, 3, 4]].sum(1) == pytest.approx(3)
    assert not np.array_equal(bootstrap.weights, Bootstrap(5, groups, 50, seed=1).weights)
    assert (Bootstrap(3, ["a", "b", "b"], 50).weights[:, 0] == 1).all()  # a single image has no spread to draw from


def test_means_of_resamples_are_means_of_what_was_drawn():
    bootstrap, values = Bootstrap(4, resamples=3), np.array([1.0, 10, 100, 1000])
    drawn = (bootstrap.weights * 3 / 4).round().astype(int)
    assert (drawn.sum(1) == 3).all()  # one less than there are
    expected = [np.repeat(values, row).mean() for row in drawn]
    assert bootstrap.means(values) == pytest.approx(expected)
    assert bootstrap.means(np.stack([values, 2 * values], 1))[:, 1] == pytest.approx(np.array(expected) * 2)


def test_the_variance_of_a_resampled_mean_is_unbiased_for_four_images():
    values, bootstrap = np.array([0.0, 1, 5, 6]), Bootstrap(4, resamples=200_000)
    assert bootstrap.means(values).var() == pytest.approx(values.var(ddof=1) / 4, rel=0.01)


def test_intervals_cover_the_truth_19_times_of_20():
    draw = np.random.default_rng(0)
    bootstrap = Bootstrap(200, resamples=500)
    inside = 0
    for _ in range(1000):
        score = bootstrap.interval(estimate_mean(draw.exponential(size=200)))
        inside += score.low <= 1 <= score.high
    assert 930 <= inside <= 970


def test_a_single_image_has_no_interval_and_an_undefined_score_neither():
    assert np.isnan(Bootstrap(1).interval(estimate_mean(np.array([3.0]))).low)
    assert Bootstrap(1).interval(estimate_mean(np.array([3.0]))).value == 3
    assert np.isnan(Bootstrap(3).interval(estimate_ratio(np.zeros(3), np.zeros(3))).value)


def test_classes_are_resampled_each_for_itself_where_every_image_has_one():
    assert Bootstrap.of_labels(("a", "b"), 10).groups == ["a", "b"]
    assert Bootstrap.of_labels(("a", ""), 10, seed=3).groups is None


def test_the_ratio_of_sums_and_its_interval():
    """The interval is that of resampling images, and widens with fewer of them."""
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 5, 400).astype(float)
    sums = counts * draw.normal(1.0, 0.3, 400)
    score = Bootstrap(400).interval(estimate_ratio(sums, counts))
    assert score.value == pytest.approx(sums.sum() / counts.sum())
    picks = draw.integers(0, 400, (2000, 400))
    low, high = np.quantile(sums[picks].sum(1) / counts[picks].sum(1), (0.025, 0.975))
    assert (score.low, score.high) == pytest.approx((low, high), abs=0.01)


def test_a_share_of_no_image_has_wilsons_interval_and_a_distance_of_0_is_certain():
    """The accuracy of copies may be 0 by chance, their distance to the inputs is 0."""
    nothing, bootstrap = estimate_mean(np.zeros(192)), Bootstrap(192, resamples=50)
    z = 1.959964
    assert bootstrap.interval(nothing, is_share=True) == pytest.approx((0, 0, z**2 / (192 + z**2)), abs=1e-6)
    assert bootstrap.interval(nothing) == (0, 0, 0)


@pytest.mark.parametrize(("n", "groups"), [(8, None), (12, ["a", "b", "c"] * 4)])
def test_few_images_have_intervals_as_wide_as_students_t(n, groups):
    """Against the t interval of normal values, and how often they hold the true mean."""
    bootstrap, rng = Bootstrap(n, groups, resamples=2000), np.random.default_rng(0)
    degrees = n - (3 if groups else 1)
    inside, widths = [], []
    for _ in range(1000):
        values = rng.normal(size=n)
        _, low, high = bootstrap.interval(estimate_mean(values))
        inside.append(low <= 0 <= high)
        parts = values.reshape(4, 3) if groups else values[:, None]
        error = np.sqrt(parts.var(0, ddof=1).mean() / n)
        widths.append((high - low) / (2 * student.ppf(0.975, degrees) * error))
    assert np.mean(inside) >= 0.93
    assert np.mean(widths) == pytest.approx(1, abs=0.03)
