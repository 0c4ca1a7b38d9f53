"""The bootstrap covers what it should, and methods are compared where they are equally strong."""

import numpy as np
import pytest

from eval.scoring.bootstrap import Bootstrap, compare_at, estimate_mean, estimate_ratio, interpolate_at


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


def test_interpolation_is_linear_and_nan_where_it_never_comes():
    strength = np.array([[0.2, 0.6, 0.8], [0.2, 0.3, 0.4], [0.7, 0.6, 0.9], [0.1, 0.1, 0.9]])
    fidelity = np.array([[1.0, 2.0, 4.0]] * 4)
    values = interpolate_at(strength, fidelity, 0.5)
    assert values[0] == pytest.approx(1.75)
    assert np.isnan(values[1])
    assert np.isnan(values[2])  # the smallest strength is beyond it: what lies below is not known
    assert values[3] == pytest.approx(3.0)


def test_a_metric_that_falls_as_the_strength_grows_is_matched_too():
    assert interpolate_at(np.array([[30.0, 20, 10]]), np.array([[1.0, 2, 3]]), 15)[0] == pytest.approx(2.5)
    assert np.isnan(interpolate_at(np.array([[30.0, 20, 10]]), np.array([[1.0, 2, 3]]), 35)[0])


def test_a_method_that_is_better_everywhere_is_found_so():
    draw = np.random.default_rng(0)
    hard = draw.random((300, 1))
    strength = (hard < np.array([0.2, 0.5, 0.8])).astype(float)
    fidelity = draw.random((300, 3)) + np.arange(3)
    better = compare_at((strength, fidelity), (strength, fidelity + 0.3), 0.5, Bootstrap(300))
    assert better.difference.value == pytest.approx(-0.3)
    assert better.difference.low == pytest.approx(-0.3)  # paired: the same resamples for both
    assert better.difference.high == pytest.approx(-0.3)
    same = compare_at((strength, fidelity), (strength, draw.random((300, 3)) + np.arange(3)), 0.5, Bootstrap(300))
    assert same.difference.low < 0 < same.difference.high
    never = compare_at((strength, fidelity), (strength * 0, fidelity), 0.5, Bootstrap(300))
    assert np.isnan(never.second)
    assert never.reached == 0


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
