"""Statistics of real pictures, by hand and by the command; runs scored by them; and what is refused, by name."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import edit_benchmark
from PIL import Image

from baselines.bounds import Copy
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.io.contents import Contents
from diffedit.io.images import ImageFile, Resize
from diffedit.testing import TinyPipeline
from eval.benchmarks.folder import FolderBenchmark
from eval.metrics.functional.csfid import Csfid
from eval.metrics.functional.frechet import Fid
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import NotComparableError, check_comparable, collect
from eval.scoring.features import to_uint8
from eval.scoring.finished_run import IncompleteRunError
from eval.scoring.reference import (
    Reference,
    ReferenceImage,
    References,
    compute_reference,
    find_pictures,
    iterate_folder,
    read_reference,
)
from eval.scoring.score import Settings, score
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeScenes
from eval.stilllife.network import StillLifeExtractor
from eval.stilllife.train.features import FeaturesPart

ROOT = Path(__file__).parents[3]
STILLLIFE = StillLifeExtractor(device="cpu")  # the weights of this repository


class Fake:
    """Four numbers of each picture, each picture for itself; counts them."""

    name, hash, resize, range, domain = "fake", "fake", "none", (0.0, 255.0), "anything"

    def __init__(self):
        self.count = 0

    def prepare(self, picture):
        return picture.double()

    def features(self, prepared):
        self.count += len(prepared)
        rows = prepared.flatten(2)
        return torch.cat([rows.mean(2), rows[:, :1].std(2)], 1).float()


def load(path):
    return to_uint8(ImageFile(path, 16, Resize("crop", "bilinear"))())


def random_picture(path, seed, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    values //= 1 + seed % 3  # so that pictures differ in more than noise
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def classes(tmp_path):
    """A folder of seven pictures of cats and four of dogs, and one deeper below."""
    for i in range(7):
        random_picture(tmp_path / f"real/cat/{i}.png", i)
    for i in range(3):
        random_picture(tmp_path / f"real/dog/{i}.PNG", 10 + i)
    random_picture(tmp_path / "real/dog/more/0.bmp", 13)
    (tmp_path / "real/dog/metadata.txt").write_text("no picture")
    return tmp_path / "real"


def by_hand(pictures):
    """Features of pictures, one at a time."""
    return np.concatenate([Fake().features(Fake().prepare(real.load())[None]).numpy() for real in pictures]).astype(
        float
    )


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_statistics_are_those_of_numpy_without_what_is_held_out(classes, batch):
    pictures = list(iterate_folder(classes, load, held_out=1))
    reference = compute_reference(Fake(), pictures, "pets", 64, keep=4, batch=batch)
    labels = np.array([real.label for real in pictures if not real.held_out])
    rows, held_out = (
        by_hand([real for real in pictures if not real.held_out]),
        by_hand([real for real in pictures if real.held_out]),
    )
    assert (reference.n, len(held_out), reference.source, reference.extractor) == (9, 2, "pets", "fake")
    close(reference.mean, rows.mean(0))
    close(reference.cov, np.cov(rows, rowvar=False))
    close(reference.factor @ reference.factor.T, reference.cov)
    assert reference.class_n == {"cat": 6, "dog": 3}
    for name in reference.class_n:
        members = rows[labels == name]
        close(reference.class_mean[name], members.mean(0))
        close(reference.class_scatter[name], np.trace(np.cov(members, rowvar=False)))
    np.testing.assert_array_equal(reference.kept, rows[:4])
    np.testing.assert_array_equal(reference.held_out, held_out)
    assert (reference.kept_labels, reference.held_out_labels) == (["cat", "dog", "cat", "dog"], ["cat", "dog"])


def test_statistics_come_back_from_their_file_as_they_were(classes, tmp_path):
    reference = compute_reference(Fake(), iterate_folder(classes, load, held_out=1), "pets", 64, keep=4)
    (tmp_path / "file").write_bytes(reference.to_bytes())
    restored = read_reference(tmp_path / "file")
    assert restored.hash == reference.hash
    for name in Reference.__dataclass_fields__:
        np.testing.assert_equal(getattr(restored, name), getattr(reference, name))
    assert replace(reference, mean=reference.mean + 1e-9).hash != reference.hash


def test_a_class_of_one_picture_has_no_scatter_and_still_comes_back(tmp_path):
    random_picture(tmp_path / "real/cat/0.png", 0)
    random_picture(tmp_path / "real/dog/0.png", 1)
    reference = compute_reference(Fake(), iterate_folder(tmp_path / "real", load), "pets", 64)
    assert np.isnan(reference.class_scatter["cat"])
    (tmp_path / "file").write_bytes(reference.to_bytes())
    assert np.isnan(read_reference(tmp_path / "file").class_scatter["dog"])


def test_far_features_lose_no_digits():
    class Far(Fake):
        def features(self, prepared):
            return super().features(prepared) / 512 + 10000

    pictures = [torch.randint(0, 256, (3, 4, 4), generator=torch.Generator().manual_seed(i)) for i in range(100)]
    reals = [ReferenceImage("", str(i), lambda picture=picture: picture.byte()) for i, picture in enumerate(pictures)]
    rows = Far().features(torch.stack(pictures).double()).double().numpy()
    reference = compute_reference(Far(), reals, "far", 64)
    np.testing.assert_allclose(reference.cov, np.cov(rows, rowvar=False), rtol=1e-9)


def test_something_else_than_statistics_is_named(tmp_path):
    (tmp_path / "odd.safetensors").write_bytes(b"something else")
    with pytest.raises(OSError, match=r"odd\.safetensors: no statistics of diffedit reference-stats"):
        read_reference(tmp_path / "odd.safetensors")
    with pytest.raises(OSError, match=r"features\.safetensors: no statistics of diffedit reference-stats"):
        read_reference(ROOT / "weights/stilllife_features/features.safetensors")


# ------------------------------------------------------------------------------------------------------------- folders


def test_classes_take_turns_by_name_and_the_first_of_each_are_held_out(classes):
    images = list(iterate_folder(classes, load, per_class=5, held_out=2))
    assert [image.label for image in images] == ["cat", "dog"] * 4 + ["cat"]
    assert [image.held_out for image in images] == [True] * 4 + [False] * 5
    assert [Path(image.name).relative_to(classes).as_posix() for image in images[:2]] == ["cat/0.png", "dog/0.PNG"]
    assert {image.name for image in images} >= {str(classes / "dog/more/0.bmp")}
    assert images[0].load().shape == (3, 16, 16)
    assert len(list(iterate_folder(classes, load))) == 11


def test_a_flat_folder_has_no_classes(classes):
    pictures = list(iterate_folder(classes / "cat", load, held_out=2))
    assert [(real.label, real.held_out) for real in pictures] == [("", True)] * 2 + [("", False)] * 5
    reference = compute_reference(Fake(), pictures, "cats", 64)
    assert (reference.n, reference.class_n, reference.class_mean) == (5, {}, {})
    close(reference.mean, by_hand(pictures[2:]).mean(0))


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_pictures_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/metadata.txt").write_text("no picture")
    with pytest.raises(FileNotFoundError, match=f"folder = {tmp_path / name}: no pictures there"):
        next(iterate_folder(tmp_path / name, load))


def test_nothing_left_for_the_statistics_is_refused(classes):
    with pytest.raises(ValueError, match="pets: no pictures for the statistics of fake"):
        compute_reference(Fake(), iterate_folder(classes, load, held_out=7), "pets", 64)


def test_a_truncated_picture_is_named(classes):
    path = classes / "cat/5.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(OSError, match=f"{path}: "):
        compute_reference(Fake(), iterate_folder(classes, load), "pets", 64, batch=2)


def test_features_that_are_not_finite_are_refused_by_the_name_of_the_picture(classes):
    class Broken(Fake):
        def features(self, prepared):
            features = super().features(prepared)
            features[3] = float("nan")
            return features

    with pytest.raises(ValueError, match=f"fake: NaN or infinite features of {classes / 'dog/1.PNG'}$"):
        compute_reference(Broken(), iterate_folder(classes, load), "pets", 64)


# ---------------------------------------------------------------------------------------------------------- References


class Drawn:
    """A benchmark whose pictures are noise, of two classes in turn."""

    version, fingerprint, has_reference, reference_version = "1", "", True, "1"

    def reference(self, size, resolution):
        for i in range(size):
            draw = torch.Generator().manual_seed(i)
            yield ("cat", "dog")[i % 2], torch.rand(3, resolution, resolution, generator=draw)


def drawn(size):
    return [to_uint8(picture) for _, picture in Drawn().reference(size, 8)]


@pytest.mark.parametrize("labels", [("cat",), ("cat", "dog", "dog"), ("",) * 5])
def test_a_reference_of_a_benchmark_does_not_depend_on_the_run(tmp_path, labels):
    reference = References(Drawn(), "drawn", 8, labels, tmp_path)(Fake(), 20)
    expected = by_hand([ReferenceImage("", "", lambda picture=picture: picture) for picture in drawn(20)])
    assert reference.n == 20
    close(reference.mean, expected.mean(0))
    close(reference.cov, np.cov(expected, rowvar=False))
    np.testing.assert_array_equal(reference.kept, expected)
    assert (
        sorted(reference.held_out_labels) == sorted(labels) if all(labels) else len(reference.held_out) == len(labels)
    )


def test_held_out_pictures_are_not_among_those_of_the_reference(tmp_path):
    labels = ("dog", "cat", "dog", "dog")
    reference = References(Drawn(), "drawn", 8, labels, tmp_path)(Fake(), 20)
    kept = {tuple(row) for row in reference.kept}
    assert len(kept) == 20
    assert not kept & {tuple(row) for row in reference.held_out}
    rows, reason = reference.pick_held_out(labels)
    assert reason is None
    rest = by_hand([ReferenceImage("", "", lambda picture=picture: picture) for picture in drawn(30)[20:]])
    dogs = rest[1::2]
    np.testing.assert_array_equal(rows, np.stack([dogs[0], rest[0], dogs[1], dogs[2]]))
    assert reference.pick_held_out(("cat", "cat")) == (None, "1 pictures of class cat are held out, and the run has 2")


def test_a_reference_of_a_benchmark_is_computed_once(tmp_path):
    fake = Fake()
    one = References(Drawn(), "drawn", 8, ("cat", "dog"), tmp_path)(fake, 20)
    assert fake.count == 64  # 22 and what fills their call
    assert References(Drawn(), "drawn", 8, ("dog", "cat"), tmp_path)(fake, 20).hash == one.hash
    assert fake.count == 64
    rest = [("drawn", 8, ("cat",), 20), ("other", 8, ("cat", "dog"), 20), ("drawn", 9, ("cat", "dog"), 20)]
    rest.append(("drawn", 8, ("cat", "dog"), 19))
    for name, resolution, labels, size in rest:
        before = fake.count
        References(Drawn(), name, resolution, labels, tmp_path)(fake, size)
        assert fake.count > before


def test_a_reference_that_is_not_there_is_named(tmp_path):
    absent = References(Drawn(), "drawn", 8, ("cat",), tmp_path, tmp_path / "absent")
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/absent/fake\.safetensors: no statistics by fake; diffedit"
    ):
        absent(Fake(), 20)
    (tmp_path / "there").mkdir()
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path}/there/fake\.safetensors: no statistics by fake; diffedit"
    ):
        replace(absent, folder=tmp_path / "there")(Fake(), 20)
    bare = Drawn()
    bare.has_reference = False
    assert "reference= names statistics" in References(bare, "none", 8, ("",), tmp_path).undefined_reason()


# ---------------------------------------------------------------------------------------------------------- the command


def command(*args):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    line = [
        sys.executable,
        str(ROOT / "scripts/reference_stats.py"),
        "networks=stilllife",
        "resolution=64",
        *map(str, args),
    ]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300)


def test_the_command_writes_the_statistics_of_a_folder(tmp_path):
    for name, count in (("apple", 5), ("pear", 4)):
        for i in range(count):
            random_picture(tmp_path / f"real/{name}/{i}.png", i + len(name), (64, 64))
    done = command(f"folder={tmp_path}/real", f"out={tmp_path}/out", "held=1", "extractors=[fid,csfid]")
    assert done.returncode == 0, done.stderr
    assert "n = 7, 2 classes of 3 to 4, 2 held out, hash " in done.stdout
    (path,) = (tmp_path / "out").iterdir()  # fid and csfid are one network
    assert path.name == f"{STILLLIFE.hash}.safetensors"
    whole = lambda path: to_uint8(ImageFile(path, 64)())  # noqa: E731
    images = iterate_folder(tmp_path / "real", whole, held_out=1)
    expected = compute_reference(STILLLIFE, images, f"{tmp_path}/real", 64)
    reference = read_reference(path)
    assert (reference.source, reference.class_n, reference.held_out_labels) == (
        f"{tmp_path}/real",
        {"apple": 4, "pear": 3},
        ["apple", "pear"],
    )
    for name in ("mean", "cov", "kept", "held_out"):
        np.testing.assert_allclose(getattr(reference, name), getattr(expected, name), rtol=1e-4, atol=1e-6)


def test_the_command_reads_real_photographs_with_all_their_quirks(realset, tmp_path):
    folder = realset / "imagenet/val"
    done = command(f"folder={folder}", f"out={tmp_path}", "per_class=2", "held=0", "extractors=[fid]")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    reference = read_reference(path)
    files = {path.name: list(path.iterdir()) for path in folder.iterdir()}
    assert reference.class_n == {name: min(2, len(paths)) for name, paths in files.items()}
    assert reference.n == sum(reference.class_n.values()) == len(reference.kept) > 200
    assert np.isfinite(reference.mean).all()
    name = max(files, key=lambda name: len(files[name]))
    pictures = [to_uint8(ImageFile(file, 64, Resize("crop", "bilinear"))()) for file in sorted(files[name])[:2]]
    np.testing.assert_allclose(
        reference.class_mean[name], STILLLIFE(torch.stack(pictures)).mean(0), rtol=1e-3, atol=1e-5
    )


def test_turned_and_cmyk_photographs_are_read_and_a_truncated_one_is_named(realset, tmp_path):
    (tmp_path / "odd").mkdir()
    for path in (realset / "odd_files").iterdir():
        if path.name != "truncated_jpeg.jpg":
            (tmp_path / "odd" / path.name).symlink_to(path.resolve())
    images = iterate_folder(tmp_path, lambda path: to_uint8(ImageFile(path, 64)()))
    assert compute_reference(STILLLIFE, images, "odd", 64).n == 5
    with pytest.raises(OSError, match=r"truncated_jpeg\.jpg"):
        compute_reference(Fake(), iterate_folder(realset / "odd_files", load), "odd", 64)


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Two extractors with random weights, and a tiny backbone."""
    folder = tmp_path_factory.mktemp("networks")
    for seed in range(2):
        FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=seed, whitening=32).export(folder / str(seed))
    tiny = StableDiffusion.from_pretrained(str(TinyPipeline(latent=16, tokens=77).write(folder / "tiny")), device="cpu")
    return [StillLifeExtractor(str(folder / str(seed)), device="cpu") for seed in range(2)], tiny


def copy_inputs(root, benchmark, networks):
    """A run of `copy`."""
    return edit_benchmark(root, benchmark, Copy(), networks[1], [1.0], 2)


@pytest.fixture(scope="module")
def runs(networks, tmp_path_factory):
    """A run of eight scenes, one of six, and one of twelve classes."""
    folder = tmp_path_factory.mktemp("runs")
    for n in (8, 6):
        copy_inputs(folder / f"stilllife_scenes/tiny/copy/{n}", StillLifeScenes(size=n), networks)
    copy_inputs(folder / "stilllife_classes/tiny/copy/1", StillLifeClasses(per_class=1), networks)
    return folder


@pytest.fixture
def scenes(runs, tmp_path):
    return Path(shutil.copytree(runs / "stilllife_scenes/tiny/copy/8", tmp_path / "stilllife_scenes/tiny/copy/8"))


@pytest.fixture
def six(runs, tmp_path):
    return Path(shutil.copytree(runs / "stilllife_scenes/tiny/copy/6", tmp_path / "stilllife_scenes/tiny/copy/6"))


@pytest.fixture
def fid(networks):
    return {"fid": SetDistance(Fid(), networks[0][0], size=16)}


def statistics(folder, extractor, size=16):
    """A reference folder of Still Life's own pictures."""
    pictures = (
        ReferenceImage("", str(i), lambda picture=picture: to_uint8(picture))
        for i, (_, picture) in enumerate(StillLifeScenes().reference(size, 64))
    )
    folder.mkdir(exist_ok=True)
    reference = compute_reference(extractor, pictures, "scenes", 64)
    (folder / f"{extractor.hash}.safetensors").write_bytes(reference.to_bytes())
    return reference


def read_score(root, name="fid"):
    (row,) = json.loads((root / f"scores/{name}.json").read_bytes())["rows"]
    return row["value"]


def test_a_score_changes_with_the_statistics_it_is_made_with(scenes, fid, tmp_path):
    folder, settings = tmp_path / "statistics", {"cache": tmp_path / "cache", "resamples": 10}
    statistics(folder, fid["fid"].extractor)
    assert score(scenes, fid, Settings(reference=folder, **settings)) == ["fid"]
    first = read_score(scenes)
    assert score(scenes, fid, Settings(reference=folder, **settings)) == []
    statistics(folder, fid["fid"].extractor, 12)
    assert score(scenes, fid, Settings(reference=folder, **settings)) == ["fid"]
    second = read_score(scenes)
    assert second != pytest.approx(first, rel=1e-6)
    assert score(scenes, fid, Settings(**settings)) == ["fid"]
    assert read_score(scenes) == pytest.approx(first)  # the benchmark's own 16 are those
    made_by = json.loads((scenes / "scores/fid.json").read_bytes())["made_by"]
    assert made_by == f"{fid['fid'].fingerprint()}-side64-own"


def test_the_score_is_that_of_the_pictures_and_the_file(scenes, fid, tmp_path):
    extractor = fid["fid"].extractor
    reference = statistics(tmp_path / "statistics", extractor)
    score(scenes, fid, Settings(tmp_path / "cache", tmp_path / "statistics", resamples=10))
    edits = torch.stack([to_uint8(ImageFile(path, 64)()) for path in sorted((scenes / "images/1").iterdir())])
    rows = extractor(edits).double().numpy()
    mean, cov = rows.mean(0), np.cov(rows, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(cov @ reference.cov).real.clip(0))
    expected = ((mean - reference.mean) ** 2).sum() + np.trace(cov) + np.trace(reference.cov) - 2 * roots.sum()
    assert read_score(scenes) == pytest.approx(expected, rel=1e-5)


def test_a_folder_without_statistics_of_this_network_is_refused(scenes, fid, networks, tmp_path):
    statistics(tmp_path / "statistics", networks[0][1])
    with pytest.raises(FileNotFoundError, match=r"no statistics by stilllife-features; diffedit reference-stats makes"):
        score(scenes, fid, Settings(tmp_path / "cache", tmp_path / "statistics", resamples=10))
    assert not (scenes / "scores/fid.json").exists()


def test_a_class_without_reference_pictures_is_named(runs, networks, tmp_path):
    root = shutil.copytree(runs / "stilllife_classes/tiny/copy/1", tmp_path / "run")
    extractor, real = networks[0][0], StillLifeClasses(per_class=1).reference(24, 64)
    pictures = [
        ReferenceImage(label, "", lambda picture=picture: to_uint8(picture))
        for label, picture in real
        if label != "banana"
    ]
    (tmp_path / "statistics").mkdir()
    reference = compute_reference(extractor, pictures, "all but bananas", 64)
    assert len(reference.class_n) == 11
    (tmp_path / f"statistics/{extractor.hash}.safetensors").write_bytes(reference.to_bytes())
    csfid = {"csfid": SetDistance(Csfid(), extractor, size=24)}
    with pytest.raises(ValueError, match="csfid: all but bananas has no pictures of class banana; it has "):
        score(root, csfid, Settings(tmp_path / "cache", tmp_path / "statistics", resamples=10))
    assert score(root, csfid, Settings(tmp_path / "cache", resamples=10)) == ["csfid"]


def test_an_edit_that_is_gone_is_named(scenes, fid, tmp_path):
    path = sorted((scenes / "images/1").iterdir())[3]
    path.unlink()
    with pytest.raises(IncompleteRunError, match=rf"{scenes}: gone, .*\n  images/1/{path.name} is gone"):
        score(scenes, fid, Settings(tmp_path / "cache", resamples=10))


@pytest.mark.parametrize("place", [0, 5])
def test_a_truncated_edit_is_named(scenes, fid, tmp_path, place):
    path = sorted((scenes / "images/1").iterdir())[place]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        IncompleteRunError, match=rf"{scenes}: gone, truncated .*\n  images/1/{path.name} has 200 bytes"
    ):
        score(scenes, fid, Settings(tmp_path / "cache", resamples=10))


def test_an_edit_that_was_changed_after_the_run_is_named(scenes, fid, tmp_path):
    path = sorted((scenes / "images/1").iterdir())[2]
    whole = path.read_bytes()
    Image.new("RGB", (64, 64), "red").save(path)
    path.write_bytes(path.read_bytes().ljust(len(whole), b"\0"))  # a picture of the same size, so that it is opened
    with pytest.raises(OSError, match=f"{path}: truncated or changed after the run wrote it"):
        score(scenes, fid, Settings(tmp_path / "cache", resamples=10))
    path.write_bytes(whole)
    assert score(scenes, fid, Settings(tmp_path / "cache", resamples=10)) == ["fid"]


def test_runs_of_different_n_are_not_compared(scenes, six, fid, tmp_path):
    for root in (scenes, six):
        score(root, fid, Settings(tmp_path / "cache", resamples=10))
    assert len(check_comparable(collect([scenes]))) == len(collect([scenes]))
    with pytest.raises(NotComparableError, match=rf"runs of different n are not .*\n  6: {six}\n  8: {scenes}$"):
        check_comparable(collect([scenes, six]))


def test_runs_of_different_versions_of_a_benchmark_are_not_compared(scenes, fid, networks, tmp_path, monkeypatch):
    score(scenes, fid, Settings(tmp_path / "cache", resamples=10))
    monkeypatch.setattr(StillLifeScenes, "version", "next")
    later = tmp_path / "stilllife_scenes/tiny/copy/later"
    copy_inputs(later, StillLifeScenes(size=8), networks)
    score(later, fid, Settings(tmp_path / "cache", resamples=10))
    message = rf"different versions of the benchmark are not .*\n  1: {scenes}\n  next: {later}$"
    with pytest.raises(NotComparableError, match=message):
        check_comparable(collect([scenes, later]))


def test_scores_by_different_networks_or_references_are_not_compared(runs, networks, fid, tmp_path):
    source, settings = runs / "stilllife_scenes/tiny/copy/8", {"cache": tmp_path / "cache", "resamples": 10}
    roots = [Path(shutil.copytree(source, tmp_path / f"stilllife_scenes/tiny/copy/{name}")) for name in "abc"]
    statistics(tmp_path / "statistics", networks[0][0], 12)
    score(roots[0], fid, Settings(**settings))
    score(roots[1], {"fid": SetDistance(Fid(), networks[0][1], size=16)}, Settings(**settings))
    score(roots[2], fid, Settings(reference=tmp_path / "statistics", **settings))
    for pair in itertools.combinations(roots, 2):
        with pytest.raises(NotComparableError, match="fid was measured in different ways; score these runs") as caught:
            check_comparable(collect(pair))
        assert all(str(root) in str(caught.value) for root in pair)


def test_statistics_of_another_resolution_are_refused(classes, tmp_path):
    reference = compute_reference(Fake(), iterate_folder(classes, load), "pets", 64)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / f"{Fake().hash}.safetensors").write_bytes(reference.to_bytes())
    about = (Drawn(), "x", 128, ("",), tmp_path, tmp_path / "made")
    with pytest.raises(ValueError, match="statistics of pictures of 64 pixels, and the edits have 128"):
        References(*about)(Fake(), 10)
    assert References(*about[:2], 64, *about[3:])(Fake(), 10).n == reference.n


# ------------------------------------------------------------------------------------------------ inputs in a reference


def test_pictures_that_are_inputs_are_left_out_by_content_and_counted(classes, tmp_path, caplog):
    """Under another name, in another folder; and how many classes have left is what per_class counts."""
    pictures = [path for _, path in find_pictures(classes)]
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for i, path in enumerate(pictures[::3]):
        (inputs / f"input {i}.png").write_bytes(path.read_bytes())
    others = Contents(path for _, path in find_pictures(inputs))
    with caplog.at_level("INFO", "score"):
        images = list(iterate_folder(classes, load, without=others))
    assert {image.file for image in images} == {path for path in pictures if path not in others}
    assert len(images) <= len(pictures) - len(pictures[::3])
    assert (
        f"{classes}: {len(pictures) - len(images)} pictures left out, which are among the {len(others)} of"
        in caplog.text
    )
    with pytest.raises(FileNotFoundError, match="all pictures there are among those of without="):
        list(iterate_folder(inputs, load, without=others))


def test_statistics_know_which_files_they_are_of(classes, tmp_path):
    made = compute_reference(Fake(), iterate_folder(classes, load, held_out=1), "pets", 64)
    (tmp_path / "made").write_bytes(made.to_bytes())
    images = list(iterate_folder(classes, load, held_out=1))
    for reference in (made, read_reference(tmp_path / "made")):
        assert len(reference.contents) == reference.n
        for image in images:
            assert reference.count_inputs([image.file]) == (not image.held_out)
    assert compute_reference(Fake(), [image._replace(file=None) for image in images], "x", 64).count_inputs(
        [image.file for image in images]
    ) == 0  # fmt: skip


def test_the_command_leaves_out_the_pictures_of_a_folder(tmp_path):
    for i in range(6):
        random_picture(tmp_path / f"real/{i}.png", i, (64, 64))
    for i in (1, 4):
        random_picture(tmp_path / f"inputs/picture of {i}.png", i, (64, 64))
    asked = [f"folder={tmp_path}/real", "held=1", "extractors=[fid]"]
    done = command(*asked, f"out={tmp_path}/out", f"without={tmp_path}/inputs")
    assert done.returncode == 0, done.stderr
    assert "2 pictures left out, which are among the 2 of without=" in done.stdout
    assert "n = 3, 1 held out" in done.stdout
    done = command(*asked, f"out={tmp_path}/out", f"without={tmp_path}/absent")
    assert done.returncode == 2
    assert "without = " in done.stderr + done.stdout


def test_real_photographs_that_are_inputs_are_left_out(realset, tmp_path):
    """FlexIT's own pictures lie among the validation pictures of ImageNet, under other names here."""
    pictures = sorted((realset / "imagenet/val").rglob("*.JPEG"))[:60]
    for i, path in enumerate(pictures):
        target = tmp_path / f"train/{path.parent.name}/{i}.JPEG"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    left = list(iterate_folder(tmp_path / "train", load, without=Contents(pictures[:20])))
    assert len(left) == 40


def test_a_run_whose_inputs_are_among_the_statistics_is_told(networks, tmp_path, caplog):
    for i in range(4):
        random_picture(tmp_path / f"inputs/{i}.png", i, (64, 64))
        random_picture(
            tmp_path / f"real/r{i}.png", i + (2 if i < 2 else 50), (64, 64)
        )  # 2 and 3 again, under other names
    (tmp_path / "edits.csv").write_text("image,target\n" + "".join(f"inputs/{i}.png,a pear\n" for i in range(4)))
    benchmark = FolderBenchmark(path=str(tmp_path / "edits.csv"), domain="stilllife")
    root = copy_inputs(tmp_path / "folder/tiny/copy/1", benchmark, networks)
    extractor, folder = networks[0][0], tmp_path / "statistics"
    whole = lambda path: to_uint8(ImageFile(path, 64)())  # noqa: E731
    folder.mkdir()
    for without, told in ((None, True), (Contents(tmp_path.glob("inputs/*")), False)):
        made = compute_reference(extractor, iterate_folder(tmp_path / "real", whole, without=without), "real", 64)
        (folder / f"{extractor.hash}.safetensors").write_bytes(made.to_bytes())
        caplog.clear()
        score(root, {"fid": SetDistance(Fid(), extractor)}, Settings(tmp_path / "cache", folder, resamples=10))
        assert ("2 inputs are among the pictures of real, byte for byte" in caplog.text) == told
