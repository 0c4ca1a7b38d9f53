"""Masks of Still Life that are not the exact ones: strokes, and ellipses at random."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion

from eval.metrics.accuracy import EditAccuracy
from eval.scoring.batch import Batch
from eval.scoring.features import to_uint8
from eval.stilllife.benchmarks import (
    StillLifeClasses,
    StillLifeClassesHard,
    StillLifeRandomMasks,
    StillLifeScenes,
    StillLifeStrokes,
    draw_picture,
    draw_stroke,
)
from eval.stilllife.network import StillLifeExtractor
from eval.stilllife.scene import FRUITS, find_siblings


def test_strokes_are_thin_and_on_the_fruit():
    """1, 2 and 3 pixels in turn; within a pixel of the exact mask; thinner than a latent place of 4."""
    benchmark = StillLifeStrokes(per_class=3)
    asks, plain = list(benchmark.requests(64)), list(StillLifeClasses(per_class=3).requests(64))
    assert len(asks) == len(benchmark) == 36
    for i, (ask, other) in enumerate(zip(asks, plain, strict=True)):
        width = i % 3 + 1
        assert ask.id == f"{other.id}-w{width}"
        thin, exact = (load()[0].numpy() > 0.5 for load in (ask.mask, ask.true_mask))
        assert np.array_equal(exact, other.mask()[0].numpy() > 0.5)
        assert 0 < thin.sum() < (0.45 if width == 1 else 0.8) * exact.sum()
        assert thin.sum() >= 4
        line = draw_stroke(other.ground_truth, 1, 64)[0].numpy() > 0.5
        assert np.array_equal(thin, binary_dilation(line, np.ones((width, width))) if width > 1 else line)
        assert binary_erosion(line, np.ones((2, 2))).sum() < 0.2 * line.sum()  # one pixel wide, but for joints
        near = torch.nn.functional.max_pool2d(torch.from_numpy(exact).float()[None], 3, 1, 1)[0].numpy() > 0
        assert (thin & ~near).sum() == 0
    with pytest.raises(ValueError, match=r"widths = .*a list of at least 1, each of it a whole number"):
        StillLifeStrokes(widths=())


def test_random_masks_are_where_they_may_be():
    """Within the frame, of the size said, not all alike; the wanted kind is not in the picture."""
    benchmark = StillLifeRandomMasks(per_class=2)
    asks = list(benchmark.requests(64))
    assert len(asks) == len(benchmark) == len({ask.id for ask in asks}) == 24
    shares = []
    for ask in asks:
        inside = ask.mask()[0].numpy() > 0.5
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert all(18 <= len(extent) <= 40 for extent in (rows, columns))
        shares.append(inside.mean())
        assert ask.label not in ask.ground_truth.before.fruits
        assert ask.label in ask.ground_truth.after.fruits
        assert ask.true_mask is None
    assert 0.07 < min(shares) < 0.15 < max(shares) < 0.31


def test_the_hard_classes_change_one_of_two_kinds_to_a_look_alike_and_keep_the_other():
    benchmark = StillLifeClassesHard(per_class=6)
    truths, requests = dict(benchmark.ground_truths()), list(benchmark.requests(64))
    assert len(benchmark) == len(requests) == len({request.id for request in requests}) == 72
    few = dict(StillLifeClassesHard(per_class=2).ground_truths())
    assert few == {name: truth for name, truth in truths.items() if name in few}
    places = Counter()
    for request in requests:
        before, after = truths[request.id].before, truths[request.id].after
        (source,), (target,) = ({*a.fruits} - {*b.fruits} for a, b in ((before, after), (after, before)))
        (other,) = {*before.fruits} & {*after.fruits}
        assert target == request.label
        assert source in find_siblings(target)
        assert other not in find_siblings(target)
        assert before.fruits.index(source) == after.fruits.index(target)
        assert request.target == " and ".join(FRUITS[kind] for kind in after.fruits)
        assert request.source is None
        assert set(request.retrieved.args[0].fruits) == set(after.fruits)
        places[after.fruits.index(target), find_siblings(target).index(source)] += 1
    assert min(places.values()) >= 8  # drawn, not one of them always
    seeds = {truth.before.seed for truth in truths.values()}
    for other in (StillLifeScenes(), StillLifeClasses(), StillLifeRandomMasks()):
        assert not seeds & {truth.before.seed for _, truth in other.ground_truths()}


def test_an_edit_of_one_of_two_kinds_is_judged_by_its_ground_truth():
    """The exact answer is right and keeps all; a picture of the target alone is right and does not keep the other."""
    metric = EditAccuracy(StillLifeExtractor(output="logits", device="cpu"))
    requests = list(StillLifeClassesHard(per_class=1).requests(64))
    scenes = [replace(request.ground_truth.after, fruits=(request.label,)) for request in requests]
    edits = {
        "oracle": [request.true_edit() for request in requests],
        "copy": [request.image() for request in requests],
        "all of one kind": [draw_picture(scene, 64) for scene in scenes],
    }
    scores = {}
    for name, pictures in edits.items():
        logits = metric.classifier(to_uint8(torch.stack(pictures)))
        batch = Batch(requests, None, torch.stack(pictures), None, "stilllife", kept=lambda *_, logits=logits: logits)
        assert metric.undefined_reason(batch) is None
        scores[name] = {key: column.mean().item() for key, column in metric.per_image(batch).items()}
    assert scores["oracle"] == {"accuracy": 1, "kept": 1, "both": 1}
    assert scores["copy"] == {"accuracy": 0, "kept": 1, "both": 0}
    assert scores["all of one kind"] == {"accuracy": 1, "kept": 0.75, "both": 0}


def test_the_reference_of_the_hard_classes_shows_the_class_beside_another_kind():
    labels, pictures = zip(*StillLifeClassesHard().reference(24, 64), strict=True)
    assert Counter(labels) == dict.fromkeys(FRUITS, 2)
    seen = StillLifeExtractor(output="logits", device="cpu")(to_uint8(torch.stack(pictures)))[:, : len(FRUITS)] > 0
    assert (seen.sum(1) == 2).all()
    assert all(row[list(FRUITS).index(label)] for row, label in zip(seen, labels, strict=True))
