"""Metrics against closed forms, against lpips, torchmetrics and open_clip, and on cases with known answers."""

import json
import warnings

import lpips
import numpy as np
import open_clip
import pytest
import scipy.linalg
import torch
import torchmetrics
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from diffedit.types import EditRequest
from eval.benchmarks.stilllife.benchmarks import StillLifeClasses, StillLifeScenes, Truth
from eval.benchmarks.stilllife.scene import ATTRIBUTES, Scene, change
from eval.features import ReferenceSet
from eval.gallery import Batch
from eval.metrics import Scope
from eval.metrics.clip import ClipScore
from eval.metrics.distance import PerceptualDistance, psnr
from eval.metrics.distribution import StillLifeCsfid, StillLifeFid, frechet
from eval.metrics.stilllife import CounterfactualError, EditAccuracy, MaskIou, StillLifeLpips, judge
from eval.networks.stilllife import CHOICES, StillLifeFeatures
from eval.statistics import Draws
from scripts.train.clip import ClipPart
from scripts.train.features import FeaturesPart


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A feature network with random weights on disk."""
    folder = tmp_path_factory.mktemp("features")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0).export(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP with random weights on disk."""
    folder = tmp_path_factory.mktemp("clip")
    part = ClipPart(width=32, vision=8, text_layers=1, validation=2, seed=0)
    part.module.eval()
    part.export(folder)
    return folder


def pictures(count, seed=0, side=64):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def batch(benchmark, edits=None, masks=None):
    """All requests of a small benchmark, with given edits (default: the input)."""
    asks = list(benchmark.requests(64))
    inputs = torch.stack([ask.image() for ask in asks])
    return Batch(asks, inputs, inputs if edits is None else edits, masks, [truth for _, truth in benchmark.truths()])


def pair(inputs, edits):
    """Pictures of no benchmark."""
    return Batch([], inputs, edits, None)


def exact(benchmark):
    """The counterfactual of every request."""
    return torch.stack([ask.counterfactual() for ask in benchmark.requests(64)])


# ------------------------------------------------------------------------------------------------------------ Fréchet


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (20, 30, 64)])
def test_frechet_is_the_formula_with_a_matrix_square_root(n, m, d):
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(n, d)) @ draw.normal(size=(d, d)), draw.normal(size=(m, d)) + 0.3
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert frechet(one, other) == pytest.approx(expected, rel=1e-4)


def test_frechet_is_torchmetrics():
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.rand(40, 3, 4, 4, generator=draw, dtype=torch.float64) ** power for power in (1, 2))

    class Flat(nn.Module):
        num_features = 48

        def forward(self, x):
            return x.flatten(1)

    fid = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 4, 4)).set_dtype(torch.float64)
    fid.inception.num_features = 48
    fid.update(one, real=True)
    fid.update(other, real=False)
    ours = frechet(*(x.flatten(1).numpy() for x in (one, other)))
    assert ours == pytest.approx(fid.compute().item(), rel=1e-3)


def test_frechet_of_gaussians_in_closed_form():
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(200_000, 3)) * [1, 2, 3], draw.normal(size=(200_000, 3)) * [2, 2, 1] + [1, 0, 0]
    assert frechet(one, other) == pytest.approx(1 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2, rel=0.01)


def test_frechet_of_a_set_with_itself_and_of_one_picture():
    features = np.random.default_rng(0).normal(size=(30, 100))
    assert frechet(features, features) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="two images or more"):
        frechet(features[:1], features)


# --------------------------------------------------------------------------------------------------- LPIPS and PSNR


def test_perceptual_distance_is_the_lpips_packages(weights):
    """Their code around our network: the same number to 1e-5."""
    ours = StillLifeLpips(weights, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, lpips=False, verbose=False)

    class Ours(nn.Module):
        def forward(self, x):
            return ours.judge.layers(x / 2 + 0.5)

    theirs.net, theirs.L, theirs.scaling_layer = Ours(), 4, nn.Identity()
    one, other = pictures(3), pictures(3, seed=1)
    with torch.no_grad():
        expected = theirs(one * 2 - 1, other * 2 - 1).flatten()
    found = ours.facts(pair(one, other))["lpips"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found > 0.01).all()
    assert ours.distance(one, one).abs().max() == 0


def test_perceptual_distance_remembers_the_input_and_nothing_else(weights):
    network = StillLifeLpips(weights, "cpu").judge.network
    calls = []
    distance = PerceptualDistance(lambda x: calls.append(1) or network.activations(x))
    one, first, second = pictures(2), pictures(2, 1), pictures(2, 2)
    values = [distance(one, first), distance(one, second)]
    assert len(calls) == 3
    assert torch.equal(distance(one.clone(), second), values[1])
    assert not torch.equal(*values)


def test_lpips_refuses_another_range(weights):
    with pytest.raises(ValueError, match=r"in \[0, 1\]; these are in \[-1, 1\]"):
        StillLifeLpips(weights, "cpu").distance(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64), pictures(1))


def test_the_spread_of_the_distance_sums_to_it_where_layers_divide_evenly(weights):
    distance = StillLifeLpips(weights, "cpu").distance
    one, other = pictures(2), pictures(2, 1)
    whole, spread = distance.spread(one, other)
    assert spread.shape == (2, 1, 64, 64)
    assert torch.equal(whole, distance(one, other))
    torch.testing.assert_close(spread.mean((1, 2, 3)), whole, rtol=0.02, atol=1e-3)
    half = one.clone()
    half[..., :32] = other[..., :32]
    left, right = distance.spread(one, half)[1].mean((0, 1, 2)).split(32)
    assert left.mean() > 5 * right.mean()


def test_psnr_is_torchmetrics_and_has_regions():
    one, other = pictures(2), pictures(2, 1)
    theirs = torchmetrics.functional.image.peak_signal_noise_ratio
    expected = [theirs(b, a, data_range=1.0) for a, b in zip(one, other, strict=True)]
    torch.testing.assert_close(psnr(one, other), torch.stack(expected))
    assert psnr(one, one).tolist() == [100, 100]
    region = torch.zeros(2, 1, 64, 64)
    region[..., :10] = 1
    torch.testing.assert_close(psnr(one, other, region), psnr(one[..., :10], other[..., :10]))


# --------------------------------------------------------------------------------------------- what only Still Life has


def test_the_counterfactual_has_no_error_and_the_copy_has_it_inside(weights):
    benchmark = StillLifeScenes(size=8)
    metric = CounterfactualError(weights, "cpu")
    perfect = metric.facts(batch(benchmark, exact(benchmark)))
    assert all((perfect[name] == 0).all() for name in perfect if "lpips" in name)
    assert all((perfect[name] == 100).all() for name in perfect if "psnr" in name)
    copied = metric.facts(batch(benchmark))
    assert (copied["cf_psnr_inside"] < 25).all()
    assert (copied["cf_psnr_outside"] > 35).all()  # renders differ by less than 8 of 255 there
    assert (copied["cf_lpips_inside"] > copied["cf_lpips_outside"]).all()
    assert metric.missing(Batch([EditRequest("a", lambda: None, "b")], pictures(1), pictures(1), None))


def test_mask_iou_of_known_masks():
    benchmark = StillLifeScenes(size=4)
    asks = list(benchmark.requests(64))
    masks = torch.stack([ask.mask() for ask in asks])
    masks[1] = 1
    masks[2] = 0
    masks[3] = 1 - masks[3]
    found = MaskIou().facts(batch(benchmark, masks=masks))["mask_iou"]
    assert found[0] == 1
    assert found[1] == pytest.approx(asks[1].mask().mean().item())
    assert found[2:].tolist() == [0, 0]
    assert "has no mask" in MaskIou().missing(batch(benchmark))


def seen(scene):
    """What a perfect classifier says of a scene."""
    there = torch.tensor([kind in scene.fruits for kind in ATTRIBUTES["fruits"]])
    return there, {name: torch.tensor(ATTRIBUTES[name].index(getattr(scene, name))) for name in CHOICES}


def test_accuracy_wants_the_new_value_and_not_the_old_one():
    before = Scene(("apple", "plum"), "bowl", "wooden", "gray", 0)
    fruit = Truth(before, change(before, "fruits", "pear"), "fruits")
    assert judge(fruit, *seen(fruit.after)) == (1, 1)
    assert judge(fruit, *seen(before)) == (0, 1)
    both, values = seen(Scene(("apple", "pear"), "plate", "wooden", "gray", 0))
    assert judge(fruit, both, values) == (0, pytest.approx(2 / 3))
    lost, values = seen(Scene(("pear",), "bowl", "wooden", "gray", 0))  # the plum is not asked about
    assert judge(fruit, lost, values) == (1, 1)
    wall = Truth(before, change(before, "wall", "dark"), "wall")
    assert judge(wall, *seen(wall.after)) == (1, 1)
    assert judge(wall, *seen(before)) == (0, 1)
    assert judge(wall, *seen(change(wall.after, "fruits", "lemon"))) == (1, pytest.approx(2 / 3))


def test_accuracy_says_where_it_is_not_defined(weights):
    assert "Still Life" in EditAccuracy(weights, "cpu").missing(pair(pictures(1), pictures(1)))


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"features.safetensors: no such file.*part=features"):
        StillLifeLpips(str(tmp_path))


# ---------------------------------------------------------------------------------------------------------- CSFID, FID


class Reference:
    """A benchmark of classes whose pictures are noise around a colour of the class."""

    version = "1"

    def __init__(self, per_class=50):
        self.per_class = per_class

    def reference(self, size, resolution):
        for i in range(size):
            yield "ab"[i % 2], pictures(1, seed=1000 + i, side=resolution)[0] * (0.5, 1.0)[i % 2]


def scope(tmp_path, n=8):
    labels = ["a", "b"] * (n // 2)
    asks = [EditRequest(str(i), lambda: None, "x", label=label) for i, label in enumerate(labels)]
    return Scope(asks, Draws(n, labels, 200), ReferenceSet(Reference(), "reference", 64, tmp_path))


def test_csfid_is_flexits_formula(weights, tmp_path):
    metric, where = StillLifeCsfid(weights, size=40, device="cpu"), scope(tmp_path)
    features = metric.facts(pair(pictures(8), pictures(8)))["features"]
    found = metric.figures({"features": features.numpy()}, where)
    network = StillLifeLpips(weights, "cpu").judge.network
    expected = []
    for k, label in enumerate("ab"):
        known = torch.stack([image for name, image in Reference().reference(40, 64) if name == label])
        with torch.no_grad():
            centre = network(known).features.double().mean(0)
        expected.append(((features[k::2].double().mean(0) - centre) ** 2).sum().item())
    assert found["csfid"].value == pytest.approx(np.mean(expected), rel=1e-4)
    assert found["csfid"].low < found["csfid"].value < found["csfid"].high
    assert found["csfid_debiased"].value < found["csfid"].value


def test_debiased_csfid_is_unbiased_at_four_images_a_class(weights, tmp_path, monkeypatch):
    """Equal distributions: the raw figure is tr(C)/n + tr(C)/m, the debiased one 0, within two standard errors."""
    draw, d, metric = np.random.default_rng(0), 16, StillLifeCsfid(weights, device="cpu")
    raw, debiased = [], []
    for _ in range(300):
        reference = draw.normal(size=(200, d)), ["a", "b"] * 100
        monkeypatch.setattr(metric.features, "reference", lambda of, reference=reference: reference)
        found = metric.figures({"features": draw.normal(size=(8, d))}, scope(tmp_path))
        raw.append(found["csfid"].value)
        debiased.append(found["csfid_debiased"].value)
    assert np.mean(raw) == pytest.approx(d / 4 + d / 100, rel=0.05)
    assert abs(np.mean(debiased)) < 2 * np.std(debiased) / np.sqrt(len(debiased))


def test_reference_features_are_kept(weights, tmp_path, monkeypatch):
    metric, where = StillLifeFid(weights, size=10, device="cpu"), scope(tmp_path)
    features, classes = metric.features.reference(where.reference)
    monkeypatch.setattr(Reference, "reference", None)
    again, names = metric.features.reference(where.reference)
    assert np.array_equal(features, again)
    assert list(names) == list(classes) == ["a", "b"] * 5
    found = metric.figures({"features": features}, where)["fid"]
    assert found.value == pytest.approx(0, abs=1e-6)


def test_classes_and_reference_of_still_life():
    asks = list(StillLifeClasses(per_class=2).requests(64))
    assert [ask.label for ask in asks[:4]] == ["apple", "apple", "pear", "pear"]
    named = [name for name, _ in StillLifeClasses().reference(24, 64)]
    assert sorted(set(named)) == sorted(ATTRIBUTES["fruits"])
    assert {named.count(name) for name in named} == {2}


# ---------------------------------------------------------------------------------------------------------------- CLIP


def test_clip_score_is_open_clips_cosine(clip):
    metric = ClipScore(f"local-dir:{clip}", device="cpu")
    texts = ["a bowl of apples", "pears"]
    asks = [EditRequest(text, lambda: None, text) for text in texts]
    images = pictures(2)
    found = metric.facts(Batch(asks, images, images, None))["clip_score"]
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip}")(texts)
    with torch.no_grad():
        seen, said = model.eval().encode_image(images * 2 - 1), model.encode_text(tokens)
    cosine = torch.nn.functional.cosine_similarity(seen, said)
    torch.testing.assert_close(found, 100 * cosine.clamp(min=0), atol=1e-4, rtol=1e-4)


def test_a_clip_without_weights_is_refused(clip, tmp_path):
    (tmp_path / "open_clip_config.json").write_text((clip / "open_clip_config.json").read_text())
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_text((clip / name).read_text())
    assert json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"] == 32
    with pytest.raises(FileNotFoundError, match=f"clip.model = local-dir:{tmp_path}: no such weights"):
        ClipScore(f"local-dir:{tmp_path}", device="cpu")


def test_the_network_has_the_layers_that_lpips_compares():
    shapes = [tuple(layer.shape[1:]) for layer in StillLifeFeatures((4, 8, 8, 16)).activations(pictures(1))]
    assert shapes == [(4, 64, 64), (8, 32, 32), (8, 16, 16), (16, 8, 8)]


def test_several_metrics_share_one_pass(weights, monkeypatch):
    """One network for all, and one pass for each batch."""
    metrics = [StillLifeLpips(weights, "cpu"), EditAccuracy(weights, "cpu"), CounterfactualError(weights, "cpu")]
    metrics.append(StillLifeFid(weights, 4, "cpu"))
    network, passes = metrics[0].judge.network, []
    given = network.activations
    monkeypatch.setattr(network, "activations", lambda images: passes.append(1) or given(images))
    first = batch(StillLifeScenes(size=4), pictures(4))
    second = Batch(first.requests, first.inputs, pictures(4, 1), None, first.truths)
    found = [metric.facts(each) for each in (first, second) for metric in metrics]
    assert len(passes) == 4  # the inputs, the exact answers, two batches of edits
    assert not torch.equal(found[0]["lpips"], found[4]["lpips"])
    assert torch.equal(metrics[0].facts(first)["lpips"], found[0]["lpips"])
