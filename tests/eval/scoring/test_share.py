"""Runs that are measured by shares: the scores are those of one process, and nothing is measured twice."""

import json
import logging
import shutil

import pytest
import torch
from helpers import edit_benchmark, lose_record, unpack_records

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.io.cache import CACHES
from diffedit.runs.cut import Share
from diffedit.testing import TinyPipeline
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.functional.frechet import Fid
from eval.metrics.ground_truth import CounterfactualError, MaskIou
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.scoring import parts
from eval.scoring.files import get_inputs_path, get_parts_path
from eval.scoring.score import Settings, score, score_runs
from eval.scoring.share import measure_runs
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor, load
from eval.stilllife.train.features import FeaturesPart

COUNT = 11  # requests; parts of 4


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """(a run, metrics) with random weights."""
    folder = tmp_path_factory.mktemp("edited")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "features")
    tiny = TinyPipeline(latent=16, tokens=77).write(folder / "tiny")
    backbone = StableDiffusion.from_pretrained(str(tiny), device="cpu")
    edit_benchmark(folder / "run", StillLifeScenes(size=COUNT), DiffEdit(), backbone, [0.5, 1.0], 4)
    weights = str(folder / "features")
    metrics = {
        "lpips": Lpips(load(weights, "cpu")),
        "mask_iou": MaskIou(),
        "counterfactual": CounterfactualError(load(weights, "cpu")),
        "accuracy": EditAccuracy(StillLifeExtractor(weights, "logits", "cpu")),
        "fid": SetDistance(Fid(), StillLifeExtractor(weights, device="cpu"), 16),
    }
    return folder / "run", metrics


@pytest.fixture
def run(edited, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SMALLEST", 4)
    shutil.copytree(edited[0], tmp_path / "run")
    return tmp_path / "run", edited[1]


def settings(folder):
    return Settings(folder / "cache", resamples=20, batch=2)


def read_scores(root):
    """Every file of scores, but for what says when and where."""
    found = {path.name: path.read_bytes() for path in (root / "scores").iterdir()}
    for name in [name for name in found if name.endswith(".json") and name != "inputs.json"]:
        content = json.loads(found[name])
        content.pop("environment")
        found[name] = content
    return found


@pytest.fixture(scope="module")
def whole(edited, tmp_path_factory):
    """The scores by one process, in one go."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(edited[0], folder / "run")
    score(folder / "run", edited[1], settings(folder))
    return read_scores(folder / "run")


@pytest.fixture
def asked(monkeypatch):
    """How many pictures the pictures' metrics, and the feature store, have asked networks about."""
    counts = {"pictures": 0, "features": 0}
    layers, features = Lpips.per_image, StillLifeExtractor.features

    def count_pictures(self, batch):
        counts["pictures"] += len(batch.requests)
        return layers(self, batch)

    def count_features(self, prepared):
        counts["features"] += 1
        return features(self, prepared)

    monkeypatch.setattr(Lpips, "per_image", count_pictures)
    monkeypatch.setattr(StillLifeExtractor, "features", count_features)
    return counts


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shares_give_the_scores_of_one_process(run, whole, tmp_path, asked, count):
    root, metrics = run
    for k in range(count):
        assert measure_runs([root], metrics, settings(tmp_path), Share(k, count)) == [root]
    assert parts.count_measured(root) == parts.count_parts(root, 2) == 3
    assert asked["pictures"] == 3 * COUNT  # two ratios, and the inputs
    assert not list((root / "scores").glob("*.*"))
    asked.update(pictures=0)
    before = asked["features"]
    score(root, metrics, settings(tmp_path))
    assert asked["pictures"] == 0
    assert asked["features"] - before == 8 + 6  # real pictures alone, two a call: 16 to compare with, 11 for the floor
    assert read_scores(root) == whole
    assert not get_parts_path(root).exists()


def test_what_no_share_measured_is_measured_with_the_scores(run, whole, tmp_path, asked, caplog):
    root, metrics = run
    measure_runs([root], metrics, settings(tmp_path), Share(1, 3))
    asked.update(pictures=0)
    with caplog.at_level(logging.INFO, "score"):
        score(root, metrics, settings(tmp_path))
    assert asked["pictures"] == 3 * (COUNT - 4)
    assert "1 of 3 parts were measured ahead" in caplog.text
    assert read_scores(root) == whole


def test_a_share_that_is_killed_goes_on_at_the_next_part(run, tmp_path, asked, monkeypatch):
    root, metrics = run
    per_image, calls = CounterfactualError.per_image, []

    def fails(self, batch):
        calls.append(batch)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return per_image(self, batch)

    monkeypatch.setattr(CounterfactualError, "per_image", fails)
    with pytest.raises(KeyboardInterrupt):
        measure_runs([root], metrics, settings(tmp_path), Share())
    assert parts.count_measured(root) == 1
    monkeypatch.setattr(CounterfactualError, "per_image", per_image)
    asked.update(pictures=0)
    measure_runs([root], metrics, settings(tmp_path), Share())
    assert asked["pictures"] == 3 * (COUNT - 4)
    assert parts.count_measured(root) == 3


def test_scores_that_are_there_are_not_measured_again(run, tmp_path, asked):
    root, metrics = run
    score(root, metrics, settings(tmp_path))
    scored, before = read_scores(root), dict(asked)
    measure_runs([root], metrics, settings(tmp_path), Share())
    assert asked == before
    score(root, metrics, settings(tmp_path))
    assert read_scores(root) == scored


def test_a_part_that_misses_edits_is_named_and_the_others_are_measured(run, tmp_path, caplog):
    root, metrics = run
    unpack_records(root)
    lost = sorted((root / "records").glob("*.json"))[5]
    lose_record(root, lost.stem)
    assert measure_runs([root], metrics, settings(tmp_path), Share()) == [root]
    assert f"part 1 is not measured: {root}: 1 of 4 requests have no edits" in caplog.text
    assert lost.stem in caplog.text
    assert parts.count_measured(root) == 2
    assert score_runs([root], metrics, settings(tmp_path)) == []
    assert "1 of 11 requests have no edits" in caplog.text


def test_a_run_that_cannot_be_measured_leaves_the_others(run, tmp_path, caplog, monkeypatch):
    root, metrics = run
    assert measure_runs([tmp_path / "none", root], metrics, settings(tmp_path), Share()) == [root]
    assert f"{tmp_path / 'none'}: not measured" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"PAR1 nothing", None])
def test_a_damaged_part_is_measured_again(run, whole, tmp_path, damage, caplog):
    root, metrics = run
    measure_runs([root], metrics, settings(tmp_path), Share())
    for path in (get_parts_path(root) / "lpips/000001.parquet", get_inputs_path(root, 2)):
        path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    score(root, metrics, settings(tmp_path))
    assert "000001.parquet" in caplog.text
    assert read_scores(root) == whole


def test_parts_of_other_edits_are_not_taken(run, tmp_path):
    """Pictures that were made anew since, as after a run that was begun again."""
    root, metrics = run
    measure_runs([root], metrics, settings(tmp_path), Share())
    kept = {path: path.read_bytes() for path in get_parts_path(root).rglob("*") if path.is_file()}
    score(root, metrics, settings(tmp_path))
    scored = read_scores(root)
    for path, data in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    unpack_records(root)
    path = sorted((root / "records").glob("*.json"))[0]
    record = json.loads(path.read_text())
    record["seconds"] += 1
    path.write_text(json.dumps(record))
    assert set(score(root, metrics, settings(tmp_path))) == set(metrics)
    assert {name for name, content in read_scores(root).items() if content != scored[name]} == {
        f"{name}.json" for name in metrics
    }


def test_features_do_not_depend_on_what_is_asked_beside(edited):
    extractor = edited[1]["fid"].extractor
    torch.manual_seed(0)
    prepared = torch.stack([extractor.prepare((torch.rand(3, 64, 64) * 255).to(torch.uint8)) for _ in range(8)])
    alone = torch.cat([extractor.features(torch.cat([row[None], prepared[1:]]))[:1] for row in prepared])
    assert torch.equal(alone, extractor.features(prepared))


def test_no_picture_is_kept_once_its_batch_is_measured(run, tmp_path):
    root, metrics = run
    score(root, metrics, settings(tmp_path))
    assert CACHES
    assert not any(cache.entries for cache in CACHES)


def test_numbers_of_parts_are_whole_batches():
    assert [parts.count_requests(batch) for batch in (1, 16, 50, 64, 100)] == [64, 64, 100, 64, 100]
