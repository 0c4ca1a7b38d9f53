"""The two bounds: the paper's numbers, and what the same assumptions allow."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from eval.theory.bounds import (
    PAPER,
    Constants,
    bound_encoding,
    bound_noising,
    find_crossing,
    integrate_worst_case,
)


def test_the_papers_constants_cross_where_the_paper_has_them():
    tau = find_crossing(PAPER)
    assert tau == pytest.approx(3.50, abs=0.005)
    assert 1 / (1 + tau**2) == pytest.approx(0.075, abs=0.0005)
    assert bound_encoding(tau, PAPER) == pytest.approx(float(bound_noising(tau, PAPER)))
    assert float(bound_noising(tau, PAPER)) == pytest.approx(7.0, abs=0.01)
    assert bound_encoding(tau * 0.9, PAPER) < bound_noising(tau * 0.9, PAPER)
    assert bound_encoding(tau * 1.1, PAPER) > bound_noising(tau * 1.1, PAPER)


@pytest.mark.parametrize("k1", [0.3, 0.9, 1.0, 2.0, 40.0])
def test_a_crossing_is_the_first_and_the_bounds_are_equal_there(k1):
    constants = Constants(1.0, k1, 1.9)
    tau = find_crossing(constants)
    taus = np.geomspace(1e-4, 1e4, 20001)
    above = bound_encoding(taus, constants) >= bound_noising(taus, constants)
    if tau is None:
        assert not above.any()
    else:
        assert above.any()
        assert tau == pytest.approx(taus[above][0], rel=1e-2)


def test_there_may_be_no_crossing():
    assert find_crossing(Constants(1.0, 0.1, 0.02)) is None  # the bound of encoding stays below
    assert find_crossing(Constants(1.0, 3.0, 2.5)) is None  # it is above from the start
    assert find_crossing(Constants(1.0, 3.0, 0.0)) is None


def test_a_bound_beyond_a_float_is_infinite():
    assert math.isinf(bound_encoding(12.0, Constants(1.0, 1000.0, 0.1)))


def test_gronwalls_inequality_allows_more_than_the_printed_bound_for_large_tau():
    assert integrate_worst_case(1.0, PAPER) < bound_encoding(1.0, PAPER)
    assert integrate_worst_case(10.0, PAPER) > 2 * bound_encoding(10.0, PAPER)
    for k1 in (0.5, 1.0, 3.0):
        exact, _ = quad(lambda s, k1=k1: 0.02 * (s + math.sqrt(s**2 + 1)) ** k1, 0, 10)
        assert integrate_worst_case(10.0, Constants(1.0, k1, 0.02)) == pytest.approx(exact, rel=1e-8)
    assert math.isinf(integrate_worst_case(12.0, Constants(1.0, 1000.0, 0.1)))
