"""The bootstrap covers what it should, and methods are compared where they are equally strong."""

import numpy as np
import pytest

from eval.scoring.bootstrap import Bootstrap, compare, crossing, estimate_mean, estimate_ratio


def test_resamples_are_paired_and_stay_within_groups():
    groups = ["b", "a", "a", "b", "b"]
    draws = Bootstrap(5, groups, 50)
    assert np.array_equal(draws.weights, Bootstrap(5, groups, 50).weights)
    assert draws.weights[:, [1, 2]].sum(1) == pytest.approx(2)
    assert draws.weights[:, [0, 3, 4]].sum(1) == pytest.approx(3)
    assert not np.array_equal(draws.weights, Bootstrap(5, groups, 50, seed=1).weights)
    assert (Bootstrap(3, ["a", "b", "b"], 50).weights[:, 0] == 1).all()  # a single image has no spread to draw from


def test_means_of_resamples_are_means_of_what_was_drawn():
    draws, values = Bootstrap(4, resamples=3), np.array([1.0, 10, 100, 1000])
    drawn = (draws.weights * 3 / 4).round().astype(int)
    assert (drawn.sum(1) == 3).all()  # one less than there are
    expected = [np.repeat(values, row).mean() for row in drawn]
    assert draws.means(values) == pytest.approx(expected)
    assert draws.means(np.stack([values, 2 * values], 1))[:, 1] == pytest.approx(np.array(expected) * 2)


def test_the_variance_of_a_resampled_mean_is_unbiased_for_four_images():
    values, draws = np.array([0.0, 1, 5, 6]), Bootstrap(4, resamples=200_000)
    assert draws.means(values).var() == pytest.approx(values.var(ddof=1) / 4, rel=0.01)


def test_intervals_cover_the_truth_19_times_of_20():
    draw = np.random.default_rng(0)
    draws = Bootstrap(200, resamples=500)
    inside = 0
    for _ in range(1000):
        figure = draws.figure(estimate_mean(draw.exponential(size=200)))
        inside += figure.low <= 1 <= figure.high
    assert 930 <= inside <= 970


def test_a_single_image_has_no_interval_and_an_undefined_figure_neither():
    assert np.isnan(Bootstrap(1).figure(estimate_mean(np.array([3.0]))).low)
    assert Bootstrap(1).figure(estimate_mean(np.array([3.0]))).value == 3
    assert np.isnan(Bootstrap(3).figure(estimate_ratio(np.zeros(3), np.zeros(3))).value)


def test_crossing_is_linear_and_nan_where_it_never_comes():
    strength = np.array([[0.2, 0.6, 0.8], [0.2, 0.3, 0.4], [0.7, 0.6, 0.9], [0.1, 0.1, 0.9]])
    fidelity = np.array([[1.0, 2.0, 4.0]] * 4)
    found = crossing(strength, fidelity, 0.5)
    assert found[0] == pytest.approx(1.75)
    assert np.isnan(found[1])
    assert np.isnan(found[2])  # the smallest ratio is beyond it: what lies below is not known
    assert found[3] == pytest.approx(3.0)


def test_a_metric_that_falls_as_the_ratio_grows_is_matched_too():
    assert crossing(np.array([[30.0, 20, 10]]), np.array([[1.0, 2, 3]]), 15)[0] == pytest.approx(2.5)
    assert np.isnan(crossing(np.array([[30.0, 20, 10]]), np.array([[1.0, 2, 3]]), 35)[0])


def test_a_method_that_is_better_everywhere_is_found_so():
    draw = np.random.default_rng(0)
    hard = draw.random((300, 1))
    strength = (hard < np.array([0.2, 0.5, 0.8])).astype(float)
    fidelity = draw.random((300, 3)) + np.arange(3)
    found = compare((strength, fidelity), (strength, fidelity + 0.3), 0.5, Bootstrap(300))
    assert found.difference.value == pytest.approx(-0.3)
    assert found.difference.low == pytest.approx(-0.3)  # paired: the same resamples for both
    assert found.difference.high == pytest.approx(-0.3)
    same = compare((strength, fidelity), (strength, draw.random((300, 3)) + np.arange(3)), 0.5, Bootstrap(300))
    assert same.difference.low < 0 < same.difference.high
    never = compare((strength, fidelity), (strength * 0, fidelity), 0.5, Bootstrap(300))
    assert np.isnan(never.theirs)
    assert never.share == 0
