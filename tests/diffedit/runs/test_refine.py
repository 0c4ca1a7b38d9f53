"""Strengths are added around the point at which a figure has a value."""

import math
from itertools import pairwise

import pytest

from diffedit.runs.refine import NARROW, Target, refine

STEPS = 50


def follow(figure, value, ratios, steps=STEPS):
    """What is edited, in order, where a figure is this function of the ratio."""
    done, calls = list(ratios), []

    def extend(wanted):
        assert wanted[: len(done)] == done
        done[:] = wanted
        calls.append(wanted[-1])

    found = refine(extend, lambda: {ratio: figure(ratio) for ratio in done}, Target("x", value), ratios, steps)
    assert found == done
    assert len(set(found)) == len(found)
    assert all(0 < ratio <= 1 for ratio in found)
    return done, calls


FIGURES = {
    "rising": lambda r: r,
    "bent": lambda r: r**6,
    "steep": lambda r: 1 / (1 + math.exp(-60 * (r - 0.43))),
    "falling": lambda r: 1 - r**0.3,
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("value", [0.1, 0.31, 0.5, 0.77, 0.9])
def test_the_bracket_becomes_narrow(name, value):
    figure = FIGURES[name]
    done, calls = follow(figure, value, [0.3, 0.5, 0.7, 0.9])
    brackets = [(a, b) for a, b in pairwise(sorted(done)) if (figure(a) - value) * (figure(b) - value) <= 0]
    if brackets:
        assert min(b - a for a, b in brackets) <= NARROW + 1e-9 or value in map(figure, done)
    else:  # out of reach of every level
        assert (figure(1 / STEPS) - value) * (figure(1.0) - value) > 0
    assert len(calls) <= 8


def test_few_strengths_are_needed_on_a_straight_line():
    _, calls = follow(FIGURES["rising"], 0.62, [0.5, 0.9])
    assert len(calls) <= 2


def test_a_value_that_is_met_needs_none():
    assert follow(FIGURES["rising"], 0.5, [0.3, 0.5, 0.9])[1] == []


@pytest.mark.parametrize("value", [-1.0, 2.0])
def test_a_value_out_of_reach_is_told(value, caplog):
    done, _ = follow(FIGURES["rising"], value, [0.3, 0.5])
    assert (min(done) if value < 0 else max(done)) == (1 / STEPS if value < 0 else 1.0)
    assert "no ratio reaches x" in caplog.text


@pytest.mark.parametrize("text", ["accuracy", "accuracy@", "@0.7", "accuracy@x", "accuracy@nan", "0.7"])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(ValueError, match=r"such as accuracy@0\.7"):
        Target.parse(text)
    assert Target.parse("accuracy@0.7") == ("accuracy", 0.7)
