"""Debiased distances on Still Life do not depend on n: its pictures are drawn at random within a class."""

import logging
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from eval.metrics.functional.csfid import Csfid
from eval.scoring.bootstrap import Bootstrap
from eval.scoring.features import to_uint8
from eval.scoring.reference import Reference, Sums
from eval.stilllife.benchmarks import StillLifeClasses
from eval.stilllife.network import StillLifeExtractor
from eval.stilllife.scene import FRUITS, find_siblings

log = logging.getLogger(__name__)  # numbers: pytest --log-cli-level=INFO


def take_features(pictures):
    """By Still Life's network, some at a time."""
    extractor, rows = StillLifeExtractor(device="cpu"), []
    while part := list(islice(pictures, 128)):
        rows.append(extractor(torch.stack([to_uint8(picture) for picture in part])))
    return torch.cat(rows).double().numpy()


def make_reference(size):
    """Class statistics of the benchmark's real pictures."""
    pairs = list(StillLifeClasses().reference(size, 64))
    features, none = take_features(iter([picture for _, picture in pairs])), np.empty((0, 256))
    sums = Sums()
    sums.add(features, [label for label, _ in pairs])
    return Reference("renders", 64, "network", **sums.compute_statistics(), kept=none, kept_labels=[],
                     held_out=none, held_out_labels=[])  # fmt: skip


def copy_features(per_class):
    """Features of the inputs, (classes, per_class, d): what `copy` is scored by."""
    requests = StillLifeClasses(per_class=per_class).requests(64)
    return take_features(request.image() for request in requests).reshape(len(FRUITS), per_class, -1)


def score_part(features, reference):
    """CSFID of some pictures of each class, with the interval of the debiased one."""
    labels = [kind for kind in FRUITS for _ in range(features.shape[1])]
    scores = Csfid()(features.reshape(len(labels), -1), reference, labels)
    return scores["csfid_debiased"].value, Bootstrap.of_labels(labels, 400).interval(scores["csfid_debiased"])


def check_parts(features, reference, n, truth):
    """The mean over disjoint parts of n a class is the truth within three standard errors of it."""
    parts = np.split(features, features.shape[1] // n, axis=1)
    values = [score_part(part, reference)[0] for part in parts]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    log.info(f"n = {n:2d} a class: {np.mean(values):7.1f} ± {error:.1f} over {len(values)} parts; truth {truth:.1f}")
    assert abs(np.mean(values) - truth) < 3 * error
    return error


def test_the_source_of_a_request_is_drawn_and_depends_on_its_own_id_alone():
    """Any prefix is the same pictures; all look-alikes come, not in turn."""
    few, many = (dict(StillLifeClasses(per_class=n).ground_truths()) for n in (5, 60))
    assert few == {name: truth for name, truth in many.items() if name in few}
    assert few.keys() == {f"{kind}-{i:04d}" for kind in FRUITS for i in range(5)}
    turns = []
    for kind in FRUITS:
        one, other = find_siblings(kind)
        sources = [many[f"{kind}-{i:04d}"].before.fruits[0] for i in range(60)]
        assert set(sources) == {one, other}
        assert 15 < sources.count(one) < 45
        turns.append(np.mean([a != b for a, b in pairwise(sources)]))
    assert 0.45 < np.mean(turns) < 0.55  # 1, where they take turns


def test_debiased_csfid_of_the_inputs_is_the_same_of_two_a_class_as_of_many():
    features, reference = copy_features(32), make_reference(480)
    truth = score_part(features, reference)[0]
    assert check_parts(features, reference, 2, truth) < 0.05 * truth


@pytest.mark.slow
def test_debiased_csfid_of_the_inputs_is_that_of_a_large_set_at_2_to_32_a_class():
    """The first n a class, with their interval, and the mean over all parts of n, against all 128 of each class."""
    features, reference = copy_features(128), make_reference(12 * 100)
    truth = score_part(features, reference)[0]
    for n in (2, 4, 8, 16, 32):
        value, (_, low, high) = score_part(features[:, :n], reference)
        log.info(f"the first {n:2d} a class: {value:7.1f} [{low:.1f}, {high:.1f}]")
        if n >= 4:  # below, there is no interval
            assert low < truth < high
        check_parts(features, reference, n, truth)
