"""Still Life on disk, read by the loaders of the real data: the same requests, edits and scores, to the bit."""

import hashlib
import json
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import call, composed, said
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands import reference_stats
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.io.files import write
from diffedit.networks.clip import OpenClip
from diffedit.runs.directory import RunDirectory
from diffedit.sampling.noise import RequestNoise
from eval.benchmarks.subset import take_subset
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.clip import ClipScore
from eval.metrics.functional.csfid import Csfid
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.scoring.reference import compute_reference
from eval.scoring.score import Settings, score
from eval.stilllife.benchmarks import StillLifeClasses, StillLifeScenes
from eval.stilllife.export import WNIDS, CocoFiles, ImageNetFiles
from eval.stilllife.network import StillLifeExtractor, load
from eval.stilllife.scene import FRUITS
from scripts import export_stilllife

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RATIOS = [0.25, 0.5]
WEIGHTS = "weights/stilllife_features"
KINDS = ("images", "masks", "maps")


def write_files(folder, export):
    """Write an export."""
    files = dict(export)
    assert len(files) == len(export)
    for path, content in files.items():
        write(folder / path, content)
    return folder


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A query for each class in each split: in folders, with ten training pictures of each class; and flat."""
    folder = tmp_path_factory.mktemp("imagenet")
    exports = {"folders": ImageNetFiles(1, 120), "flat": ImageNetFiles(1, 1, flat=True)}
    return {name: write_files(folder / name, export) for name, export in exports.items()}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Eight edits of each attribute."""
    return write_files(tmp_path_factory.mktemp("coco"), CocoFiles(StillLifeScenes(32)))


def flexit(folder, *more):
    """Overrides that name the files of an export; later ones win."""
    names = {"queries": "queries.csv", "images": "val", "classes": "imagenet_class_index.json"}
    paths = [f"benchmark.{key}={folder / name}" for key, name in names.items()]
    return ["benchmark=imagenet", "benchmark.domain=stilllife", *paths, *more]


def bison(folder, *more):
    """The same for COCO."""
    names = {"bison": "bison_annotations.cocoval2014", "captions": "captions_val2014", "instances": "instances_val2014"}
    paths = [f"benchmark.{key}={folder / name}.json" for key, name in names.items()]
    return ["benchmark=coco", "benchmark.domain=stilllife", *paths, f"benchmark.images={folder}/val2014", *more]


def build(overrides):
    """The benchmark, with the defaults of its yaml."""
    return instantiate(composed(*overrides).benchmark, _convert_="all")


def same_requests(read, direct, labels=str):
    """Ids, texts and classes in order, and every picture to the bit."""
    read, direct = list(read), list(direct)
    assert [(request.id, request.target, request.source) for request in read] == [
        (request.id, request.target, request.source) for request in direct
    ]
    assert [request.label for request in read] == [labels(request.label) for request in direct]
    for one, other in zip(read, direct, strict=True):
        assert torch.equal(one.image(), other.image())


@pytest.mark.parametrize("layout", ["folders", "flat"])
@pytest.mark.parametrize(("split", "seeds"), [("test", "test"), ("dev", "validation")])
def test_the_queries_are_the_requests(imagenet, layout, split, seeds):
    truth = f"benchmark.truth={imagenet[layout]}/LOC_val_solution.csv"
    made = build(flexit(imagenet[layout], f"benchmark.split={split}", truth))
    assert (made.in_folders, len(made)) == (layout == "folders", 12)
    same_requests(made.requests(64), StillLifeClasses(1, seeds).requests(64), WNIDS.get)
    assert all((other.source, other.mask) == (None, None) for other in made.requests(64))


def test_the_table_is_in_flexits_form(imagenet):
    lines = (imagenet["flat"] / "queries.csv").read_text().splitlines()
    assert lines[0] == ",path,source,source_id,target,target_id,is_test"
    assert lines[1] == "apple-0000,n90000001/ILSVRC2012_val_00000001.png,pears,1,apples,0,False"
    assert Counter(line.rpartition(",")[2] for line in lines[1:]) == {"False": 12, "True": 12}
    index = json.loads((imagenet["flat"] / "imagenet_class_index.json").read_text())
    assert [name for _, name in index.values()] == list(FRUITS.values())
    text = flexit(imagenet["flat"], f"benchmark.classes={imagenet['flat']}/LOC_synset_mapping.txt")
    assert build(text).entries == build(flexit(imagenet["flat"])).entries


def test_the_boxes_are_around_the_fruit(imagenet):
    """Most of what another kind of fruit changes lies inside, and little else does."""
    table = pd.read_csv(imagenet["flat"] / "LOC_val_solution.csv", index_col="ImageId")
    assert list(table.index) == [f"ILSVRC2012_val_{i:08d}" for i in range(1, 25)]
    for text, request in zip(table.PredictionString[12:], StillLifeClasses(1).requests(64), strict=True):
        left, top, right, bottom = map(int, text.split()[1:])
        mask = request.mask()[0].numpy()
        inside = mask[top:bottom, left:right]
        assert inside.sum() > 0.7 * mask.sum()
        assert inside.mean() > 0.4


def test_the_entries_are_the_requests_with_their_masks(coco):
    """Exactly one of the three captions of a picture is its source: neither the first, nor one at a fixed place."""
    direct = StillLifeScenes(32)
    made = build(bison(coco, "benchmark.mask_from=changed_words"))
    same_requests(made.requests(64), direct.requests(64))
    for one, other in zip(made.requests(64), direct.requests(64), strict=True):
        assert torch.equal(one.mask(), other.mask())
    captions = json.loads((coco / "captions_val2014.json").read_text())["annotations"]
    assert Counter(Counter(caption["image_id"] for caption in captions).values()) == {3: 64}
    first = build(bison(coco, "benchmark.source=first"))
    assert 5 < sum(a.source == b.source for a, b in zip(first.triples, made.triples, strict=True)) < 20


def test_the_order_of_numbers_and_candidates_does_not_tell_the_true_picture(coco):
    rows = json.loads((coco / "bison_annotations.cocoval2014.json").read_text())["data"]
    for row in rows:
        one, other = (candidate["image_id"] for candidate in row["image_candidates"])
        assert one < other
    assert 8 < sum(row["image_candidates"][0]["image_id"] == row["true_image_id"] for row in rows) < 24


def test_the_reference_of_the_entries_is_the_exact_answers(coco):
    direct = [request.true_edit() for request in StillLifeScenes(32).requests(64)]
    read = [picture for _, picture in build(bison(coco)).reference(99, 64)]
    assert all(torch.equal(one, other) for one, other in zip(read, direct, strict=True))


def test_a_limit_takes_the_same_ids_in_the_same_order(imagenet, coco):
    for overrides, direct in ((flexit(imagenet["flat"]), StillLifeClasses(1)), (bison(coco), StillLifeScenes(32))):
        requests = {request.id: request for request in direct.requests(64)}
        wanted = [requests[name] for name in take_subset(requests, 5, 3)]
        made = build([*overrides, "benchmark.limit=5", "benchmark.seed=3"])
        same_requests(made.requests(64), wanted, lambda label: WNIDS.get(label, ""))


# --------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def backbone():
    """In one thread: two that have to share a core spend nearly all their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield StableDiffusion.from_pretrained("weights/stilllife", device="cpu")
    torch.set_num_threads(threads)


def edit(root, backbone, overrides, editor="diffedit", steps=4):
    """A run by the trained weights: its directory, as `diffedit score` reads it."""
    cheap = ["editor.mask.num_noises=2"] if editor == "diffedit" else []
    cfg = composed(f"editor={editor}", *cheap, *overrides)
    config = {"ratios": RATIOS, "benchmark": OmegaConf.to_container(cfg.benchmark, resolve=True), "seed": 0}
    made, method = (instantiate(cfg[key], _convert_="all") for key in ("benchmark", "editor"))
    run, schedule = RunDirectory(root, config, made.version), backbone.schedule(steps)
    requests = {request.id: request for request in run.find_pending(made.requests(64))}
    programs = [(name, method(request, RATIOS, schedule, RequestNoise(0, name))) for name, request in requests.items()]
    for outcome in Engine(backbone, BatchSizes(4, 2, 4, 4), progress=False).run(programs):
        assert outcome.error is None, outcome.error
        run.write_outcome(requests[outcome.id], outcome)
    run.close()
    return root


def hashes(root):
    """Of every edit, mask and map, by its path in the run."""
    paths = sorted(path for path in root.rglob("*.[pn][np][gy]") if path.relative_to(root).parts[0] in KINDS)
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, backbone, imagenet):
    """DiffEdit on the twelve test queries: without files, from folders, and on a part of them, flat."""
    folder = tmp_path_factory.mktemp("runs")
    benchmarks = {
        "direct": ["benchmark=stilllife_classes", "benchmark.per_class=1"],
        "folders": flexit(imagenet["folders"]),
        "flat": flexit(imagenet["flat"], "benchmark.limit=4"),
    }
    return {name: edit(folder / name, backbone, overrides) for name, overrides in benchmarks.items()}


def test_diffedit_on_the_queries_is_the_same_to_the_bit(runs):
    direct, folders, flat = (hashes(runs[name]) for name in ("direct", "folders", "flat"))
    assert len(direct) == 12 * (len(RATIOS) + 2)
    assert folders == direct
    assert len(flat) == 4 * (len(RATIOS) + 2)
    assert flat.items() < direct.items()
    assert len(set(direct.values())) > 40  # pictures and maps all differ; some masks may be alike


@pytest.mark.parametrize("editor", ["diffedit", "diffedit_given"])
def test_edits_of_the_entries_are_the_same_to_the_bit(tmp_path, backbone, editor):
    """Masks found and masks given: those of the changed words."""
    direct = edit(tmp_path / "direct", backbone, ["benchmark=stilllife_scenes", "benchmark.size=2"], editor)
    files = write_files(tmp_path / "files", CocoFiles(StillLifeScenes(2)))
    read = edit(tmp_path / "read", backbone, bison(files, "benchmark.mask_from=changed_words"), editor)
    assert hashes(read) == hashes(direct)
    assert len(hashes(read)) == 2 * (len(RATIOS) + 1 + (editor == "diffedit"))
    masks = [np.asarray(Image.open(path)) for path in (read / "masks").iterdir()]
    assert all(0 < mask.mean() < 255 for mask in masks)


def statistics(folder, overrides):
    """What `diffedit reference-stats` makes of 96 pictures."""
    cfg = composed("resolution=64", "held=1", *overrides, name="reference_stats", backbone=False)
    extractor = StillLifeExtractor(WEIGHTS, device="cpu")
    reference = compute_reference(extractor, reference_stats.iterate_images(cfg), "test", 64)
    write(folder / f"{extractor.hash}.safetensors", reference.to_bytes())
    return reference


def test_scores_are_the_same(runs, imagenet, tmp_path):
    """LPIPS and CLIP score of every image to the bit; the statistics too. CSFID adds its classes in another order."""
    direct = statistics(tmp_path / "direct", ["benchmark=stilllife_classes", "size=120"])
    files = statistics(tmp_path / "folders", [f"folder={imagenet['folders']}/train"])
    assert (files.n, files.class_n) == (direct.n, {WNIDS[kind]: 9 for kind in FRUITS})
    assert np.array_equal(files.mean, direct.mean)
    assert np.array_equal(files.cov, direct.cov)
    assert all(np.array_equal(files.class_mean[WNIDS[kind]], direct.class_mean[kind]) for kind in FRUITS)
    assert np.array_equal(files.held_out, direct.held_out)

    index = str(imagenet["folders"] / "imagenet_class_index.json")
    metrics = {
        "lpips": Lpips(load(WEIGHTS, "cpu")),
        "clip_score": ClipScore(OpenClip(device="cpu")),
        "csfid": SetDistance(Csfid(), StillLifeExtractor(WEIGHTS, device="cpu")),
    }
    classes = {"direct": None, "folders": index}
    tables, values, verdicts = {}, {}, {}
    for name in ("direct", "folders"):
        metrics["accuracy"] = EditAccuracy(StillLifeExtractor(WEIGHTS, "logits", "cpu", classes[name]))
        score(runs[name], metrics, Settings(tmp_path / "cache", tmp_path / name, resamples=10))
        scores = {key: json.loads((runs[name] / f"scores/{key}.json").read_text()) for key in metrics}
        verdicts[name] = scores.pop("accuracy")
        values[name] = {key: [row["value"] for row in part["rows"] + part["copy"]] for key, part in scores.items()}
        parts = [pd.read_parquet(runs[name] / f"scores/{key}.parquet") for key in ("lpips", "clip_score")]
        tables[name] = [part.drop(columns="label") for part in parts]
    for one, other in zip(tables["direct"], tables["folders"], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    accuracy = [[row["value"] for row in part["rows"] if row["metric"] == "accuracy"] for part in verdicts.values()]
    assert accuracy[0] == accuracy[1]
    assert len(accuracy[0]) == len(RATIOS)
    assert values["direct"]["lpips"] == values["folders"]["lpips"]
    assert values["direct"]["clip_score"] == values["folders"]["clip_score"]
    distances = [np.array(values[name]["csfid"], dtype=float) for name in ("direct", "folders")]
    assert np.isfinite(distances[0]).sum() >= 3  # raw; of a single image a class, nothing can be debiased
    np.testing.assert_allclose(*distances, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------ commands


def test_the_commands_from_end_to_end(tmp_path):
    """Export, check, run without and with the files; then one of these is gone."""
    size = ["--per-class", "1", "--train", "12", "--scenes", "2"]
    done = call("export_stilllife.py", tmp_path / "files", *size)
    assert done.returncode == 0, said(done)
    assert f"{tmp_path}/files/imagenet: 40 files" in done.stdout
    files = bison(tmp_path / "files/coco", "benchmark.mask_from=changed_words")
    settings = ["steps=4", f"ratios={RATIOS}", f"runs={tmp_path}/runs", "editor.mask.num_noises=2", "name=x"]
    settings += ["engine.batch.predict=4"]
    for benchmark in (["benchmark.size=2"], files):
        done = call("run.py", *settings, *benchmark)
        assert done.returncode == 0, said(done)
    direct, read = (hashes(tmp_path / f"runs/{name}/stilllife/diffedit/x") for name in ("stilllife_scenes", "coco"))
    assert read == direct
    assert len(read) == 2 * (len(RATIOS) + 2)

    done = call("check_benchmark.py", *files)
    assert done.returncode == 0, said(done)
    assert "2 pictures: 2 found, 0 missing, 0 unreadable" in done.stdout
    assert "2 masks: 2 found, 0 missing, 0 unreadable" in done.stdout
    (tmp_path / "files/imagenet/val/n90000001/ILSVRC2012_val_00000001.png").unlink()
    done = call("check_benchmark.py", *flexit(tmp_path / "files/imagenet", "benchmark.split=dev"))
    assert done.returncode == 1
    assert "12 pictures: 11 found, 1 missing, 0 unreadable" in done.stdout


def export(monkeypatch, *arguments):
    """The command, in this process."""
    monkeypatch.setattr(sys, "argv", ["export_stilllife.py", *map(str, arguments)])
    export_stilllife.main()


def test_an_export_goes_on_and_nothing_else_is_written_over(tmp_path, monkeypatch, capsys):
    size = ["--per-class", 1, "--train", 1, "--scenes", 1]
    export(monkeypatch, tmp_path / "files", *size, "--flat")
    before = {path: path.read_bytes() for path in (tmp_path / "files").rglob("*.*") if path.is_file()}
    assert len(before) == 24 + 1 + 4 + 2 + 3 + 1
    assert len(list((tmp_path / "files/imagenet/val").glob("*.png"))) == 24
    next((tmp_path / "files/imagenet/val").iterdir()).unlink()
    export(monkeypatch, tmp_path / "files", *size, "--flat")
    assert before == {path: path.read_bytes() for path in before}

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.png").write_text("")
    for arguments, fault in (
        ([tmp_path / "files", *size], "files holds another export"),
        ([tmp_path / "mine", *size], "mine holds something else"),
        ([tmp_path / "mine/photo.png"], "photo.png holds something else"),
        ([tmp_path / "new", "--train", 0], "--train: at least 1 is wanted"),
    ):
        with pytest.raises(SystemExit):
            export(monkeypatch, *arguments)
        assert fault in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["photo.png"]
