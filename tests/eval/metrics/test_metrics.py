"""Metrics of pictures against lpips, torchmetrics and open_clip, and on cases with known answers."""

import json
import shutil
import warnings
from dataclasses import replace
from types import SimpleNamespace

import lpips
import open_clip
import pytest
import torch
import torchmetrics
from safetensors.torch import load_file, save_file
from torch import nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.multimodal.clip_score import CLIPScore
from torchvision.transforms.functional import to_pil_image

from diffedit.io.checks import check_literal
from diffedit.networks.base import Extractor
from diffedit.networks.clip import OpenClip
from diffedit.types import EditRequest, Variant
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.background import AVERAGES, BackgroundError
from eval.metrics.clip import ClipDirectional, ClipInside, ClipScore
from eval.metrics.cost import Cost
from eval.metrics.dino_structure import StructureDistance
from eval.metrics.functional.frechet import Fid
from eval.metrics.functional.pairwise import PerceptualDistance, psnr
from eval.metrics.ground_truth import CounterfactualError, MaskIou
from eval.metrics.lpips import Lpips
from eval.metrics.psnr import Psnr
from eval.metrics.set_distance import SetDistance
from eval.scoring.batch import Batch
from eval.scoring.features import to_uint8
from eval.scoring.metric import Metric, MetricContext
from eval.stilllife.benchmarks import GroundTruth, StillLifeClasses, StillLifeScenes
from eval.stilllife.modules import StillLifeFeatures
from eval.stilllife.network import StillLifeExtractor, StillLifeTokens, load
from eval.stilllife.scene import ATTRIBUTES, CHOICES, Scene, change
from eval.stilllife.train.clip import ClipPart
from eval.stilllife.train.features import FeaturesPart


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A feature network with random weights on disk."""
    folder = tmp_path_factory.mktemp("features")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder)
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
    return Batch(asks, inputs, inputs if edits is None else edits, masks, benchmark.domain)


def pair(inputs, edits):
    """Pictures of no benchmark."""
    return Batch([], inputs, edits, None)


def exact(benchmark):
    """The true edit of every request."""
    return torch.stack([ask.true_edit() for ask in benchmark.requests(64)])


# --------------------------------------------------------------------------------------------------- LPIPS and PSNR


def test_perceptual_distance_is_the_lpips_packages(weights):
    """Their code around our network: the same number to 1e-5."""
    ours = Lpips(load(weights, "cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, lpips=False, verbose=False)

    class Ours(nn.Module):
        def forward(self, x):
            return ours.distance.network.layers(x / 2 + 0.5)

    theirs.net, theirs.L, theirs.scaling_layer = Ours(), 4, nn.Identity()
    one, other = pictures(3), pictures(3, seed=1)
    with torch.no_grad():
        expected = theirs(one * 2 - 1, other * 2 - 1).flatten()
    values = ours.per_image(pair(one, other))["lpips"]
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    assert (values > 0.01).all()
    assert ours.distance(one, one).abs().max() == 0


def test_perceptual_distance_remembers_the_input_and_nothing_else(weights):
    network, calls = load(weights, "cpu").module, []
    about = {"hash": "x", "domain": "anything", "heads": None, "smallest": 64}
    given = SimpleNamespace(**about, layers=lambda x: calls.append(1) or network.activations(x))
    distance = PerceptualDistance(given)
    one, first, second = pictures(2), pictures(2, 1), pictures(2, 2)
    values = [distance(one, first), distance(one, second)]
    assert len(calls) == 3
    assert torch.equal(distance(one.clone(), second), values[1])
    assert not torch.equal(*values)


def test_lpips_refuses_another_range(weights):
    distance = PerceptualDistance(load(weights, "cpu"))
    with pytest.raises(ValueError, match=r"in \[0, 1\]; these are in \[-1, 1\]"):
        distance(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64), pictures(1))
    with pytest.raises(ValueError, match="takes sides of 64 pixels or more"):
        distance(pictures(1, side=63), pictures(1, side=63))


def test_the_spread_of_the_distance_sums_to_it_where_layers_divide_evenly(weights):
    distance = PerceptualDistance(load(weights, "cpu"))
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
    metric = CounterfactualError(load(weights, "cpu"))
    perfect = metric.per_image(batch(benchmark, exact(benchmark)))
    assert all((perfect[name] == 0).all() for name in perfect if "lpips" in name)
    assert all((perfect[name] == 100).all() for name in perfect if "psnr" in name)
    copied = metric.per_image(batch(benchmark))
    assert (copied["cf_psnr_inside"] < 25).all()
    assert (copied["cf_psnr_outside"] > 35).all()  # renders differ by less than 8 of 255 there
    assert (copied["cf_lpips_inside"] > copied["cf_lpips_outside"]).all()
    assert metric.undefined_reason(Batch([EditRequest("a", lambda: None, "b")], pictures(1), pictures(1), None))


def test_mask_iou_of_known_masks():
    benchmark = StillLifeScenes(size=4)
    asks = list(benchmark.requests(64))
    masks = torch.stack([ask.mask() for ask in asks])
    masks[1] = 1
    masks[2] = 0
    masks[3] = 1 - masks[3]
    iou = MaskIou().per_image(batch(benchmark, masks=masks))["mask_iou"]
    assert iou[0] == 1
    assert iou[1] == pytest.approx(asks[1].mask().mean().item())
    assert iou[2:].tolist() == [0, 0]
    assert "has no mask" in MaskIou().undefined_reason(batch(benchmark))


def accuracy(weights):
    return EditAccuracy(StillLifeExtractor(str(weights), "logits", "cpu"))


LABELS = (*ATTRIBUTES["fruits"], *(f"{name}:{value}" for name in CHOICES for value in ATTRIBUTES[name]))


def logits_of(scene):
    """What a perfect classifier says of a scene."""
    visible = [*scene.fruits, *(f"{name}:{getattr(scene, name)}" for name in CHOICES)]
    return torch.tensor([1.0 if label in visible else -1.0 for label in LABELS])


def test_accuracy_wants_the_new_value_and_not_the_old_one():
    before = Scene(("apple", "plum"), "bowl", "wooden", "gray", 0)
    fruit = GroundTruth(before, change(before, "fruits", "pear"), "fruits")
    assert fruit.judge(logits_of(fruit.after), LABELS) == (1, 1)
    assert fruit.judge(logits_of(before), LABELS) == (0, 1)
    both = Scene(("apple", "pear"), "plate", "wooden", "gray", 0)
    assert fruit.judge(logits_of(both), LABELS) == (0, pytest.approx(2 / 4))
    lost = Scene(("pear",), "bowl", "wooden", "gray", 0)  # the plum is not asked about, and not kept
    assert fruit.judge(logits_of(lost), LABELS) == (1, pytest.approx(3 / 4))
    wall = GroundTruth(before, change(before, "wall", "dark"), "wall")
    assert wall.judge(logits_of(wall.after), LABELS) == (1, 1)
    assert wall.judge(logits_of(before), LABELS) == (0, 1)
    assert wall.judge(logits_of(change(wall.after, "fruits", "lemon")), LABELS) == (1, pytest.approx(2 / 3))


def test_accuracy_says_where_it_is_not_defined(weights):
    metric = accuracy(weights)
    asks = [EditRequest("a", lambda: None, "b")]
    assert metric.undefined_reason(Batch(asks, pictures(1), pictures(1), None)) == "the benchmark has no target classes"
    asks = [replace(asks[0], label="pear")]
    assert "knows only stilllife" in metric.undefined_reason(Batch(asks, pictures(1), pictures(1), None))


def test_accuracy_among_target_classes_is_flexits(weights):
    """The largest logit of the benchmark's target classes alone, whatever the other classes say."""
    benchmark = StillLifeClasses(per_class=1)
    given = batch(benchmark, exact(benchmark))
    metric, kinds = accuracy(weights), list(ATTRIBUTES["fruits"])
    logits = metric.classifier(to_uint8(given.edits))
    expected = [float(kinds[row[:12].argmax()] == ask.label) for row, ask in zip(logits, given.requests, strict=True)]
    assert metric.per_image(given)["accuracy"].tolist() == expected
    two = replace(given, requests=given.requests[:2], inputs=None, edits=given.edits[:2])
    wanted = [ask.label for ask in two.requests]
    among = logits[:2][:, [kinds.index(name) for name in sorted(wanted)]].argmax(1)
    values = metric.per_image(two)["accuracy"]
    assert values.tolist() == [float(sorted(wanted)[k] == want) for k, want in zip(among, wanted, strict=True)]
    strange = replace(two, requests=[replace(ask, label="n0123") for ask in two.requests])
    assert metric.undefined_reason(strange).startswith("the classifier has no class n0123; it has apple")


def test_the_trained_classifier_sees_perfect_edits_and_not_their_inputs():
    benchmark, metric = StillLifeClasses(per_class=1), accuracy("weights/stilllife_features")
    assert metric.per_image(batch(benchmark, exact(benchmark)))["accuracy"].mean() > 0.9
    assert metric.per_image(batch(benchmark))["accuracy"].sum() == 0


def test_logits_are_labelled_as_the_network_judges(weights):
    classifier, images = accuracy(weights).classifier, to_uint8(pictures(3))
    output = load(weights, "cpu")(images / 255)
    columns = dict(zip(classifier.labels, classifier(images).T, strict=True))
    assert torch.equal(torch.stack([columns[kind] for kind in ATTRIBUTES["fruits"]], 1), output.fruits)
    for name in CHOICES:
        logits = torch.stack([columns[f"{name}:{value}"] for value in ATTRIBUTES[name]], 1)
        assert torch.equal(logits, output.choices[name])


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"features.safetensors: no such file.*training=features"):
        load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"features.safetensors: no such file"):
        StillLifeExtractor(str(tmp_path))


def test_classes_and_reference_of_still_life():
    asks = list(StillLifeClasses(per_class=2).requests(64))
    assert [ask.label for ask in asks[:4]] == ["apple", "apple", "pear", "pear"]
    named = [name for name, _ in StillLifeClasses().reference(24, 64)]
    assert sorted(set(named)) == sorted(ATTRIBUTES["fruits"])
    assert {named.count(name) for name in named} == {2}


# ---------------------------------------------------------------------------------------------------------------- CLIP


def test_clip_score_is_open_clips_cosine(clip):
    metric = ClipScore(OpenClip(f"local-dir:{clip}", device="cpu"))
    texts = ["a bowl of apples", "pears"]
    asks = [EditRequest(text, lambda: None, text) for text in texts]
    images = pictures(2)
    images = to_uint8(images) / 255
    values = metric.per_image(Batch(asks, images, images, None))["clip_score"]
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip}")(texts)
    with torch.no_grad():
        image_features, text_features = model.eval().encode_image(images * 2 - 1), model.encode_text(tokens)
    cosine = torch.nn.functional.cosine_similarity(image_features, text_features)
    torch.testing.assert_close(values, 100 * cosine.clamp(min=0), atol=1e-4, rtol=1e-4)


def test_clip_inside_is_the_score_of_what_the_mask_shows(clip):
    """A picture without an inside is left out."""
    ours = OpenClip(f"local-dir:{clip}", device="cpu")
    masks, images = torch.zeros(3, 1, 64, 64), to_uint8(pictures(3)) / 255
    masks[0, :, 10:30], masks[1] = 1, 1
    texts = ["a bowl of apples", "pears", "a dark wall"]
    asks = [EditRequest(text, lambda: None, text, mask=lambda i=i: masks[i]) for i, text in enumerate(texts)]
    metric = ClipInside(ours)
    values = metric.per_image(Batch(asks, images, images, None))
    cut = images.clone()
    cut[0, :, :10], cut[0, :, 30:], cut[2] = 0, 0, 0
    expected = ClipScore(ours).per_image(Batch(asks, cut, cut, None))["clip_score"]
    assert (expected[:2] > 0).any()
    torch.testing.assert_close(values["clip_inside"], expected)
    columns = {name: column.numpy() for name, column in values.items()}
    score = metric.aggregate(columns, MetricContext(asks))["clip_inside"]
    assert score.value == pytest.approx(expected[:2].mean().item(), rel=1e-6)
    assert "no given mask" in metric.undefined_reason(
        Batch([EditRequest("a", lambda: None, "pear"), *asks], None, None, None)
    )


def test_a_clip_whose_weights_are_a_pickle_is_refused(clip, tmp_path):
    """open_clip would unpickle it."""
    folder = shutil.copytree(clip, tmp_path / "clip")
    weights = folder / "open_clip_model.safetensors"
    torch.save(load_file(weights), folder / "open_clip_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold open_clip_config\.json and open_clip_model\.safetensors"):
        OpenClip(f"local-dir:{folder}", device="cpu")


def test_each_clip_score_is_clamped_and_not_their_mean(clip, monkeypatch):
    """torchmetrics clamps the mean of scores; ours agree with it before that, and differ after."""
    ours = OpenClip(f"local-dir:{clip}", device="cpu")
    metric, texts, images = ClipScore(ours), ["a bowl of apples", "pears", "a dark wall"], to_uint8(pictures(3)) / 255

    class Adapter(nn.Module):
        """Our CLIP behind the interface that torchmetrics asks of a model of transformers."""

        config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=32))

        def get_image_features(self, pictures):
            return ours.features(pictures)

        def get_text_features(self, tokens, mask):
            return ours.reader.features(tokens)

    class Processor:
        tokenizer = SimpleNamespace(truncation=True)

        def __call__(self, text=None, images=None, **settings):
            if images is not None:
                return {"pixel_values": torch.stack([ours.prepare(image) for image in images])}
            tokens = torch.stack([ours.reader.prepare(line) for line in text])
            return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    theirs = CLIPScore(model_name_or_path=lambda: (Adapter(), Processor()))
    theirs.update(list(to_uint8(images)), texts)
    asks = [EditRequest(text, lambda: None, text) for text in texts]
    embeddings, tokens = ours(to_uint8(images)), torch.stack([ours.reader.prepare(text) for text in texts])
    cosine = 100 * torch.nn.functional.cosine_similarity(embeddings, ours.reader.features(tokens))
    torch.testing.assert_close(theirs.score / theirs.n_samples, cosine.mean())
    values = metric.per_image(Batch(asks, images, images, None))["clip_score"]
    torch.testing.assert_close(values, cosine.clamp(min=0))
    monkeypatch.setattr(OpenClip, "features", lambda self, prepared: embeddings * torch.tensor([[1.0], [-1.0], [1.0]]))
    turned = metric.per_image(Batch(asks, images, images, None))["clip_score"]
    assert (turned >= 0).all()


def test_directional_clip_is_the_formula_and_an_unchanged_picture_has_no_direction(clip):
    ours = OpenClip(f"local-dir:{clip}", device="cpu")
    before, after = (to_uint8(pictures(3, seed)) / 255 for seed in (0, 1))
    after[1] = before[1]
    asks = [
        EditRequest(str(i), lambda: None, target, "apples") for i, target in enumerate(("pears", "plums", "apples"))
    ]
    values = ClipDirectional(ours).per_image(Batch(asks, before, after, None))
    unit = torch.nn.functional.normalize
    one, two = (unit(ours(to_uint8(images))) for images in (before, after))
    texts = unit(ours.reader.features(torch.stack([ours.reader.prepare(text) for text in ("apples", "pears")])))
    expected = torch.nn.functional.cosine_similarity(two[:1] - one[:1], texts[1:] - texts[:1])
    assert values["clip_directional"][0] == pytest.approx(100 * expected.item(), abs=1e-3)
    assert values["clip_directional"][1:].tolist() == [0, 0]
    assert values["clip_unchanged"].tolist() == [0, 1, 1]
    none = [replace(ask, source=None) for ask in asks]
    assert (
        ClipDirectional(ours).undefined_reason(Batch(none, before, after, None)) == "the benchmark has no source texts"
    )


def test_a_clip_without_weights_is_refused(clip, tmp_path):
    (tmp_path / "open_clip_config.json").write_text((clip / "open_clip_config.json").read_text())
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_text((clip / name).read_text())
    assert json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"] == 32
    message = f"clip model = local-dir:{tmp_path}.*: no such weights. {tmp_path} must hold open_clip_config"
    with pytest.raises(FileNotFoundError, match=message):
        OpenClip(f"local-dir:{tmp_path}", device="cpu")
    with pytest.raises(FileNotFoundError, match=r"open_clip knows these pretrained= of it: .*openai"):
        OpenClip("ViT-B-32", "none such", device="cpu")


def test_what_has_no_weights_is_part_of_a_clips_name(clip, tmp_path):
    """QuickGELU and the number of heads leave no trace in a state dict, and change the embeddings."""
    shutil.copytree(clip, tmp_path / "other")
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = not config["model_cfg"].get("quick_gelu", False)
    (tmp_path / "other/open_clip_config.json").write_text(json.dumps(config))
    one, other = (OpenClip(f"local-dir:{folder}", device="cpu") for folder in (clip, tmp_path / "other"))
    assert not torch.equal(one.texts(["pears"]), other.texts(["pears"]))  # its eyes are a ResNet
    assert one.hash != other.hash


def test_the_names_of_classes_are_part_of_the_accuracy(weights, monkeypatch):
    metric = accuracy(weights)
    before, names = metric.fingerprint(), metric.classifier.labels
    monkeypatch.setattr(StillLifeExtractor, "labels", names[::-1])
    assert metric.fingerprint() != before


def test_the_architecture_of_vit_b_32_is_read_from_a_folder(tmp_path):
    """open_clip's own ViT-B-32 with random weights, in its layout: our features are its own, of its own preparation."""
    with torch.random.fork_rng():
        model, _, _ = open_clip.create_model_and_transforms("ViT-B-32")
    values = {"mean": [0.5] * 3, "std": [0.25] * 3}
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": values}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    ours = OpenClip(f"local-dir:{tmp_path}", device="cpu")
    images = to_uint8(pictures(2, side=300))
    assert isinstance(ours, Extractor)
    assert (ours.side, ours.range) == (224, (-2.0, 2.0))
    prepare = open_clip.image_transform(224, is_train=False, interpolation="bicubic", **values)
    given = torch.stack([prepare(to_pil_image(image)) for image in images])
    with torch.no_grad():
        image_features, text_features = (
            model.eval().encode_image(given),
            model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a cat"])),
        )
    assert torch.equal(ours(images), image_features)
    assert torch.equal(ours.reader.features(ours.reader.prepare("a cat")[None]), text_features)


def test_the_network_has_the_layers_that_lpips_compares():
    shapes = [tuple(layer.shape[1:]) for layer in StillLifeFeatures((4, 8, 8, 16)).activations(pictures(1))]
    assert shapes == [(4, 64, 64), (8, 32, 32), (8, 16, 16), (16, 8, 8)]


def test_several_metrics_share_one_pass(weights, monkeypatch):
    """One network for all, and one pass for each batch."""
    network = load(weights, "cpu")
    metrics = [Lpips(network), CounterfactualError(network), StructureDistance(StillLifeTokens(weights, "cpu"))]
    passes, given = [], network.module.activations
    monkeypatch.setattr(network.module, "activations", lambda images: passes.append(1) or given(images))
    first = batch(StillLifeScenes(size=4), pictures(4))
    second = replace(first, edits=pictures(4, 1))
    values = [metric.per_image(pictures) for pictures in (first, second) for metric in metrics]
    assert len(passes) <= 6  # the inputs, the exact answers, two batches of edits; and pictures scaled by 1
    assert not torch.equal(values[0]["lpips"], values[3]["lpips"])
    assert torch.equal(metrics[0].per_image(first)["lpips"], values[0]["lpips"])


# ---------------------------------------------------------------------------------------------- background, structure


def test_background_is_over_the_mask_or_as_pie_bench_has_it(weights):
    benchmark = StillLifeScenes(size=4)
    edits = pictures(4)
    given = batch(benchmark, edits)
    inside = torch.stack([ask.mask() for ask in given.requests]) > 0.5
    network = load(weights, "cpu")
    ours, pie = (BackgroundError(network, average).per_image(given) for average in ("mask", "pie_compat"))
    for i in range(4):
        one, other, out = given.inputs[i], edits[i], ~inside[i, 0]
        assert ours["mse_outside"][i] == pytest.approx(1000 * (one - other)[:, out].square().mean().item(), rel=1e-4)
        assert ours["mse_inside"][i] == pytest.approx(1000 * (one - other)[:, ~out].square().mean().item(), rel=1e-4)
        black, black2 = (torch.where(out, image, 0.0)[None] for image in (one, other))
        theirs = torchmetrics.functional.image.peak_signal_noise_ratio(black2, black, data_range=1.0)
        assert pie["psnr_outside"][i] == pytest.approx(theirs.item(), abs=1e-3)
        assert pie["mse_outside"][i] == pytest.approx(1000 * (black - black2).square().mean().item(), rel=1e-4)
        theirs = structural_similarity_index_measure(black2, black, data_range=1.0)
        assert pie["ssim_outside"][i] == pytest.approx(theirs.item(), abs=1e-5)
        assert pie["lpips_outside"][i] == pytest.approx(PerceptualDistance(network)(black, black2).item(), rel=1e-4)
    assert (pie["psnr_outside"] > ours["psnr_outside"]).all()  # black pixels inside count as right
    everything = replace(given.requests[0], mask=lambda: torch.ones(1, 64, 64))
    whole = replace(given, requests=[everything, *given.requests[1:]])
    values = {name: column.numpy() for name, column in BackgroundError(network).per_image(whole).items()}
    scores = BackgroundError(network).aggregate(values, MetricContext(whole.requests))
    assert scores["has_outside"].value == 0.75  # a mask over everything says nothing of the background
    assert scores["psnr_outside"].value == pytest.approx(ours["psnr_outside"][1:].mean().item())
    same = BackgroundError(network).per_image(batch(benchmark))
    assert same["ssim_outside"].tolist() == pytest.approx([1] * 4)
    assert same["lpips_outside"].tolist() == [0] * 4
    with pytest.raises(ValueError, match=r"average = 'pie' is none of mask, pie_compat"):
        check_literal("average", "pie", AVERAGES)


def test_structure_distance_is_that_of_self_similarities(weights):
    network = StillLifeTokens(weights, "cpu")
    one, other = pictures(2), pictures(2, 1)
    values = StructureDistance(network).per_image(pair(one, other))["dino_structure"]
    expected = []
    for a, b in zip(one, other, strict=True):
        first, second = (torch.nn.functional.normalize(network.tokens(x[None])[0]) for x in (a, b))
        expected.append(1000 * torch.nn.functional.mse_loss(second @ second.T, first @ first.T).item())
    assert values.tolist() == pytest.approx(expected, rel=1e-4)
    assert StructureDistance(network).per_image(pair(one, one))["dino_structure"].tolist() == [0, 0]
    maxima = []
    fake = SimpleNamespace(hash="x", domain="anything", tokens=lambda x: maxima.append(x.max()) or x.flatten(2))
    StructureDistance(fake, "pie_compat").per_image(pair(one, other))
    assert maxima[0] > 200  # the published code's range, kept for comparison


def test_a_distance_to_a_set_needs_a_set(weights):
    metric = SetDistance(Fid(), StillLifeExtractor(weights, device="cpu"))
    asks = [EditRequest("a", lambda: None, "b")]
    assert metric.undefined_reason(Batch(asks, pictures(1), pictures(1), None)) == "no reference pictures"


def test_psnr_is_that_of_torchmetrics_on_the_whole_picture():
    one, other = pictures(3), pictures(3, seed=1)
    asks = [EditRequest(name, lambda: None, "b") for name in "abc"]
    found = Psnr().per_image(Batch(asks, one, other, None))["psnr"]
    theirs = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(other, one, strict=True)]
    torch.testing.assert_close(found, torch.stack(theirs))
    assert (Psnr().per_image(Batch(asks, one, one, None))["psnr"] == 100).all()


# ---------------------------------------------------------------------------------------------------------------- cost


def test_cost_is_what_the_record_says():
    edits = [{"variant": "ratio=0.5", "evaluations": 8}, {"variant": "ratio=1.0", "evaluations": 16}]
    record = {"seconds": 2.5, "shared_evaluations": 20, "edits": edits}
    asks = [EditRequest("a", lambda: None, "b")]
    made = Batch(asks, pictures(1), pictures(1), None, records=[record], variant=Variant(1.0))
    cost = Cost().per_image(made)
    assert (cost["seconds"].item(), cost["evaluations"].item()) == (2.5, 36)
    record["samples"] = [{"variant": "ratio=1.0"}] * 4
    cost = Cost().per_image(made)
    assert (cost["seconds"].item(), cost["evaluations"].item()) == (2.5 / 4, 36 / 4)
    assert Cost().undefined_reason(replace(made, records=[])) == "nothing was edited"


# ------------------------------------------------------------------------------------------------ a metric of one's own


class Brightness(Metric):
    """All that a metric has to have."""

    version = "brightness-1"
    higher_is_better = {"brightness": True}  # noqa: RUF012
    needs = ("mask",)
    settings = ("mean",)

    def per_image(self, batch):
        return {"brightness": batch.edits.mean((1, 2, 3))}


def test_the_rest_of_a_metric_follows_from_what_it_declares():
    metric, some = Brightness(), batch(StillLifeScenes(size=3))
    context = MetricContext(some.requests)
    assert metric.fingerprint() == "brightness-1-mean"
    values = {name: column.numpy() for name, column in metric.per_image(some).items()}
    assert metric.aggregate(values, context)["brightness"].value == pytest.approx(some.edits.mean().item(), rel=1e-5)
    assert metric.class_table(values, context) is None
    assert metric.real_images(context) == (None, None)
    assert metric.undefined_reason(some) is None
    bare = [replace(request, mask=None, true_mask=None) for request in some.requests]
    assert metric.undefined_reason(replace(some, requests=bare)) == "the benchmark has no given masks"
    mixed = replace(some, requests=[*bare[:2], some.requests[2]])
    assert metric.undefined_reason(mixed).startswith("2 requests of 3 have no given mask: 00000-fruits, 00001-")
    networked = Brightness()
    networked.networks = (SimpleNamespace(hash="x", domain="cars"),)
    assert networked.fingerprint() == "brightness-1-x-mean"
    assert "knows only cars" in networked.undefined_reason(some)
