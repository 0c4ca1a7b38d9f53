"""Debiased distances on Still Life do not depend on n: its pictures are drawn at random within a class."""

import logging
from functools import cache
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from eval.metrics.functional.csfid import Csfid
from eval.metrics.functional.mmd import Kid, StratifiedKid, polynomial_kernel, squared_mmd
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


def whiten(features):
    """What KID is taken on, of features in any shape (..., d)."""
    rows = torch.from_numpy(features.reshape(-1, features.shape[-1]))
    return StillLifeExtractor(device="cpu").whitening(rows).numpy().reshape(features.shape)


@cache
def make_reference(size):
    """Class statistics of the benchmark's real pictures, and all their white features."""
    pairs = list(StillLifeClasses().reference(size, 64))
    features, none = take_features(iter([picture for _, picture in pairs])), np.empty((0, 256))
    labels = [label for label, _ in pairs]
    sums = Sums()
    sums.add(features, labels)
    return Reference("renders", 64, "network", **sums.compute_statistics(), kept=whiten(features), kept_labels=labels,
                     held_out=none, held_out_labels=[])  # fmt: skip


@cache
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


# ---------------------------------------------------------------------------------------------------------------- KID


def keep_the_diagonal(features, reference, labels):
    """KID with the pairs of a picture with itself left in: biased."""
    biased, _ = squared_mmd(features, reference, labels, polynomial_kernel, np.float64)
    return {"biased": biased.scale(1000)}


def score_kid(estimator, features, reference):
    """A kernel distance of white features, (classes, n, d), with its interval."""
    kinds = [kind for kind in FRUITS for _ in range(features.shape[1])]
    (estimate,) = estimator(features.reshape(len(kinds), -1), reference, kinds).values()
    return Bootstrap.of_labels(kinds, 400).interval(estimate)


def compare_parts(estimator, features, reference, n):
    """(mean over disjoint parts of n a class less that of all, in standard errors; share of intervals that hold it).

    The truth is of all of them by the stratified estimator.
    """
    truth = score_kid(StratifiedKid(), features, reference).value
    parts = [score_kid(estimator, part, reference) for part in np.split(features, features.shape[1] // n, axis=1)]
    values = np.array([part.value for part in parts])
    error = values.std(ddof=1) / np.sqrt(len(values))
    held = np.mean([part.low <= truth <= part.high for part in parts])
    name = getattr(estimator, "__name__", type(estimator).__name__)
    log.info(
        f"{name}, n = {n:2d}: {values.mean():6.2f} ± {error:.2f}, {held:.0%} of {len(parts)} hold the truth {truth:.2f}"
    )
    return (values.mean() - truth) / error, held


def test_kid_of_the_inputs_is_level_from_two_a_class_and_is_not_with_the_diagonal_left_in():
    features, reference = whiten(copy_features(32)), make_reference(480)
    for n in (2, 4):
        off, held = compare_parts(StratifiedKid(), features, reference, n)
        assert abs(off) < 3
        assert held >= 0.75  # of eight parts two may miss
        assert compare_parts(keep_the_diagonal, features, reference, n)[0] > 10


@pytest.mark.slow
def test_kid_stratified_of_the_inputs_is_level_at_2_to_32_a_class_where_the_published_estimator_is_too_low():
    """KID takes pictures for drawn at random; a set with as many of each class spreads less, so it falls with n."""
    features, reference = whiten(copy_features(128)), make_reference(12 * 100)
    for n in (2, 4, 8, 16, 32):
        off, held = compare_parts(StratifiedKid(), features, reference, n)
        assert abs(off) < 3
        assert held >= 0.9
        pooled, _ = compare_parts(Kid(), features, reference, n)
        assert pooled < (-3 if n <= 8 else off)
        assert compare_parts(keep_the_diagonal, features, reference, n)[0] > 3
