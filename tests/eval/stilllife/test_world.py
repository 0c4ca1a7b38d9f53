import hashlib
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from eval.stilllife.benchmarks import StillLifeClasses, StillLifeScenes, StillLifeWide
from eval.stilllife.fruit import PAINT
from eval.stilllife.render import TURNS, WALL_COLOURS, paint_pattern, paint_sprite, paint_vessel, render
from eval.stilllife.scene import (
    ATTRIBUTES,
    FRUITS,
    GROUPS,
    SPLITS,
    Framing,
    Scene,
    change,
    find_siblings,
    list_changes,
    sample,
)

PINNED = {
    0: "0242c677bfabb30a",
    1: "bab614f3b22a3030",
    2: "0acc8596a4b63933",
    3: "43a77c7f564f8e15",
    10**8: "06d26a391ce33c40",
    2 * 10**8: "13906a7e0f05299f",
}


def test_renders_are_pinned():
    """To the byte, for the locked Pillow and numpy: weights and benchmarks rest on them."""
    hashes = {seed: hashlib.sha256(render(sample(seed)).image.tobytes()).hexdigest()[:16] for seed in PINNED}
    assert hashes == PINNED


@pytest.mark.parametrize("margins", [(16, 0), (0, 32), (64, 16)])
def test_the_middle_of_a_larger_rendering_is_the_square(margins):
    """To the byte; around it there is nothing but wall and table, and each pixel belongs to something."""
    across, down = margins
    for seed in range(12):
        scene = sample(seed)
        square, wide = render(scene), render(replace(scene, framing=Framing(margins=margins)))
        assert wide.image.shape == (64 + 2 * down, 64 + 2 * across, 3)
        middle = np.s_[down : down + 64, across : across + 64]
        assert np.array_equal(wide.image[middle], square.image)
        around = np.ones(wide.image.shape[:2], dtype=bool)
        around[middle] = False
        for name in wide.names:
            region = wide.region(name)
            assert np.array_equal(region[middle], square.region(name))
            assert name in ("wall", "table") or not region[around].any()
        assert np.allclose(sum(wide.region(name) for name in wide.names), 1)


def test_wide_scenes_are_the_square_ones_with_margins():
    wide, square = StillLifeWide(size=4, width=128, height=96), StillLifeScenes(size=4)
    for one, other in zip(wide.requests(64), square.requests(64), strict=True):
        assert (one.id, one.source, one.target) == (other.id, other.source, other.target)
        for name in ("image", "mask", "true_mask", "true_edit", "retrieved"):
            picture = getattr(one, name)()
            assert picture.shape[1:] == (96, 128)
            assert np.array_equal(picture[:, 16:80, 32:96], getattr(other, name)())
    doubled = next(wide.requests(128))
    assert doubled.image().shape[1:] == doubled.mask().shape[1:] == (192, 256)
    assert {picture.shape for _, picture in wide.reference(2, 64)} == {(3, 96, 128)}


def test_wide_scenes_say_what_shapes_they_have():
    wide = StillLifeWide(width=96)
    assert (wide.is_square, StillLifeWide(width=64).is_square, StillLifeScenes().is_square) == (False, True, True)
    assert wide.fit(64, 16) is wide
    assert (wide.find_resolution((96, 64)), wide.find_resolution((192, 128))) == (64, 128)
    with pytest.raises(ValueError, match=r"benchmark.width = 72: 72 pixels at a resolution of 64, .* multiples of 16"):
        StillLifeWide(width=72).fit(64, 16)
    with pytest.raises(ValueError, match=r"benchmark.height = 65: an even number"):
        StillLifeWide(height=65)


def test_the_same_scene_renders_the_same():
    one, other = render(sample(7)), render(sample(7))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.owner, other.owner)
    assert one.image.shape == (64, 64, 3)
    assert one.image.dtype == np.uint8


def test_every_attribute_can_be_painted():
    assert set(PAINT) == set(FRUITS)
    assert set(WALL_COLOURS) == set(ATTRIBUTES["wall"])
    assert len(FRUITS) >= 12
    assert {len(ATTRIBUTES[name]) for name in ("vessel", "table", "wall")} == {4}
    patterns = [paint_pattern(kind) for kind in ATTRIBUTES["table"]]
    assert all(np.abs(a - b).mean() > 10 for a, b in itertools.combinations(patterns, 2))
    assert paint_vessel("none") == (None, None)


@pytest.mark.parametrize("kind", FRUITS)
def test_no_fruit_is_clipped_at_its_canvas(kind):
    for turn in TURNS:
        alpha = np.asarray(paint_sprite(kind, turn))[..., 3]
        assert (alpha > 127).sum() > 1200, "it can be seen"
        assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0


def test_nothing_is_clipped_at_the_frame():
    for seed in range(300):
        rendering = render(sample(seed))
        things = ~np.isin(rendering.owner, [rendering.names.index("wall"), rendering.names.index("table")])
        assert not things[:4].any()
        assert not things[-4:].any()
        assert not things[:, :4].any()
        assert not things[:, -4:].any()


def test_regions_share_every_pixel_and_hold_what_the_sentence_says():
    for seed in range(100):
        scene = sample(seed)
        rendering = render(scene)
        regions = {name: rendering.region(name) for name in rendering.names}
        assert np.allclose(sum(regions.values()), 1)
        expected = {"wall", "table", *scene.fruits} | ({"vessel"} if scene.vessel != "none" else set())
        assert set(regions) == expected
        assert all(region.sum() > 15 for region in regions.values()), scene


def difference(one, other):
    return np.abs(render(one).image.astype(int) - render(other).image).max(2)


def test_an_edit_changes_its_own_place_only():
    """A true edit differs where the changed thing is, before or after, or its shadow. Half-transparent edges of
    fruit let a few levels (at most 8 of 255) of what is behind them through."""
    for seed in range(60):
        scene = sample(seed)
        before = render(scene)
        for attribute, target in list_changes(scene):
            after = render(target)
            changed = difference(scene, target) > 8
            assert changed.any()
            assert target.seed == scene.seed
            things = set(scene.fruits) ^ set(target.fruits) if attribute == "fruits" else {attribute}
            region = sum(r.region(name) for r in (before, after) for name in things if name in r.names) > 0
            if attribute in ("fruits", "wall", "table"):
                assert not (changed & ~grow(region)).any(), (attribute, scene, target)
            else:
                assert (changed & ~grow(region)).sum() < 0.12 * changed.size, "a vessel and its shadow"


def grow(region):
    """By one pixel: soft edges of sprites colour a pixel that they do not own."""
    return binary_dilation(region, np.ones((3, 3)))


def test_captions():
    scene = Scene(("apple", "plum"), "bowl", "wooden", "gray", 0)
    assert scene.caption() == "a bowl of apples and plums on a wooden table, gray wall"
    assert change(scene, "vessel", "none").caption() == "apples and plums on a wooden table, gray wall"
    assert change(scene, "fruits", "pear", 1).fruits == ("apple", "pear")
    assert all(phrase in scene.caption() for phrase in scene.phrases().values())


def test_an_edit_changes_one_phrase():
    for seed in range(20):
        scene = sample(seed)
        for attribute, target in list_changes(scene):
            differing = [name for name in ATTRIBUTES if scene.phrases()[name] != target.phrases()[name]]
            assert differing == [attribute]


def test_groups_hold_every_kind_once():
    assert sorted(itertools.chain(*GROUPS)) == sorted(FRUITS)
    assert find_siblings("apple") == ("pear", "plum")


def test_scenes_are_varied_and_splits_disjoint():
    scenes = [sample(seed) for seed in range(2000)]
    assert 0.25 < np.mean([len(scene.fruits) == 2 for scene in scenes]) < 0.35
    for name in ("vessel", "table", "wall"):
        counts = [sum(getattr(scene, name) == value for scene in scenes) for value in ATTRIBUTES[name]]
        assert min(counts) > 400
    ranges = sorted((split.start, split.stop) for split in SPLITS.values())
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ranges))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fruits": ("mango",)}, "fruits 'mango' is none of apple, pear"),
        ({"vessel": "cup"}, "vessel 'cup' is none of bowl, plate"),
        ({"fruits": ()}, "one or two different kinds"),
        ({"fruits": ("apple", "apple")}, "one or two different kinds"),
    ],
)
def test_bad_scenes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Scene(**{"fruits": ("apple",), "vessel": "bowl", "table": "wooden", "wall": "gray", "seed": 0} | settings)


def test_the_scenes_benchmark():
    benchmark = StillLifeScenes(size=40)
    truths, requests = dict(benchmark.ground_truths()), list(benchmark.requests(64))
    assert [request.id for request in requests] == list(truths)
    assert Counter(truth.attribute for truth in truths.values()) == dict.fromkeys(ATTRIBUTES, 10)
    for request in requests:
        truth = truths[request.id]
        assert (request.source, request.target) == (truth.before.caption(), truth.after.caption())
        assert request.source != request.target
        assert np.array_equal((request.image() * 255).round().byte().permute(1, 2, 0), render(truth.before).image)
        assert 0.005 < request.mask().mean() < 0.75
        outside = ~truth.mask()
        assert difference(truth.before, truth.after)[outside].max() <= 8
    assert next(StillLifeScenes(size=1).requests(32)).mask().shape == (1, 32, 32)
    assert list(dict(StillLifeScenes(size=8).ground_truths()).items()) == list(truths.items())[:8]


def test_the_classes_benchmark():
    benchmark = StillLifeClasses(per_class=4)
    truths, requests = dict(benchmark.ground_truths()), list(benchmark.requests(64))
    assert len(benchmark) == len(requests) == 48
    assert Counter(truth.after.fruits for truth in truths.values()) == {(kind,): 4 for kind in FRUITS}
    for request in requests:
        truth = truths[request.id]
        assert request.source is None
        assert request.target == FRUITS[truth.after.fruits[0]]
        assert truth.before.fruits[0] in find_siblings(truth.after.fruits[0])
        assert truth.before.seed == truth.after.seed
    scenes = {truth.before.seed for _, truth in StillLifeScenes().ground_truths()}
    assert not scenes & {truth.before.seed for truth in truths.values()}


def test_bad_settings_of_a_benchmark():
    with pytest.raises(ValueError, match="attributes = 'roof': it should be 'fruits', 'vessel', 'table' or 'wall'"):
        StillLifeScenes(attributes=("roof",))
