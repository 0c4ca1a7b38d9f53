"""Two plain folders are scored as runs are, and as other codes score them."""

import copy
import doctest
import shutil
import unicodedata
from dataclasses import dataclass

import lpips
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import edit_benchmark
from PIL import Image
from scipy.stats import t as student
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

import diffedit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands.score import main
from diffedit.diffedit import DiffEdit
from diffedit.io.files import write
from diffedit.io.images import ImageFile, to_pil, to_tensor
from diffedit.testing import TinyPipeline
from eval.metrics.functional.frechet import Fid
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import collect
from eval.scoring.features import FeatureStore, to_uint8
from eval.scoring.folders import COLUMNS, load_metrics, score
from eval.scoring.reference import compute_reference, iterate_folder
from eval.scoring.score import Settings, score_runs
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor

COUNT = 12


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Inputs and their true edits, by name."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in ("inputs", "edits"):
        (folder / name).mkdir()
    for scene in StillLifeScenes(size=COUNT).requests(64):
        to_pil(scene.image()).save(folder / f"inputs/{scene.id}.png")
        to_pil(scene.true_edit()).save(folder / f"edits/{scene.id}.png")
    return folder


@pytest.fixture
def folders(drawn, tmp_path):
    """A copy of them, to be changed: (edits, inputs)."""
    shutil.copytree(drawn, tmp_path / "drawn")
    return tmp_path / "drawn/edits", tmp_path / "drawn/inputs"


@pytest.fixture(scope="module")
def texts():
    """What each edit should show, by the name without an ending."""
    return {scene.id: scene.target for scene in StillLifeScenes(size=COUNT).requests(64)}


def read(folder):
    """All pictures of a folder by name, in [0, 1]."""
    return torch.stack([to_tensor(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("*.png"))])


def measure(edits, inputs, *metrics, **more):
    """Scores by name, with Still Life's networks."""
    return score(edits, inputs, metrics, networks="stilllife", **more).set_index("metric")


def sort_by_class(folder):
    """Into a sub-folder for each of three classes, one picture after the other."""
    for k, path in enumerate(sorted(folder.glob("*.png"))):
        (folder / f"class {k % 3}").mkdir(exist_ok=True)
        path.rename(folder / f"class {k % 3}" / path.name)


def get_network():
    """Still Life's, as a module."""
    return load_metrics(["lpips"], "stilllife")["lpips"].networks[0].module


# ---------------------------------------------------------------------------------------------------- as others have it


@dataclass(eq=False)
class Activations:
    """The layers of the lpips package's network, as our metric takes them."""

    package: lpips.LPIPS
    hash = "random"
    domain = "anything"
    smallest = 32
    heads = None

    def layers(self, images):
        return list(self.package.net(self.package.scaling_layer(2 * images - 1)))


def test_lpips_is_that_of_its_package(drawn):
    torch.manual_seed(0)
    package = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, lpips=False, verbose=False).eval()
    table = score(drawn / "edits", drawn / "inputs", {"lpips": Lpips(Activations(package))}, batch=5)
    with torch.no_grad():
        theirs = package(read(drawn / "inputs"), read(drawn / "edits"), normalize=True).flatten()
    assert len(theirs) == COUNT
    assert theirs.std() > 0
    assert table.value[0] == pytest.approx(theirs.mean().item(), rel=1e-5)
    assert table.network[0] == "Activations random"


def test_lpips_on_still_life_is_the_formula(drawn):
    network = get_network()
    one, other = (network.activations(read(drawn / name)) for name in ("inputs", "edits"))
    pairs = [(F.normalize(a), F.normalize(b)) for a, b in zip(one, other, strict=True)]
    values = sum((a - b).square().sum(1).mean((1, 2)) for a, b in pairs)
    row = measure(drawn / "edits", drawn / "inputs", "lpips").loc["lpips"]
    assert row.value == pytest.approx(values.mean().item(), rel=1e-5)
    assert row.low < row.value < row.high
    half = student.ppf(0.975, COUNT - 1) * values.std().item() / COUNT**0.5
    assert (row.high - row.low) / 2 == pytest.approx(half, rel=0.15)
    assert (row.n, row.n_against, row.higher_is_better) == (COUNT, COUNT, False)


class Pooled(nn.Module):
    """Still Life's features, as torchmetrics asks for them."""

    num_features = 256

    def __init__(self):
        super().__init__()
        self.network = copy.deepcopy(get_network())  # theirs are made float64

    def forward(self, pictures):
        return self.network((pictures / 255).to(next(self.parameters()).dtype)).features


class White(Pooled):
    """As kernels are taken of them."""

    def forward(self, pictures):
        return StillLifeExtractor(output="whitened", device="cpu").whitening(super().forward(pictures))


def test_fid_and_kid_are_those_of_torchmetrics(drawn):
    fid = FrechetInceptionDistance(feature=Pooled(), input_img_size=(3, 64, 64)).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=White(), subsets=1, subset_size=COUNT).set_dtype(torch.float64)
    for metric in (fid, kid):
        for name in ("inputs", "edits"):
            metric.update((read(drawn / name) * 255).round().to(torch.uint8), real=name == "inputs")
    table = measure(drawn / "edits", drawn / "inputs", "fid", "kid")
    # theirs takes the eigenvalues of a product of two matrices of far less than full rank
    assert table.value["fid"] == pytest.approx(fid.compute().item(), rel=1e-3)
    assert table.value["kid"] == pytest.approx(1000 * kid.compute()[0].item(), rel=1e-5)
    assert table.network["fid"].startswith("stilllife-features ")


def test_csfid_is_the_formula_class_by_class(folders):
    edits, inputs = folders
    (inputs / sorted(path.name for path in inputs.iterdir())[0]).unlink()  # csfid pairs nothing
    for folder in folders:
        sort_by_class(folder)
    means = [
        torch.stack([get_network()(read(path)).features.double().mean(0) for path in sorted(folder.iterdir())])
        for folder in folders
    ]
    table = measure(edits, inputs, "csfid", "sfid")
    assert table.value["csfid"] == pytest.approx((means[0] - means[1]).square().sum(1).mean().item(), rel=1e-5)
    assert table.loc["csfid", ["n", "n_against"]].tolist() == [COUNT, COUNT - 1]
    assert {"csfid_debiased", "sfid", "sfid_debiased"} < set(table.index)


def test_clip_score_is_the_cosine_and_needs_no_other_folder(drawn, texts):
    clip = load_metrics("clip_score", "stilllife")["clip_score"].clip
    pictures = torch.stack([clip.prepare((image * 255).round().to(torch.uint8)) for image in read(drawn / "edits")])
    cosines = (F.normalize(clip.features(pictures)) * clip.texts(list(texts.values()))).sum(1)
    row = measure(drawn / "edits", None, "clip_score", texts=texts).loc["clip_score"]
    assert row.value == pytest.approx(100 * cosines.clamp(min=0).mean().item(), rel=1e-5)
    assert row.n_against is pd.NA
    named = {f"{name}.png": text for name, text in texts.items()}
    assert measure(drawn / "edits", None, "clip_score", texts=named).value["clip_score"] == row.value


# ------------------------------------------------------------------------------------------------------ as a run has it


def test_scores_are_those_of_the_run_whose_pictures_they_are(tmp_path, monkeypatch):
    backbone = StableDiffusion.from_pretrained(str(TinyPipeline(latent=16, tokens=77).write(tmp_path / "tiny")))
    benchmark = StillLifeScenes(size=8)
    root = edit_benchmark(tmp_path / "b/m/diffedit/default", benchmark, DiffEdit(), backbone, [0.5, 1.0], 4)
    metrics = load_metrics(["lpips", "dino_structure"], "stilllife")
    metrics["fid"] = SetDistance(Fid(), StillLifeExtractor(), 16)
    settings = Settings(tmp_path / "cache", resamples=200)
    score_runs([root], metrics, settings)
    ran = collect([root])
    (tmp_path / "inputs").mkdir()
    (tmp_path / "real").mkdir()
    for scene in benchmark.requests(64):
        to_pil(scene.image()).save(tmp_path / f"inputs/{scene.id}.png")
    for i, (_, image) in enumerate(benchmark.reference(16, 64)):
        to_pil(image).save(tmp_path / f"real/{i:02}.png")
    paired = {name: metrics[name] for name in ("lpips", "dino_structure")}
    for ratio in ("0.5", "1"):
        own = ran[(ran.strength == float(ratio)) & (ran.editor == "diffedit")].set_index("metric")
        pictures = root / "images" / ratio
        ours = pd.concat(
            [
                score(pictures, tmp_path / "inputs", paired, resamples=200),
                score(pictures, tmp_path / "real", {"fid": metrics["fid"]}, resamples=200),
            ]
        ).set_index("metric")
        for column in ("value", "low", "high"):
            assert ours[column].to_dict() == pytest.approx(own.loc[ours.index, column].to_dict(), rel=1e-6)
        assert ours.n_against.tolist() == [8, 8, 16]
    counts = count_features(monkeypatch)
    score(pictures, tmp_path / "real", {"fid": metrics["fid"]}, cache=tmp_path / "cache")
    assert sorted(counts) == [0, 16]  # those of the edits are there


def count_features(monkeypatch):
    """How many features each call of the store had to compute, from now on."""
    counts = []
    fill = FeatureStore.fill
    monkeypatch.setattr(FeatureStore, "fill", lambda self, *args: counts.append(fill(self, *args)) or counts[-1])
    return counts


def test_features_are_kept(drawn, tmp_path, monkeypatch):
    counts = count_features(monkeypatch)
    first = score(drawn / "edits", drawn / "inputs", ["fid", "kid"], "stilllife", cache=tmp_path / "cache")
    assert counts == [COUNT] * 4  # edits and inputs: bare for FID, whitened for KID
    counts.clear()
    again = score(drawn / "edits", drawn / "inputs", ["fid", "kid"], "stilllife", cache=tmp_path / "cache")
    assert sum(counts) == 0
    pd.testing.assert_frame_equal(first, again)


def test_the_table_has_a_row_a_score(drawn, texts):
    metrics = ["lpips", "dino_structure", "clip_score", "fid", "kid", "cmmd", "sfid"]
    table = score(drawn / "edits", drawn / "inputs", metrics, "stilllife", texts)
    assert list(table.columns) == COLUMNS
    assert list(dict.fromkeys(name.removesuffix("_debiased") for name in table.metric)) == metrics
    assert table.set_index("metric").higher_is_better["clip_score"]
    few = score(drawn / "edits", drawn / "inputs", ["lpips"], "stilllife", resamples=20, seed=1)
    assert few.value[0] == table.value[0]
    assert few.low[0] != table.low[0]
    equal = score(drawn / "inputs", drawn / "inputs", ["lpips", "fid"], "stilllife").value
    assert equal.tolist() == pytest.approx([0, 0], abs=1e-6)


# --------------------------------------------------------------------------------------------------- against statistics


def write_statistics(pictures, out, *metrics):
    """Of all pictures of a folder, by the networks of these metrics; as `diffedit reference-stats` writes them."""
    for metric in load_metrics(metrics, "stilllife").values():
        images = iterate_folder(pictures, lambda path: to_uint8(ImageFile(path, 64)()))
        statistics = compute_reference(metric.extractor, images, "drawn", 64)
        write(out / f"{metric.extractor.hash}.safetensors", statistics.to_bytes())
    return out


def test_statistics_stand_for_the_pictures_that_they_are_of(folders, tmp_path):
    edits, inputs = folders
    (inputs / sorted(path.name for path in inputs.iterdir())[0]).unlink()
    for folder in folders:
        sort_by_class(folder)
    metrics = ["fid", "kid", "cmmd", "csfid", "sfid"]
    statistics = write_statistics(inputs, tmp_path / "statistics", *metrics)
    ours, theirs = (measure(edits, against, *metrics) for against in (str(statistics), inputs))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5)
    assert set(ours.n_against) == {COUNT - 1}


def test_statistics_that_do_not_serve_are_refused(folders, tmp_path, monkeypatch):
    edits, inputs = folders
    flat = write_statistics(inputs, tmp_path / "flat", "fid")
    with pytest.raises(ValueError, match=r"lpips: it compares with pictures, and against= has statistics of them"):
        measure(edits, flat, "fid", "lpips")
    assert measure(edits, flat, "fid").n_against["fid"] == COUNT
    monkeypatch.setattr(FeatureStore, "fill", None)
    with pytest.raises(FileNotFoundError, match=r"flat/.*\.safetensors: no statistics by .*diffedit reference-stats"):
        measure(edits, flat, "fid", "cmmd")
    with pytest.raises(ValueError, match=r"statistics of pictures of 64 pixels, and the edits have 32"):
        measure(edits, flat, "fid", resolution=32)
    sort_by_class(edits)
    with pytest.raises(ValueError, match=r"csfid: against = .*flat has no statistics of class class 0, class 1"):
        measure(edits, flat, "csfid")


# --------------------------------------------------------------------------------------------------- sizes and formats


def test_resolution_brings_all_pictures_to_one_size(folders):
    edits, inputs = folders
    first = sorted(inputs.iterdir())[0]
    large = Image.open(first).resize((128, 128), Image.Resampling.NEAREST)
    plain = measure(edits, inputs, "lpips", "fid")
    large.save(first)
    wide = Image.new("RGB", (300, 100), "white")
    with pytest.raises(ValueError, match=rf"against = .*inputs: .*different sizes: {first.name} 128 x 128, .* 64 x 64"):
        measure(edits, inputs, "fid")
    scaled = measure(edits, inputs, "lpips", "fid", resolution=64)
    assert scaled.value.tolist() == pytest.approx(plain.value.tolist(), rel=0.05)
    assert scaled.value["lpips"] != plain.value["lpips"]
    wide.save(first)
    assert measure(edits, inputs, "lpips", "fid", resolution=64).value["lpips"] > plain.value["lpips"]


def test_two_folders_of_different_sizes_are_not_paired(folders):
    edits, inputs = folders
    for path in inputs.iterdir():
        Image.open(path).resize((32, 32)).save(path)
    with pytest.raises(ValueError, match=r"pictures of 64 pixels and .*inputs of 32; say resolution="):
        measure(edits, inputs, "lpips")


def test_a_turned_photograph_has_the_size_it_is_seen_in(tmp_path):
    """All three are 60 wide and 40 high to who looks at them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a/1.jpg")
    Image.new("RGB", (40, 60), "red").save(tmp_path / "a/2.jpg", exif=exif)
    Image.new("L", (60, 40)).save(tmp_path / "a/3.webp")
    torch.manual_seed(0)
    package = lpips.LPIPS(net="squeeze", pretrained=False, pnet_rand=True, lpips=False, verbose=False).eval()
    metric = {"lpips": Lpips(Activations(package))}
    assert score(tmp_path / "a", tmp_path / "a", metric).value[0] == 0


def test_pairs_may_have_other_endings(folders):
    edits, inputs = folders
    plain = measure(edits, inputs, "lpips")
    for path in inputs.iterdir():
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert measure(edits, inputs, "lpips").value["lpips"] == plain.value["lpips"]
    path = sorted(edits.iterdir())[0]
    Image.open(path).save(path.with_suffix(".webp"), lossless=True)
    with pytest.raises(ValueError, match=rf"folder = .*{path.stem}.png and {path.stem}.webp have one name"):
        measure(edits, inputs, "lpips")
    assert measure(edits, inputs, "fid").loc["fid", ["n", "n_against"]].tolist() == [COUNT + 1, COUNT]


def test_pairs_may_have_names_in_another_unicode_form(folders):
    """As macOS decomposes those of one folder."""
    plain = measure(*folders, "lpips")
    for folder, form in zip(folders, ("NFC", "NFD"), strict=True):
        path = sorted(folder.iterdir())[0]
        path.rename(path.with_name(f"{unicodedata.normalize(form, 'é')} {path.name}"))
    assert measure(*folders, "lpips").value["lpips"] == plain.value["lpips"]


# -------------------------------------------------------------------------------------------------------------- refused


def test_names_without_a_counterpart_are_named(folders):
    edits, inputs = folders
    names = sorted(path.stem for path in edits.iterdir())
    (inputs / f"{names[3]}.png").unlink()
    (edits / f"{names[5]}.png").unlink()
    with pytest.raises(ValueError, match="lpips: pictures of equal names are compared") as refused:
        measure(edits, inputs, "fid", "lpips")
    assert f"against = {inputs} has no {names[3]}; folder = {edits} has no {names[5]}: rename" in str(refused.value)
    assert measure(edits, inputs, "fid").n["fid"] == COUNT - 1
    for path in inputs.iterdir():
        path.rename(path.with_stem(f"real {path.stem}"))
    with pytest.raises(ValueError, match=r"has no real .* and 6 more: rename"):
        measure(edits, inputs, "lpips")


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("csfid", "put the pictures into sub-folders, one a class"),
        ("accuracy", "put the pictures into sub-folders, one a class"),
        ("clip_score", "give texts="),
        ("mask_iou", "what runs alone have"),
        ("background", "what runs alone have"),
        ("cost", "what runs alone have"),
    ],
)
def test_a_metric_that_is_not_defined_says_why_before_any_work(drawn, metric, said, monkeypatch):
    monkeypatch.setattr(FeatureStore, "fill", None)
    with pytest.raises(ValueError, match=rf"leave these out, .*\n  {metric}: .*{said}"):
        measure(drawn / "edits", drawn / "inputs", "fid", metric)


def test_no_folder_to_compare_with(drawn):
    with pytest.raises(ValueError, match=r"\n  lpips: say against=.*\n  fid: say against="):
        score(drawn / "edits", networks="stilllife")


def test_classes_that_the_other_folder_lacks(folders):
    edits, inputs = folders
    sort_by_class(edits)
    with pytest.raises(ValueError, match=r"csfid: against = .* has no sub-folder class 0, class 1, class 2"):
        measure(edits, inputs, "csfid")
    sort_by_class(inputs)
    (edits / "class 1" / "x.png").write_bytes(next((edits / "class 0").iterdir()).read_bytes())
    shutil.move(edits / "class 1/x.png", edits / "x.png")
    with pytest.raises(ValueError, match=r"csfid: 1 requests of 13 have no target class: x\.png"):
        measure(edits, inputs, "csfid")


def test_texts_that_are_missing_are_named(drawn, texts):
    first, *others = sorted(texts)
    with pytest.raises(ValueError, match=rf"texts: none for {first}\.png of .*edits; there are {others[0]}"):
        measure(drawn / "edits", None, "clip_score", texts={name: texts[name] for name in others})


def test_a_damaged_picture_is_named(folders):
    edits, inputs = folders
    first, *_, last = sorted(edits.iterdir())
    last.write_bytes(last.read_bytes()[:300])
    for metric in ("lpips", "fid"):
        with pytest.raises(OSError, match=last.name):
            measure(edits, inputs, metric)
    first.write_bytes(b"no picture")
    with pytest.raises(OSError, match=first.name):
        measure(edits, inputs, "fid")


def test_folders_that_hold_nothing_to_score(drawn, tmp_path):
    for other, said in ((tmp_path, "no pictures there"), (tmp_path / "gone", "no such folder")):
        with pytest.raises(FileNotFoundError, match=rf"against = {other}: {said}"):
            score(drawn / "edits", other, networks="stilllife")
    (tmp_path / "records").mkdir()
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match=r"folder = .* is a run directory: take the pictures of one ratio, .*images"):
        score(tmp_path, drawn / "inputs", networks="stilllife")


def test_names_of_metrics_and_networks_have_neighbours(drawn):
    with pytest.raises(ValueError, match=r"metric = 'lpisp': there is none of that name; did you mean lpips"):
        measure(drawn / "edits", drawn / "inputs", "lpisp")
    with pytest.raises(ValueError, match=r"networks = 'stillife': .* did you mean stilllife"):
        load_metrics(["lpips"], "stillife")
    mixed = {"a": SetDistance(Fid(), StillLifeExtractor()), "b": SetDistance(Fid(), Other())}
    with pytest.raises(ValueError, match="a: the network knows only stilllife"):
        score(drawn / "edits", drawn / "inputs", mixed)


class Other:
    """A network that knows another world."""

    name, hash, domain, resize, range = "other", "o", "faces", "none", (0.0, 1.0)

    def prepare(self, picture):
        return picture.float()

    def features(self, prepared):
        return prepared.flatten(1)[:, :4]

    def __call__(self, pictures):
        return self.features(pictures)


# ----------------------------------------------------------------------------------------------------- the command line


def test_the_command_prints_and_writes_the_table(drawn, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"folder={drawn / 'edits'}", f"against={drawn / 'inputs'}", "networks=stilllife"]
    assert main([*words, "metric=[lpips,fid]", "out=scores.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = pd.read_csv("scores.csv")
    assert table.metric.tolist() == ["lpips", "fid"]
    again = score(drawn / "edits", drawn / "inputs", networks="stilllife")
    assert np.allclose(table.value, again.value)
    assert any(line.startswith("lpips ↓") and f"{again.value[0]:.2f}" in line for line in lines)
    assert max(map(len, lines)) <= 100
    assert main([*words, "metric=[lpips,csfid]"]) == 2
    assert "csfid: put the pictures into sub-folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["against=inputs"], "and folder="),
        (["folder=gone"], "folder = gone: no such folder"),
        (["folder=.", "against=gone"], "against = gone: no such folder"),
        (["folder=.", "reference=x"], "reference: of runs"),
        (["folder=.", "logger=wandb"], "logger: of runs"),
    ],
)
def test_the_command_refuses(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(recurse=False).find(diffedit.score, "score", globs={})
    assert sum(len(example.examples) for example in examples) >= 8
    assert [doctest.DocTestRunner().run(example).failed for example in examples] == [0]
