"""Distances to real pictures: papers' formulas and other codes, no bias at small n, and intervals that cover."""

import logging
import time
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.numpy import save_file
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from eval.metrics.functional import u_statistics
from eval.metrics.functional.csfid import Csfid, Sfid
from eval.metrics.functional.frechet import Fid, frechet_distance
from eval.metrics.functional.mmd import Cmmd, Kid, StratifiedKid
from eval.metrics.functional.u_statistics import PairSums, estimate_over_set
from eval.scoring.bootstrap import Bootstrap, estimate_mean
from eval.scoring.matched import Curve, compare_at
from eval.scoring.reference import Reference, ReferenceImage, Sums, compute_reference, read_reference

log = logging.getLogger(__name__)  # numbers: pytest --log-cli-level=INFO


def named(classes, n):
    """Labels of n images of each class, one class after the other."""
    return [f"class {c:03}" for c in range(classes) for _ in range(n)]


def reference(features, labels=None, held=None, held_labels=()):
    """Statistics of these features, all of them kept."""
    sums, labels = Sums(), [""] * len(features) if labels is None else list(labels)
    sums.add(features, labels)
    held = np.empty((0, features.shape[1])) if held is None else held
    kept = {"kept": features, "kept_labels": labels, "held_out": held, "held_out_labels": list(held_labels)}
    return Reference("tests", 64, "network", **sums.compute_statistics(), **kept)


def exact(mean, cov, labels=()):
    """A reference without any chance in it, which has this mean in every class too."""
    names, none = sorted(set(labels)), np.empty((0, len(mean)))
    classes = dict.fromkeys(names, 1), dict.fromkeys(names, mean), dict.fromkeys(names, 0.0)
    return Reference("truth", 64, "network", 10**9, mean, cov, *classes, none, [], none, [])


def coverage(estimates, draws, truth):
    """Estimate of simulations: whose interval holds the truth, lies below it, lies above it."""
    intervals = [draws.interval(estimate) for estimate in estimates]
    below, above = (
        np.mean([interval.high < truth for interval in intervals]),
        np.mean([interval.low > truth for interval in intervals]),
    )
    log.info(f"coverage {1 - below - above:.4f} (below {below:.4f}, above {above:.4f}) of {len(intervals)} simulations")
    return 1 - below - above, below, above


def deviation(values, truth):
    """Of the mean of simulations from the truth, in standard errors."""
    return (np.mean(values) - truth) / (np.std(values, ddof=1) / np.sqrt(len(values)))


ANISOTROPIC = 1 / np.sqrt(np.arange(1, 33))  # standard deviations; the mean of 4 images is off by 1.007


def csfids(classes, n, shift, simulations):
    """CSFIDs of fresh images at this distance from an exact reference, in a direction of its own for each class."""
    draw, labels = np.random.default_rng(7), named(classes, n)
    away = draw.normal(size=(classes, 1, 32))
    away *= shift / np.linalg.norm(away, axis=2, keepdims=True)
    truth = exact(np.zeros(32), np.eye(32), labels)
    for _ in range(simulations):
        features = away + ANISOTROPIC * draw.normal(size=(classes, n, 32))
        yield Csfid()(features.reshape(-1, 32), truth, labels)


@cache
def flexits(shift):
    """A thousand of them for 20 classes of 4 images."""
    return list(csfids(20, 4, shift, 1000))


# ----------------------------------------------------------------------------------------------------- CSFID and SFID


@pytest.mark.parametrize("sizes", [(4, 4, 4), (1, 2, 7)])
def test_csfid_and_sfid_are_flexits_formulas(sizes):
    draw, names = np.random.default_rng(0), ["apple", "pear", "quince"]
    edits, real = draw.normal(size=(sum(sizes), 5)) + 1, draw.normal(size=(60, 5)) * 2
    labels, classes = np.repeat(names, sizes), np.asarray(names * 20)
    order = draw.permutation(len(labels))
    labels, edits = list(labels[order]), edits[order]
    statistics, rows = reference(real, classes), {}
    for name in names:
        members = edits[[label == name for label in labels]]
        rows[name] = ((members.mean(0) - real[classes == name].mean(0)) ** 2).sum()
    scores = Csfid()(edits, statistics, labels)
    assert scores["csfid"].value == pytest.approx(np.mean(list(rows.values())), rel=1e-12)
    whole = ((edits.mean(0) - real.mean(0)) ** 2).sum()
    assert Sfid()(edits, statistics, labels)["sfid"].value == pytest.approx(whole, rel=1e-12)

    table = Csfid().class_table(edits, statistics, labels).set_index("class")
    assert table["csfid"].to_dict() == pytest.approx(rows, rel=1e-12)
    assert table["n"].to_dict() == dict(zip(names, sizes, strict=True))
    assert (table["reference"] == 20).all()
    expected = table["csfid_debiased"].mean() if min(sizes) > 1 else np.nan
    assert scores["csfid_debiased"].value == pytest.approx(expected, nan_ok=True)
    for name, size in zip(names, sizes, strict=True):
        members = edits[[label == name for label in labels]]
        chance = [np.trace(np.cov(x, rowvar=False)) / len(x) for x in (members, real[classes == name]) if len(x) > 1]
        expected = rows[name] - sum(chance) if size > 1 else np.nan
        assert table.loc[name, "csfid_debiased"] == pytest.approx(expected, nan_ok=True)


def test_pseudo_values_have_the_score_as_their_mean_however_unequal_the_classes():
    draw, labels = np.random.default_rng(0), named(3, 4) + ["class 001"] * 5
    edits, statistics = draw.normal(size=(17, 6)) + 1, reference(draw.normal(size=(30, 6)), named(3, 1) * 10)
    for metric in (Csfid(), Sfid(), Fid(), Kid(), StratifiedKid(), Cmmd()):
        for name, estimate in metric(edits, statistics, labels).items():
            assert name in metric.higher_is_better
            assert estimate.pseudo_values.shape == (17,)
            assert estimate.pseudo_values.mean() == pytest.approx(estimate.value, rel=1e-9)


def test_a_class_without_reference_pictures_is_named():
    statistics = reference(np.ones((4, 3)), named(2, 2))
    for call in (Csfid(), Csfid().class_table):
        with pytest.raises(ValueError, match="no pictures of class zebra; it has class 000, class 001"):
            call(np.ones((2, 3)), statistics, ["class 000", "zebra"])
    with pytest.raises(ValueError, match="it has no classes"):
        Csfid()(np.ones((1, 3)), reference(np.ones((4, 3))), ["zebra"])


@pytest.mark.parametrize(("shift", "m"), [(0.0, 200), (0.7, 200), (0.7, 5)])
def test_debiased_csfid_is_unbiased_at_four_images_a_class_and_raw_is_off_by_what_is_predicted(shift, m):
    draw, classes, n, spread = np.random.default_rng(1), 5, 4, np.linspace(0.3, 2, 12)
    raw, debiased = [], []
    for _ in range(500):
        centres = draw.normal(size=(classes, 12))
        real = centres + spread * draw.normal(size=(m, classes, 12))
        edits = centres[:, None] + shift / np.sqrt(12) + spread * draw.normal(size=(classes, n, 12))
        statistics = reference(real.reshape(-1, 12), named(classes, 1) * m)
        scores = Csfid()(edits.reshape(-1, 12), statistics, named(classes, n))
        raw.append(scores["csfid"].value)
        debiased.append(scores["csfid_debiased"].value)
    trace = (spread**2).sum()
    assert abs(deviation(debiased, shift**2)) < 2
    assert abs(deviation(raw, shift**2 + trace / n + trace / m)) < 2
    assert deviation(raw, shift**2) > 50
    assert m > 5 or deviation(raw, shift**2 + trace / n) > 10  # the reference's own part is seen too


@pytest.mark.parametrize(
    ("metric", "score"), [(Sfid, "sfid_debiased"), (StratifiedKid, "kid_stratified"), (Cmmd, "cmmd_debiased")]
)
def test_distances_of_sets_are_unbiased_where_each_class_has_a_fixed_number(metric, score):
    draw, classes, n, turns = np.random.default_rng(2), 10, 4, 8
    centres, labels, values_of = 1.5 * draw.normal(size=(classes, 8)), named(classes, n), {"classes": [], "none": []}
    for _ in range(400):
        real = (centres + draw.normal(size=(turns, classes, 8))).reshape(-1, 8)
        edits = (centres[:, None] + draw.normal(size=(classes, n, 8))).reshape(-1, 8)
        statistics = reference(real, named(classes, 1) * turns)
        values_of["classes"].append(metric()(edits, statistics, labels)[score].value)
        values_of["none"].append(metric()(edits, statistics, [""] * len(labels))[score].value)
    log.info(f"{score}: { ({name: round(float(deviation(values, 0)), 2) for name, values in values_of.items()}) }")
    assert abs(deviation(values_of["classes"], 0)) < 2.5
    assert deviation(values_of["none"], 0) < -5  # as if drawn at random: too much is taken away


# ----------------------------------------------------------------------------------------------------------- coverage


def test_the_interval_of_a_mean_covers_19_times_of_20():
    draw, draws = np.random.default_rng(1), Bootstrap(60, resamples=400)
    covered, _, _ = coverage([estimate_mean(draw.normal(size=60)) for _ in range(4000)], draws, 0)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_of_debiased_csfid_covers_19_times_of_20_at_four_images_a_class(shift):
    estimates = [scores["csfid_debiased"] for scores in flexits(shift)]
    covered, _, _ = coverage(estimates, Bootstrap(80, named(20, 4), 400), shift**2)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_of_raw_csfid_covers_what_raw_csfid_is_expected_to_be(shift):
    estimates = [scores["csfid"] for scores in flexits(shift)]
    covered, _, _ = coverage(estimates, Bootstrap(80, named(20, 4), 400), shift**2 + (ANISOTROPIC**2).sum() / 4)
    assert 0.93 <= covered <= 0.98


def test_without_narrowing_the_interval_is_too_wide_where_there_is_no_distance(monkeypatch):
    draws = Bootstrap(320, named(20, 16), 400)
    covered, _, _ = coverage([scores["csfid_debiased"] for scores in csfids(20, 16, 0, 600)], draws, 0)
    monkeypatch.setattr(u_statistics, "find_narrowing", lambda kernels: 1.0)
    wide, _, _ = coverage([scores["csfid_debiased"] for scores in csfids(20, 16, 0, 600)], draws, 0)
    assert 0.93 <= covered <= 0.98
    assert wide > 0.985
    assert wide > covered + 0.01


def test_the_interval_of_debiased_csfid_covers_far_away():
    estimates = [scores["csfid_debiased"] for scores in csfids(20, 4, 10.0, 400)]
    covered, _, _ = coverage(estimates, Bootstrap(80, named(20, 4), 400), 10.0**2)
    assert 0.92 <= covered <= 0.97


@pytest.mark.parametrize("n", [1, 2, 3])
def test_csfid_has_no_interval_below_four_images_a_class_and_says_why(n):
    """The value is what it was; a few small classes among many take no interval away."""
    (scores,) = csfids(20, n, 1.0, 1)
    assert all(estimate.pseudo_values is None for estimate in scores.values())
    assert np.isfinite(scores["csfid"].value)
    interval = Bootstrap(20 * n, named(20, n), 10).interval(scores["csfid"])
    assert interval.value == scores["csfid"].value
    assert np.isnan([interval.low, interval.high]).all()
    reason = "no interval: 20 of 20 classes have fewer than 4 pictures"
    assert Csfid().notes(named(20, n)) == {"csfid": reason, "csfid_debiased": reason}
    assert Csfid().notes(named(20, 4)) == {}
    assert Csfid().notes(named(20, 4)[:-2]) == {}
    assert set(Csfid().notes(["a", "b", *named(18, 4)])) == set()
    assert "3 of 21 classes" in Csfid().notes(["a", "b", "c", *named(18, 4)])["csfid"]


def test_one_image_a_class_is_no_certainty():
    interval = Bootstrap(50, named(50, 1), 100).interval(estimate_mean(np.arange(50.0)))
    assert interval.low < 22 < 27 < interval.high


def test_the_interval_of_fid_covers_what_fid_is_expected_to_be_at_this_n():
    draw, draws = np.random.default_rng(0), Bootstrap(300, resamples=400)
    mix, statistics = draw.normal(size=(8, 8)) / np.sqrt(8), exact(np.zeros(8), np.eye(8))
    estimates = [Fid()(draw.normal(size=(300, 8)) @ mix + 0.5, statistics, [""] * 300)["fid"] for _ in range(1500)]
    covered, _, _ = coverage(estimates, draws, np.mean([estimate.value for estimate in estimates]))
    assert 0.93 <= covered <= 0.97
    real = [Fid()(draw.normal(size=(300, 8)), statistics, [""] * 300)["fid"] for _ in range(1000)]
    covered, _, _ = coverage(real, draws, np.mean([estimate.value for estimate in real]))
    assert covered >= 0.95  # linearised: of real pictures it is on the wide side


def positive(draw, n, d, common, shift):
    """Features as a network ends in them: positive, and correlated as far as `common` goes."""
    return np.maximum(0, 0.3 * (draw.normal(size=(n, len(common))) @ common + draw.normal(size=(n, d))) + 0.2 + shift)


def kids(shift, correlated):
    """(estimates, resamples, their mean) of 100 images."""
    draw, d = np.random.default_rng(0), 64
    common = correlated * draw.normal(size=(8, d))
    statistics = reference(positive(draw, 300, d, common, 0))
    estimates = [Kid()(positive(draw, 100, d, common, shift), statistics, [""] * 100)["kid"] for _ in range(1500)]
    return estimates, Bootstrap(100, resamples=400), np.mean([estimate.value for estimate in estimates])


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_interval_of_kid_covers_19_times_of_20(shift):
    covered, _, _ = coverage(*kids(shift, correlated=0.1))
    assert 0.93 <= covered <= 0.97


def test_the_interval_of_kid_errs_to_one_side_where_few_dimensions_carry_it():
    covered, below, above = coverage(*kids(0.1, correlated=0.5))
    assert covered >= 0.88  # a low score has a short interval; 95 % from 1,000 images on
    assert below > 3 * above


# ---------------------------------------------------------------------------------------------------------------- FID


def root_trace(one, other):
    """Trace of the square root of the product, by eigenvalues that are not noise."""
    values = np.linalg.eigvals(one @ other).real
    return np.sqrt(values[values > 1e-10 * values.max()]).sum()


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (20, 30, 64), (20, 200, 64)])
def test_fid_is_the_formula_with_a_matrix_square_root(n, m, d):
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(n, d)) @ draw.normal(size=(d, d)), draw.normal(size=(m, d)) + 0.3
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of singular matrices
        root = scipy.linalg.sqrtm(first @ second).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert Fid()(one, reference(other), [""] * n)["fid"].value == pytest.approx(expected, rel=1e-4)


class Same(nn.Module):
    """A network that gives what it is given."""

    num_features = 48

    def forward(self, x):
        return x.flatten(1)


@pytest.mark.parametrize(("n", "close"), [(40, 1e-3), (400, 1e-9)])
def test_fid_is_torchmetrics(n, close):
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.rand(n, 3, 4, 4, generator=draw, dtype=torch.float64) ** power for power in (1, 2))
    fid = FrechetInceptionDistance(feature=Same(), normalize=True, input_img_size=(3, 4, 4)).set_dtype(torch.float64)
    fid.update(one, real=True)
    fid.update(other, real=False)
    ours = Fid()(other.flatten(1).numpy(), reference(one.flatten(1).numpy()), [""] * n)
    assert ours["fid"].value == pytest.approx(fid.compute().item(), rel=close)


def test_fid_of_gaussians_in_closed_form():
    draw = np.random.default_rng(0)
    edits, truth = draw.normal(size=(200_000, 3)) * [1, 2, 3], exact(np.array([1.0, 0, 0]), np.diag([4.0, 4, 1]))
    estimate = Fid()(edits, truth, [""] * len(edits))["fid"]
    assert estimate.value == pytest.approx(1 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2, rel=0.01)


@pytest.mark.parametrize(("n", "d"), [(30, 100), (100, 30)])
def test_fid_of_a_set_with_itself_is_0_and_one_image_has_none(n, d):
    features = np.random.default_rng(0).normal(size=(n, d))
    assert Fid()(features, reference(features), [""] * n)["fid"].value == pytest.approx(0, abs=1e-9)
    assert np.isnan(Fid()(features[:1], reference(features), [""])["fid"].value)
    with pytest.raises(ValueError, match="two images or more"):
        frechet_distance(features[:1], features[0], np.eye(d))


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_each_images_influence_on_fid_is_the_derivative_by_its_weight(n, d):
    draw = np.random.default_rng(0)
    features, mean = draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) + 1, draw.normal(size=d)
    factor = draw.normal(size=(d, d))
    value, influence = frechet_distance(features, mean, factor)

    def weighted(weights):
        centre = weights @ features
        cov = (features - centre).T @ ((features - centre) * weights[:, None]) * n / (n - 1)
        other = factor @ factor.T
        return ((centre - mean) ** 2).sum() + np.trace(cov + other) - 2 * root_trace(cov, other)

    even, step = np.full(n, 1 / n), 1e-4
    assert weighted(even) == pytest.approx(value, rel=1e-9)
    steps = [step * (np.eye(n)[i] - even) for i in range(n)]
    slopes = [(weighted(even + change) - weighted(even - change)) / (2 * step) for change in steps]
    assert influence == pytest.approx(slopes, rel=1e-3, abs=1e-3 * np.abs(slopes).max())
    assert influence.sum() == pytest.approx(0, abs=1e-9 * np.abs(influence).max())


# ------------------------------------------------------------------------------------------------------- KID and CMMD


def test_kid_is_torchmetrics_over_all_pictures_at_once():
    draw = np.random.default_rng(0)
    one, other = np.abs(draw.normal(size=(60, 12))), np.abs(draw.normal(size=(60, 12))) + 0.1
    kid = KernelInceptionDistance(feature=Same(), subsets=1, subset_size=60).set_dtype(torch.float64)
    kid.update(torch.tensor(other), real=True)
    kid.update(torch.tensor(one), real=False)
    published = pytest.approx(1000 * kid.compute()[0].item(), rel=1e-9)
    assert Kid()(one, reference(other), [""] * 60)["kid"].value == published
    labels = named(6, 10)
    statistics = reference(other, labels)
    assert Kid()(one, statistics, labels)["kid"].value == published  # classes are nothing to it
    assert StratifiedKid()(one, statistics, labels)["kid_stratified"].value != published
    assert StratifiedKid()(one, reference(other), [""] * 60)["kid_stratified"].value == published


def test_cmmd_is_its_authors_formula():
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(50, 12)) + 0.4, draw.normal(size=(70, 12))
    x, y = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))

    def mean(first, second):
        return np.exp(-((first[:, None] - second[None]) ** 2).sum(2) / (2 * 10**2)).mean()

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert Cmmd()(one, reference(other), [""] * 50)["cmmd"].value == pytest.approx(expected, rel=1e-9)
    labels = named(5, 10)
    assert Cmmd()(one, reference(other), labels)["cmmd"].value == pytest.approx(expected, rel=1e-9)


# -------------------------------------------------------------------------------------------------------- U-statistics


def products(n, d=3, mean=0.5):
    features = np.random.default_rng(n).normal(size=(n, d)) + mean
    return features @ features.T


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_unbiased_is_the_mean_over_pairs_of_different_images(n):
    kernel = products(n)
    pairs = [kernel[i, j] for i in range(n) for j in range(n) if i != j]
    assert PairSums.of(kernel).unbiased == pytest.approx(np.mean(pairs))
    assert PairSums.of(kernel).influence.sum() == pytest.approx(0, abs=1e-12)
    assert PairSums.of(kernel).influence.std() > 0 or n == 2


def test_of_a_single_image_there_is_no_pair():
    assert np.isnan(PairSums.of(np.ones((1, 1))).unbiased)
    assert PairSums.of(np.ones((1, 1))).influence.tolist() == [0]


def test_over_a_set_pairs_within_a_class_are_of_different_images_and_weigh_as_all_pairs(monkeypatch):
    kernel, labels, members = products(9), list("abcabcabc"[:7] + "cc"), {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    expected = 0
    for one in members.values():
        for other in members.values():
            pairs = [kernel[i, j] for i in one for j in other if i != j]
            expected += len(one) * len(other) / 81 * np.mean(pairs)
    raw, debiased = estimate_over_set(lambda rows: kernel[rows], labels)
    assert debiased.value == pytest.approx(expected)
    assert raw.value == pytest.approx(kernel.mean())
    monkeypatch.setattr(u_statistics, "ROWS", 4)
    for one, other in zip(estimate_over_set(lambda rows: kernel[rows], labels), (raw, debiased), strict=True):
        assert one.value == pytest.approx(other.value)  # whatever the blocks
        assert one.pseudo_values == pytest.approx(other.pseudo_values)
    random = estimate_over_set(lambda rows: kernel[rows], [""] * 9)[1].value
    assert random == pytest.approx(PairSums.of(kernel).unbiased)
    assert abs(random - expected) > 1e-3
    assert estimate_over_set(lambda rows: kernel[rows], [*labels[:-1], "alone"])[1].value == pytest.approx(random)


def test_second_order_is_the_sum_over_different_images_and_unbiased_at_four():
    kernel, n = products(6), 6
    two = [kernel[i, j] ** 2 for i in range(n) for j in range(n) if i != j]
    three, four = [], []
    for i in range(n):
        for j in set(range(n)) - {i}:
            for k in set(range(n)) - {i, j}:
                three.append(kernel[i, j] * kernel[i, k])
                four += [kernel[i, j] * kernel[k, m] for m in set(range(n)) - {i, j, k}]
    assert PairSums.of(kernel).second_order == pytest.approx(np.mean(two) - 2 * np.mean(three) + np.mean(four))

    draw, spread = np.random.default_rng(0), np.array([2.0, 1, 0.5])
    values = []
    for _ in range(8000):
        features = spread * draw.normal(size=(4, 3)) + 1
        values.append(PairSums.of(features @ features.T).second_order)
    assert abs(deviation(values, (spread**4).sum())) < 2
    assert deviation(values, 0) > 10


# ---------------------------------------------------------------------------------------------------------- reference


def test_statistics_of_a_stream_are_those_of_all_pictures_far_from_the_origin_too():
    draw = np.random.default_rng(0)
    features, labels = (
        draw.normal(size=(101, 7)) @ draw.normal(size=(7, 7)) + 1e5,
        ["b", "a", "", "b", "c"] * 20 + ["d"],
    )
    sums, start = Sums(), 0
    for size in (1, 2, 3, 5, 7, 11, 13, 59):
        sums.add(features[start : start + size].astype(np.float32), labels[start : start + size])
        start += size
    assert start == len(features)
    rounded, statistics = features.astype(np.float32).astype(np.float64), sums.compute_statistics()
    assert statistics["n"] == 101
    np.testing.assert_allclose(statistics["mean"], rounded.mean(0), rtol=1e-9)
    np.testing.assert_allclose(statistics["cov"], np.cov(rounded, rowvar=False), rtol=1e-5, atol=1e-5)
    assert statistics["class_n"] == {"a": 20, "b": 40, "c": 20, "d": 1}
    for name in "abc":
        members = rounded[[label == name for label in labels]]
        np.testing.assert_allclose(statistics["class_mean"][name], members.mean(0), rtol=1e-9)
        assert statistics["class_scatter"][name] == pytest.approx(np.trace(np.cov(members, rowvar=False)), rel=1e-5)
    assert np.isnan(statistics["class_scatter"]["d"])


@pytest.mark.parametrize("classes", [True, False])
def test_statistics_are_read_as_they_were_written(tmp_path, classes):
    draw = np.random.default_rng(0)
    features, held = (draw.normal(size=(k, 5)).astype(np.float32).astype(np.float64) for k in (9, 2))
    labels = [*"ababababz"] if classes else None
    written = reference(features, labels, held, ["a", "b"] if classes else ["", ""])
    (tmp_path / "statistics").write_bytes(written.to_bytes())
    restored = read_reference(tmp_path / "statistics")
    for name in ("mean", "cov", "kept", "held_out"):
        assert getattr(restored, name).dtype == np.float64
        np.testing.assert_array_equal(getattr(restored, name), getattr(written, name))
    for name in ("source", "extractor", "n", "class_n", "kept_labels", "held_out_labels", "hash"):
        assert getattr(restored, name) == getattr(written, name)
    assert list(restored.class_mean) == list(written.class_mean) == list("abz") * classes
    for name, mean in written.class_mean.items():
        np.testing.assert_array_equal(restored.class_mean[name], mean)
    assert restored.class_scatter == pytest.approx(written.class_scatter, rel=0, abs=0, nan_ok=True)
    assert replace(written, n=10).hash != written.hash
    np.testing.assert_allclose(restored.factor @ restored.factor.T, written.cov, atol=1e-12)


def test_another_file_is_no_statistics_and_named(tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    save_file({"x": np.zeros(3)}, tmp_path / "tensors")
    (tmp_path / "cut").write_bytes(reference(np.ones((3, 2))).to_bytes()[:-8])
    for name in ("text", "empty", "tensors", "cut", "absent"):
        with pytest.raises(OSError, match=str(tmp_path / name)):
            read_reference(tmp_path / name)


@pytest.mark.parametrize("facts", ["{}", "[]"])
def test_statistics_of_another_kind_are_named(tmp_path, facts):
    save_file({"x": np.zeros(3)}, tmp_path / "other", {"reference": facts})
    with pytest.raises(OSError, match=str(tmp_path / "other")):
        read_reference(tmp_path / "other")


def test_held_out_pictures_are_of_the_classes_asked_for_each_once():
    held, of = np.arange(12.0).reshape(6, 2), ["b", "a", "b", "a", "c", "b"]
    statistics = reference(np.ones((4, 2)), held=held, held_labels=of)
    rows, reason = statistics.pick_held_out(["a", "b", "b", "a", "b"])
    assert reason is None
    assert [of[int(row[0] / 2)] for row in rows] == ["a", "b", "b", "a", "b"]
    assert len(np.unique(rows[:, 0])) == 5
    assert statistics.pick_held_out(["a", "c", "c"]) == (None, "1 pictures of class c are held out, and the run has 2")
    assert statistics.pick_held_out(["d"]) == (None, "0 pictures of class d are held out, and the run has 1")
    rows, reason = statistics.pick_held_out([""] * 6)
    assert reason is None
    np.testing.assert_array_equal(rows, held)
    assert statistics.pick_held_out([""] * 7) == (None, "6 pictures are held out, and the run has 7")


class Numbers:
    """A network whose features are the picture."""

    name, hash = "numbers", "numbers-1"

    def prepare(self, picture):
        return torch.as_tensor(picture, dtype=torch.float32)

    def features(self, images):
        return images


def test_held_out_pictures_are_in_no_statistic_and_bad_ones_are_named():
    values = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    real = [ReferenceImage("ab"[i % 2], f"picture {i}", lambda i=i: values[i], i % 5 == 4) for i in range(23)]
    reference = compute_reference(Numbers(), real, "tests", 64, keep=10, batch=4)
    held = np.array([image.held_out for image in real])
    assert reference.n == len(reference.kept_labels) + 9 == 19
    np.testing.assert_allclose(reference.mean, values[~held].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(reference.held_out, values[held])
    np.testing.assert_array_equal(reference.kept, values[~held][:10])
    assert reference.held_out_labels == [image.label for image in real if image.held_out]
    values[7] = np.nan
    with pytest.raises(ValueError, match="picture 7"):
        compute_reference(Numbers(), real, "tests", 64)
    with pytest.raises(ValueError, match="tests: no pictures"):
        compute_reference(Numbers(), [], "tests", 64)


def test_a_class_with_one_reference_picture_takes_no_score_of_the_whole_set_away():
    draw, labels = np.random.default_rng(0), [*named(2, 5), "alone"]
    statistics = reference(draw.normal(size=(11, 4)), labels)
    assert np.isfinite(Sfid()(draw.normal(size=(4, 4)), statistics, named(2, 2))["sfid_debiased"].value)


# -------------------------------------------------------------------------------------------------- speed, comparisons


def test_a_thousand_resamples_of_csfid_take_seconds_at_the_size_of_flexits_benchmark():
    draw, labels = np.random.default_rng(0), named(273, 4)
    statistics = exact(np.zeros(2048), np.eye(2048), labels)
    edits = draw.normal(size=(1092, 2048)).astype(np.float32)
    start = time.perf_counter()
    draws = Bootstrap(len(labels), labels, 1000)
    for ratio in range(10):
        for estimate in Csfid()(edits * np.float32(1 + ratio / 10), statistics, labels).values():
            interval = draws.interval(estimate)
            assert interval.low < interval.value < interval.high
    log.info(f"CSFID of 1,092 images, 10 ratios, 1,000 resamples: {time.perf_counter() - start:.1f} s")
    assert time.perf_counter() - start < 60


def test_fid_of_a_thousand_images_takes_seconds():
    draw = np.random.default_rng(0)
    mix = draw.normal(size=(2048, 2048)) / 45
    statistics = exact(np.zeros(2048), mix @ mix.T)
    start = time.perf_counter()
    assert statistics.factor.shape == (2048, 2048)
    middle = time.perf_counter()
    assert Fid()(draw.normal(size=(1000, 2048)), statistics, [""] * 1000)["fid"].value > 0
    end = time.perf_counter()
    log.info(f"FID of 1,000 images: factor {middle - start:.1f} s, once; then {end - middle:.1f} s")
    assert end - start < 60


STRENGTHS = np.array([0.1, 0.25, 0.45, 0.7])


def method(draw, classes=8, n=4):
    """LPIPS and CSFID of each image at each ratio; both grow with the strength of the edit."""
    labels = named(classes, n)
    truth, hard = exact(np.zeros(8), np.eye(8), labels), draw.uniform(0.8, 1.2, (classes * n, 1))
    columns = []
    for strength in STRENGTHS:
        features = draw.normal(size=(classes * n, 8)) + 2 * strength
        columns.append(Csfid()(features, truth, labels)["csfid_debiased"].pseudo_values)
    return Curve(STRENGTHS, hard * STRENGTHS, np.stack(columns, 1))


def test_a_method_that_is_off_by_a_number_is_found_off_by_it_where_both_edit_equally_strongly():
    draws, curve = Bootstrap(32, named(8, 4), 400), method(np.random.default_rng(0))
    comparison = compare_at(replace(curve, compared=curve.compared + 3), curve, 0.4, draws)
    value, low, high = comparison.difference
    assert value == pytest.approx(3)
    assert 0 < low <= value <= high < 6
    assert comparison.reached == 1
    assert comparison.p < 0.05
    same = compare_at(curve, curve, 0.4, draws)
    assert same.difference[0] == pytest.approx(0)
    assert same.difference[1] <= 0 <= same.difference[2]
    assert same.p == 1


def test_methods_that_do_not_differ_are_told_apart_one_time_in_20():
    draw, draws = np.random.default_rng(0), Bootstrap(32, named(8, 4), 400)
    comparisons = [compare_at(method(draw), method(draw), 0.4, draws) for _ in range(80)]
    values = np.array([comparison.p for comparison in comparisons])
    log.info(f"p below 0.05: {(values < 0.05).mean():.3f}, mean {values.mean():.3f}")
    assert (values < 0.05).sum() <= 9
    assert values.mean() > 0.4  # and above a half, as what interpolation may err by is allowed for
