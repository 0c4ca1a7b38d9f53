"""What `diffedit plot` prints holds as often as it says: over simulated methods whose true curves are known.

Methods have equal true curves that are entered at other places (what differs is an error), or different ones.
"""

import importlib.util
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import gumbel_r

from eval.scoring.bootstrap import Bootstrap, estimate_mean

spec = importlib.util.spec_from_file_location("simulation", Path(__file__).with_name("simulation.py"))
simulation = sys.modules["simulation"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulation)
World, ClassWorld = simulation.World, simulation.ClassWorld
log = logging.getLogger(__name__)  # numbers: pytest --log-cli-level=INFO

FOUR, THREE, TEN = (0.3, 0.5, 0.7, 0.9), (0.4, 0.6, 0.8), tuple(np.linspace(0.1, 1, 10))


def as_it_is(r):
    return r


def weaker(r):
    return r - 0.1


def later(r):
    return r**1.5


def steep(s):
    return expit(10 * (s - 0.45))


def lean(s):
    return gumbel_r.cdf(6 * (s - 0.4))


def slow(s):
    return 1 - np.exp(-2.5 * s**2)


def power(exponent, size=2.2):
    return lambda s: size * s**exponent


def bent(s):
    return 2.2 * expit(8 * (s - 0.5))


STEEP, CURVED, LEAN, BENT = (
    World(steep, power(1)),
    World(steep, power(1.5)),
    World(lean, power(3)),
    World(slow, bent),
)
# Equal curves: world, strengths, effort of the second method, matched metric and value.
EQUAL = {
    "three ratios": (CURVED, THREE, later, "success", 0.7),
    "three ratios, equal change": (CURVED, THREE, later, "change", 0.86),
    "four ratios": (CURVED, FOUR, weaker, "success", 0.6),
    "four ratios, equal change": (CURVED, FOUR, later, "change", 0.86),
    "four ratios, lean curve": (LEAN, FOUR, later, "success", 0.6),
    "four ratios, bent curve": (BENT, FOUR, later, "change", 1.64),
    "the same ratios": (STEEP, FOUR, as_it_is, "success", 0.6),
    "ten ratios": (STEEP, TEN, later, "success", 0.7),
}
# Different curves: worlds, strengths, matched metric and value.
DIFFERENT = {
    "changes more": ((STEEP, World(steep, power(1, 2.5))), FOUR, "success", 0.6),
    "changes more, three ratios": ((CURVED, World(steep, power(1.5, 2.5))), THREE, "success", 0.7),
    "other curve": ((STEEP, CURVED), FOUR, "success", 0.7),
    "succeeds less at equal change": ((STEEP, World(lean, power(1))), FOUR, "change", 1.1),
    "bent curve": ((BENT, World(slow, power(1))), FOUR, "success", 0.6),
}


def falling(middle):
    """CSFID that falls as an edit grows, half of it at this effort."""
    return lambda s: 40 * expit(-8 * (s - middle))


# CSFID at equal change, four pictures of twelve classes: worlds, effort of the second method, matched change.
NEAR, FAR = ClassWorld(falling(0.35), power(1, 1.6)), ClassWorld(falling(0.45), power(1, 1.6))
AT_REFERENCE = ClassWorld(lambda s: 0 * s, power(1, 1.6))
OF_CLASSES = {
    "equal curves": ((NEAR, NEAR), later, 0.8),
    "equal curves, weaker": ((NEAR, NEAR), weaker, 0.7),
    "equal curves, the same ratios": ((NEAR, NEAR), as_it_is, 0.8),
    "both like real pictures": ((AT_REFERENCE, AT_REFERENCE), later, 0.8),
    "different curves": ((NEAR, FAR), weaker, 0.8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUAL)
def test_equal_curves_are_found_different_in_6_of_100_at_most(name):
    world, strengths, effort, match, at = EQUAL[name]
    outcome = simulation.simulate((world, world), strengths, (as_it_is, effort), match, at, 2000)
    log.info("%s: %s", name, outcome.describe())
    assert outcome.printed > 0.9, outcome
    assert outcome.found <= 0.06, outcome
    assert outcome.coverage >= 0.93, outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENT)
def test_intervals_of_different_curves_hold_the_true_difference(name):
    worlds, strengths, match, at = DIFFERENT[name]
    outcome = simulation.simulate(worlds, strengths, (as_it_is, weaker), match, at, 2000)
    log.info("%s: %s", name, outcome.describe())
    assert outcome.printed > 0.9, outcome
    assert outcome.coverage >= 0.93, outcome


@pytest.mark.slow
def test_a_difference_that_is_there_is_found():
    """Intervals that are safe by saying nothing would not do: a quarter more change at equal success."""
    worlds = STEEP, World(steep, power(1, 2.75))
    outcome = simulation.simulate(worlds, FOUR, (as_it_is, weaker), "success", 0.7, 400)
    log.info("a quarter more: %s", outcome.describe())
    assert outcome.found > 0.9, outcome


@pytest.mark.parametrize(("compare", "most"), [(simulation.compare_by_lines, 1.0), (simulation.compare_at, 0.06)])
def test_straight_lines_between_sparse_ratios_find_what_is_not_there(compare, most):
    """As it was done before, a third of comparisons of equal curves came out significant."""
    world, strengths, effort, match, at = EQUAL["three ratios"]
    efforts = as_it_is, effort
    outcome = simulation.simulate((world, world), strengths, efforts, match, at, 100, resamples=200, compare=compare)
    assert outcome.found <= most
    assert (outcome.found > 0.2) == (compare is simulation.compare_by_lines)
    assert (outcome.coverage >= 0.93) == (compare is simulation.compare_at)


@pytest.mark.slow
@pytest.mark.parametrize("n", [64, 256])
def test_intervals_at_given_ratios_hold_the_true_value(n):
    """Error bars of the plot: success and change at each ratio, each for itself, over 2,000 simulations.

    One success rate is 0.99, of which a set may have no failure.
    """
    world, strengths, bootstrap = World(steep, power(1.5), n=n), np.array(FOUR), Bootstrap(n, resamples=400)
    true = np.stack([world.success(strengths), world.change(strengths)])
    inside = np.zeros(true.shape)
    for seed in range(2000):
        for k, values in enumerate(world.draw(np.random.default_rng(seed), [strengths])[0]):
            for i in range(len(strengths)):
                _, low, high = bootstrap.interval(estimate_mean(values[:, i]), is_share=k == 0)
                inside[k, i] += low <= true[k, i] <= high
    log.info("n = %d, coverage of success and change at each ratio: %s", n, (inside / 2000).tolist())
    assert true[0].max() > 0.98
    assert (inside / 2000).min() >= 0.93, inside / 2000


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_CLASSES)
def test_csfid_at_equal_change_is_held_by_its_interval(name):
    worlds, effort, at = OF_CLASSES[name]
    outcome = simulation.simulate_csfid(worlds, FOUR, (as_it_is, effort), at, 2000)
    log.info("csfid, %s: %s", name, outcome.describe())
    assert outcome.printed > 0.9, outcome
    assert outcome.coverage >= 0.93, outcome
    if worlds[0] is worlds[1]:
        assert outcome.found <= 0.06, outcome
    else:
        assert outcome.found > 0.9, outcome


@pytest.mark.slow
@pytest.mark.parametrize("classes", [12, 40])
def test_intervals_of_csfid_at_given_ratios_hold_the_true_value(classes):
    """Four pictures a class."""
    world, strengths = replace(NEAR, classes=classes), np.array(FOUR)
    bootstrap, inside = Bootstrap.of_labels(world.labels, 400), np.zeros(len(FOUR))
    for seed in range(2000):
        ((values, _),) = world.draw(np.random.default_rng(seed), [strengths])
        for i, true in enumerate(world.distance(strengths)):
            _, low, high = bootstrap.interval(estimate_mean(values[:, i]))
            inside[i] += low <= true <= high
    log.info("%d classes, coverage of csfid at each ratio: %s", classes, (inside / 2000).tolist())
    assert (inside / 2000).min() >= 0.93, inside / 2000


@pytest.mark.slow
def test_error_bars_of_equal_methods_rarely_lie_apart():
    """At given ratios: of two methods that are equal in truth, 2,000 simulations."""
    strengths, bootstrap = np.array(FOUR), Bootstrap(256, resamples=400)
    apart = np.zeros((2, len(strengths)))
    for seed in range(2000):
        pairs = zip(*CURVED.draw(np.random.default_rng(seed), [strengths, strengths]), strict=True)
        for k, (one, other) in enumerate(pairs):
            for i in range(len(strengths)):
                (_, low, high), (_, least, most) = (
                    bootstrap.interval(estimate_mean(values[:, i]), is_share=k == 0) for values in (one, other)
                )
                apart[k, i] += high < least or most < low
    log.info("bars of equal methods apart: %s", (apart / 2000).tolist())
    assert (apart / 2000).max() <= 0.01, apart / 2000  # two bars of 95 % are apart far less often than in 5 %
