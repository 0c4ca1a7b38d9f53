"""Methods compared where a metric is equal: between sparse strengths, with what that may err by in the interval."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import gumbel_r, ncx2, norm

from eval.scoring.bootstrap import Bootstrap
from eval.scoring.matched import Curve, Means, bound, compare_at, find_bend, find_value, interpolate_at

RATIOS = np.array([0.3, 0.5, 0.7, 0.9])


def find(matched, compared, level):
    """What `interpolate_at` finds of curves at strengths 1, 2, 3, ..."""
    matched, compared = np.array(matched, float), np.array(compared, float)
    return interpolate_at(Means(np.arange(1.0, matched.shape[1] + 1), matched, compared), level)


def make_curve(matched, compared, strengths=RATIOS, **shares):
    """The curve of two pictures that are alike."""
    return Curve(np.array(strengths, float), np.tile(matched, (2, 1)), np.tile(compared, (2, 1)), **shares)


def test_the_point_is_where_scipys_own_roots_of_pchip_are():
    random = np.random.default_rng(0)
    strengths = np.cumsum(random.random(6) + 0.1)
    matched = np.cumsum(random.random((20, 6)), 1)
    compared = random.normal(size=(20, 6))
    level = 1.5
    found = interpolate_at(Means(strengths, matched, compared), level)
    for i in range(20):
        roots = PchipInterpolator(strengths, matched[i]).solve(level, extrapolate=False)
        assert found.strength[i] == pytest.approx(roots[0] if len(roots) else np.nan, nan_ok=True, abs=1e-9)
        if len(roots):
            assert found.compared[i] == pytest.approx(float(PchipInterpolator(strengths, compared[i])(roots[0])))


def test_there_is_no_point_where_a_curve_never_comes():
    strength = [[0.2, 0.6, 0.8], [0.2, 0.3, 0.4], [0.7, 0.6, 0.9], [0.1, 0.1, 0.9]]
    values = find(strength, [[1.0, 2.0, 4.0]] * 4, 0.5).compared
    assert 1 < values[0] < 2
    assert np.isnan(values[1])
    assert np.isnan(values[2])  # the smallest strength is beyond it: what lies below is not known
    assert 2 < values[3] < 4


def test_a_strength_that_was_run_is_what_was_measured_there():
    assert find([[0.2, 0.6, 0.8]], [[1.0, 2.0, 4.0]], 0.6).compared[0] == 2
    assert find([[0.2, 0.6, 0.8]], [[1.0, 2.0, 4.0]], 0.2).compared[0] == 1
    assert find([[0.2]], [[3.0]], 0.2).compared[0] == 3
    assert np.isnan(find([[0.2]], [[3.0]], 0.3).compared[0])
    value = find_value(make_curve([0.1, 0.5, 0.75, 1.0], [1.0, 2.0, 4.0, 9.0], is_matched_share=True), 0.75)
    assert value == (4.0, 0.0, (0.7, 0.7), 0.0)


def test_a_metric_that_falls_as_the_strength_grows_is_matched_too():
    curve = make_curve([30.0, 20, 10], [1.0, 2, 3], [1, 2, 3])
    assert find_value(curve, 15).value == pytest.approx(2.5)
    assert find_value(curve, 15).error == pytest.approx(0, abs=1e-12)  # straight: nothing is missed
    assert np.isnan(find_value(curve, 35).value)


def test_curves_that_are_straight_in_the_logit_of_accuracy_are_met_exactly():
    """That is what shares are interpolated as; half a picture is added on both sides, of 10,000 here."""
    accuracy = expit(8 * (RATIOS - 0.55))
    pictures = np.linspace(0, 1, 10_000)[:, None] < accuracy
    curve = Curve(RATIOS, pictures.astype(float), np.tile(3 * RATIOS, (10_000, 1)), is_matched_share=True)
    found = find_value(curve, 0.6)
    assert found.value == pytest.approx(3 * (logit(0.6) / 8 + 0.55), abs=1e-3)
    assert found.bracket == (0.5, 0.7)
    assert found.step == pytest.approx(0.6)
    assert found.error < 1e-3
    assert np.isnan(find_value(curve, 1.2).value)
    assert np.isnan(find_value(curve, -0.1).value)


def test_accuracy_that_is_compared_stays_between_none_and_all():
    random = np.random.default_rng(0)
    success = (random.random((20, 1)) < [0.01, 0.5, 0.9, 0.999]).astype(float)
    curve = Curve(RATIOS, np.tile(RATIOS * 2, (20, 1)), success, is_compared_share=True)
    for at in np.linspace(0.61, 1.79, 20):
        found = find_value(curve, at)
        assert 0 <= found.value <= 1
        assert 0 < found.error < 0.5


def test_what_is_missed_when_a_ratio_is_left_out_is_in_the_interval():
    """Of one inner ratio the bend counts fourfold; a straight line through the others misses a parabola by it."""
    means = Means(np.array([1.0, 2.0, 4.0]), np.array([[1.0, 2.0, 4.0]]), np.array([[1.0, 4.0, 16.0]]))
    assert find_bend(means, 1) == pytest.approx(4 * 1.0)  # x^2 between a and b: the chord is (x - a)(b - x) above
    found = find_value(make_curve([1.0, 2, 4], [1.0, 4, 16], [1, 2, 4]), 3.0)
    assert found.error == pytest.approx(4 * (3 - 2) * (4 - 3))
    assert found.step == pytest.approx(12)


def test_of_two_ratios_anything_between_them_may_be_true():
    found = find_value(make_curve([0.0, 1.0], [0.0, 2.0], [0.3, 0.9]), 0.25)
    assert (found.value, found.error) == pytest.approx((0.5, 1.5))
    assert find_bend(Means(np.arange(2.0), np.ones((1, 2)), np.ones((1, 2))), 0) == np.inf


def test_a_method_that_is_better_everywhere_is_found_so():
    random = np.random.default_rng(0)
    hard = random.random((300, 1))
    success = (hard < np.array([0.1, 0.35, 0.65, 0.9])).astype(float)
    change = random.random((300, 4)) + np.arange(4)

    def curve(success, change):
        return Curve(RATIOS, success, change, is_matched_share=True)

    better = compare_at(curve(success, change), curve(success, change + 0.3), 0.5, Bootstrap(300))
    assert better.difference.value == pytest.approx(-0.3)
    errors = better.first.error + better.second.error
    assert better.difference.low == pytest.approx(-0.3 - errors)  # paired: the same resamples for both
    assert better.difference.high == pytest.approx(-0.3 + errors)
    assert 0 < errors < 0.3
    assert better.p < 0.01
    same = compare_at(
        curve(success, change), curve(success, random.random((300, 4)) + np.arange(4)), 0.5, Bootstrap(300)
    )
    assert same.difference.low < 0 < same.difference.high
    assert same.p > 0.05
    never = compare_at(curve(success, change), curve(success * 0, change), 0.5, Bootstrap(300))
    assert np.isnan(never.second.value)
    assert np.isnan(never.p)
    assert never.reached == 0


def test_an_error_of_known_size_widens_an_interval_as_theory_says():
    """The bound of |N(t, 1)| is the root of a quantile of the noncentral chi square (Armstrong and Kolesar, 2018)."""
    noise = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    for error in (0.0, 0.3, 1.0, 4.0):
        half, p = bound(2.5, noise, error, 0.95)
        assert half == pytest.approx(np.sqrt(ncx2.ppf(0.95, 1, error**2)) if error else 1.96, rel=1e-3)
        assert p == pytest.approx(norm.sf(2.5 - error) + norm.sf(2.5 + error), rel=0.02)
        assert bound(half * 0.999, noise, error, 0.95)[1] > 0.05 > bound(half * 1.001, noise, error, 0.95)[1]
    assert bound(2.5, noise, 1.0, 0.95)[0] < 1.96 + 1.0


SUCCESS = [lambda s, a=a, b=b: expit(a * (s - b)) for a, b in product((6, 10, 15), (0.4, 0.55))]
SUCCESS += [
    lambda s: norm.cdf(5 * (s - 0.45)),
    lambda s: gumbel_r.cdf(6 * (s - 0.4)),
    lambda s: 1 - np.exp(-2.5 * s**2),
]
CHANGE = [lambda s, p=p: s**p for p in (0.5, 1, 2, 3)]
CHANGE += [lambda s: expit(8 * (s - 0.5)), lambda s: 1 - np.exp(-2 * s)]
EFFORTS = [lambda r: r, lambda r: r - 0.08, lambda r: r**1.5]


@pytest.mark.slow
def test_curves_err_a_fourth_as_much_as_straight_lines_and_the_interval_knows():
    """54 kinds of curves without noise, each entered at three rows of four strengths, at five accuracies.

    Each row is a method with the same true curve: what two of them differ by there is error, and is allowed for.
    """
    errors, lines, is_allowed = [], [], []
    for success, change, at in product(SUCCESS, CHANGE, (0.3, 0.5, 0.6, 0.7, 0.8)):
        true = change(brentq(lambda s, f=success, a=at: f(s) - a, 1e-9, 2))
        size = change(1.0) - change(0.05)
        values = []
        for effort in EFFORTS:
            matched, compared = success(effort(RATIOS)), change(effort(RATIOS))
            if matched[0] < at < matched[-1]:
                values.append(find_value(make_curve(logit(matched), compared), float(logit(at))))
                lines.append((np.interp(at, matched, compared) - true) / size)
        errors += [(value.value - true) / size for value in values]
        for one, other in combinations(values, 2):
            gap = one.value - other.value
            is_allowed.append(abs(gap) <= one.error + other.error + 1e-9)
    assert len(errors) == len(lines) > 700
    assert np.sqrt(np.mean(np.square(lines))) > 4 * np.sqrt(np.mean(np.square(errors)))
    assert np.mean(is_allowed) > 0.97
