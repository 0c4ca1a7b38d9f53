"""Holm's correction: published values, and its definition as a closed test."""

from itertools import combinations

import numpy as np
import pytest

from eval.scoring.holm import correct

NAN = float("nan")


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        # R, ?p.adjust and the worked example of the article "Holm-Bonferroni method" of Wikipedia.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5], [0.5]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.01, NAN, 0.01], [0.02, NAN, 0.02]),  # what was not tested does not count
        ([NAN], [NAN]),
        ([], []),
    ],
)
def test_known_values(raw, corrected):
    assert correct(np.array(raw)) == pytest.approx(np.array(corrected), nan_ok=True)


def test_it_is_the_closed_test_of_bonferroni():
    """A hypothesis is refused where Bonferroni refuses every set of hypotheses that it is in: Holm's own definition."""
    random = np.random.default_rng(0)
    for count in range(1, 7):
        p = random.random(count) ** 3
        closed = [
            max(
                min(1.0, size * min(p[list(others)]))
                for size in range(1, count + 1)
                for others in combinations(range(count), size)
                if i in others
            )
            for i in range(count)
        ]
        assert correct(p) == pytest.approx(closed)


def test_among_true_nulls_a_false_find_is_as_rare_as_asked_for():
    p = np.random.default_rng(1).random((4000, 12))
    found = [(correct(row) <= 0.05).any() for row in p]
    assert np.mean(found) == pytest.approx(0.05, abs=0.01)
    assert (p <= 0.05).any(1).mean() > 0.4  # and without it: nearly every other time
