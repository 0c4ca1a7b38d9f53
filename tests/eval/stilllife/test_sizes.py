"""Still Life's edits of every size, and the framing that draws them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from eval.stilllife.render import FOOT, render, shrink
from eval.stilllife.scene import ATTRIBUTES, SPLITS, Framing, Scene, sample
from eval.stilllife.sizes import AREAS, StillLifeSizes, find_edit


@pytest.fixture(scope="module")
def asks():
    return list(StillLifeSizes(size=24, split="validation").requests(64))


def test_areas_run_from_1_to_60_percent_in_equal_numbers(asks):
    """By the masks that a method is judged by."""
    areas = [(ask.true_mask() > 0.5).float().mean().item() for ask in asks]
    found = Counter(next(span for span in AREAS if span[0] <= area < span[1]) for area in areas)
    assert found == dict.fromkeys(AREAS, 4)
    assert (AREAS[0][0], AREAS[-1][1]) == (0.01, 0.6)
    assert [ask.ground_truth.area for ask in asks] == pytest.approx(areas)


def test_one_phrase_changes_and_outside_the_mask_nothing_does(asks):
    assert len({ask.id for ask in asks}) == len(StillLifeSizes(size=24)) == 24
    for ask in asks:
        truth = ask.ground_truth
        changed = [name for name in ATTRIBUTES if getattr(truth.before, name) != getattr(truth.after, name)]
        assert changed == [truth.attribute]
        assert ask.source == truth.before.caption() != truth.after.caption() == ask.target
        outside = (ask.image() - ask.true_edit()).abs() * (1 - ask.true_mask())
        assert outside.max() <= 8.5 / 255


def test_small_edits_are_one_fruit_of_several_and_large_ones_wall_or_table(asks):
    for ask in asks[:: len(AREAS)]:
        before = ask.ground_truth.before
        assert before.framing.once
        assert len(before.fruits) == 2
        usual = render(replace(before, framing=replace(before.framing, once=False)))
        once, several = (rendering.region(before.fruits[1]).sum() for rendering in (render(before), usual))
        assert once <= several + 1
    assert {ask.ground_truth.attribute for ask in asks[len(AREAS) - 1 :: len(AREAS)]} <= {"wall", "table"}


def test_splits_are_apart_and_the_same_edit_is_found_again():
    seeds = {split: {find_edit(SPLITS[split], i).before.seed for i in range(6)} for split in SPLITS}
    assert all(seed in SPLITS[split] for split, found in seeds.items() for seed in found)
    first = find_edit.__wrapped__(SPLITS["test"], 3)
    assert first == find_edit(SPLITS["test"], 3)
    assert first.before.framing != Framing()


def test_a_framing_draws_the_same_smaller():
    """The things of the usual picture about the foot of the pile, and the horizon where it is said to be."""
    scene = Scene(("apple",), "bowl", "wooden", "gray", 5)
    small = replace(scene, framing=Framing(scale=0.5, horizon=96))
    whole, half = (np.isin(render(one).owner, [2, 3]) for one in (scene, small))
    assert half.sum() / whole.sum() == pytest.approx(0.25, rel=0.05)
    assert (render(small).owner[:96, 0] == 0).all()
    assert (render(small).owner[96:, 0] == 1).all()
    rows = [np.flatnonzero(things.any(1)) for things in (whole, half)]
    assert np.ptp(rows[1]) / np.ptp(rows[0]) == pytest.approx(0.5, abs=0.03)
    assert shrink(None, (0, 0), (3, FOOT), 0.5) == (None, (0, 0))
    assert sample(5).framing == Framing()
