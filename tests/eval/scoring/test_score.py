"""Scores lie beside their run, are never computed twice, and refuse a run that is not whole."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import edit_benchmark, unpack_records
from omegaconf import OmegaConf
from PIL import Image

from baselines.bounds import Copy, Oracle, RoundTrip
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.sampling.noise import RequestNoise
from diffedit.testing import TinyPipeline
from diffedit.types import UNEDITED, EditRequest, Variant
from eval.benchmarks.base import BaseBenchmark
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.functional.csfid import Csfid
from eval.metrics.functional.frechet import Fid
from eval.metrics.ground_truth import CounterfactualError, MaskIou
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import NotComparableError, check_comparable, collect
from eval.reporting.curves import draw_curves
from eval.reporting.figures import save_figure
from eval.reporting.tables import build_table, pivot_scores
from eval.scoring.features import FeatureStore
from eval.scoring.files import FORMAT, find_outdated, read_run_scores, write_run_scores
from eval.scoring.finished_run import FinishedRun, IncompleteRunError, read_picture
from eval.scoring.per_image import read_pseudo_values
from eval.scoring.run_features import RunFeatures
from eval.scoring.score import Settings, find_runs, name_benchmark, name_requests, score, score_runs
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor, load
from eval.stilllife.train.features import FeaturesPart

EDITORS = {"diffedit": DiffEdit(), "copy": Copy(), "round_trip": RoundTrip(), "oracle": Oracle()}
HALF, FULL = Variant(0.5), Variant(1.0)


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """(runs of four editors, metrics, cache) with random weights."""
    folder = tmp_path_factory.mktemp("edited")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "features")
    backbone = StableDiffusion.from_pretrained(
        str(TinyPipeline(latent=16, tokens=77).write(folder / "tiny")), device="cpu"
    )
    for name, editor in EDITORS.items():
        root = folder / "runs/stilllife_scenes/tiny" / name / "default"
        edit_benchmark(root, StillLifeScenes(size=8), editor, backbone, [0.5, 1.0], 4)
    weights = str(folder / "features")
    metrics = {
        "lpips": Lpips(load(weights, "cpu")),
        "accuracy": EditAccuracy(StillLifeExtractor(weights, "logits", "cpu")),
        "mask_iou": MaskIou(),
        "counterfactual": CounterfactualError(load(weights, "cpu")),
        "fid": SetDistance(Fid(), StillLifeExtractor(weights, device="cpu"), 16),
        "csfid": SetDistance(Csfid(), StillLifeExtractor(weights, device="cpu"), 16),
    }
    return folder / "runs", metrics, folder / "cache"


def settings(cache, resamples=100, **more):
    return Settings(cache, resamples=resamples, **more)


@pytest.fixture
def runs(edited, tmp_path):
    """A copy of them, scored; then their records are put as they lie before the end of a shard, to be changed."""
    source, metrics, cache = edited
    shutil.copytree(source, tmp_path / "runs")
    roots = find_runs(str(tmp_path / "runs/*/*/*/*"))
    for root in roots:
        assert score(root, metrics, settings(cache)) == list(metrics)
        unpack_records(root)
    return roots, metrics, cache


def test_floor_and_ceiling(runs):
    table = pivot_scores(collect(runs[0])).set_index("method")
    assert list(dict.fromkeys(table.index)) == ["real", "copy", "round_trip", "oracle", "diffedit"]
    assert table.index.value_counts()["copy"] == table.index.value_counts()["oracle"] == 1
    assert table.index.value_counts()["diffedit"] == 2
    assert table.loc["copy", "lpips"] == 0
    assert table.loc["oracle", "cf_lpips"] == 0
    assert table.loc["oracle", "cf_psnr"] == 100
    assert table.loc["oracle", "lpips"] == pytest.approx(table.loc["copy", "cf_lpips"])
    assert table.loc["round_trip", "lpips"] > 0
    assert np.isnan(table.loc["copy", "mask_iou"])
    assert table.loc["diffedit", "mask_iou"].nunique() == 1
    assert (collect(runs[0]).n == 8).all()
    assert table.loc["real", "fid"] > 0
    assert np.isnan(table.loc["real", "lpips"])


def test_the_unedited_inputs_stand_in_every_table(runs):
    """They are scored with each run, and equal to the bit to a run of editor copy, which takes their place."""
    copied = collect([root for root in runs[0] if root.parts[-2] == "copy"])
    alone = collect([root for root in runs[0] if root.parts[-2] == "diffedit"])
    computed = alone[alone.editor == "copy"].set_index("metric")
    assert set(computed.run) == {""}
    ran = copied[(copied.run != "") & (copied.strength == 0.5)].set_index("metric")
    for metric in ("lpips", "accuracy", "cf_psnr", "fid"):
        assert computed.value[metric] == ran.value[metric]
        assert computed.low[metric] == ran.low[metric]
    assert "" not in set(copied[copied.editor == "copy"].run)


def test_scores_are_those_of_the_pictures_on_disk(runs):
    """LPIPS by hand, from the files."""
    metrics, (root,) = runs[1], [root for root in runs[0] if root.parts[-2] == "diffedit"]
    run = FinishedRun(root)
    distance = metrics["lpips"].distance
    values = []
    for batches in run.batches(3):
        with torch.no_grad():
            values += distance(batches[FULL].inputs, batches[FULL].edits).tolist()
    measured = read_pseudo_values(root, "lpips")
    assert measured[1.0].to_numpy() == pytest.approx(values)  # ids are sorted, and so is the benchmark
    scores = collect([root])
    row = scores[(scores.metric == "lpips") & (scores.strength == 1)].iloc[0]
    assert row.value == pytest.approx(np.mean(values))
    assert row.low < row.value < row.high
    with pytest.raises(KeyError, match="nothing measured brightness"):
        read_pseudo_values(root, "brightness")


class Blur:
    """A network without weights, of pictures of any resolution."""

    hash, heads, smallest, domain = "blur", None, 8, "anything"

    def layers(self, images):
        return [images, F.avg_pool2d(images, 4)]


def test_pictures_may_be_measured_at_another_resolution(runs):
    """Edits, inputs, masks and true edits are brought to it; such scores are not put beside others."""
    metrics, roots, cache = runs[1], [root for root in runs[0] if root.parts[-2] in ("diffedit", "copy")], runs[2]
    root = next(root for root in roots if root.parts[-2] == "diffedit")
    some = {"lpips": Lpips(Blur()), "mask_iou": metrics["mask_iou"], "counterfactual": CounterfactualError(Blur())}
    for path in roots:
        score(path, some, settings(cache))
    before = read_values(root)
    assert score(root, some, settings(cache, resolution=64)) == []  # their own
    assert set(read_run_scores(root, list(some)).made_by.str.rpartition("-")[2]) == {"side64"}  # 64 never meets 512
    assert score(root, some, settings(cache, resolution=32)) == list(some)
    assert score(root, some, settings(cache, resolution=32)) == []
    by_hand = []
    for request in StillLifeScenes(size=8).requests(64):
        edit = read_picture(root / f"images/1/{request.id}.png")
        both = [
            F.interpolate(x[None], (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
            for x in (request.image(), edit)
        ]
        by_hand.append(some["lpips"].distance(*both).item())
    assert read_values(root)[1.0, "lpips"] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert read_values(root)[1.0, "lpips"] != pytest.approx(before[1.0, "lpips"], rel=1e-3)
    assert read_values(root)[1.0, "mask_iou"] == pytest.approx(before[1.0, "mask_iou"], abs=0.1)
    with pytest.raises(NotComparableError, match="lpips was measured in different ways"):
        check_comparable(collect(roots, ["lpips"]))
    assert score(root, some, settings(cache)) == list(some)
    assert read_values(root) == before
    with pytest.raises(ValueError, match="resolution = 0: pixels are wanted"):
        settings(cache, resolution=0)


def test_a_setting_that_came_later_and_is_not_used_makes_no_other_set(runs):
    run = FinishedRun(runs[0][0])
    name = name_requests(run)
    run.config["benchmark"]["range"] = None
    assert name_requests(run) == name
    run.config["benchmark"]["range"] = [0, 8]
    assert name_requests(run) != name


def test_features_are_of_the_resolution_that_is_measured(runs, tmp_path):
    root = next(root for root in runs[0] if root.parts[-2] == "diffedit")
    store = FeatureStore(tmp_path)
    both = [RunFeatures(FinishedRun(root, resolution), store) for resolution in (None, 32)]
    native, small = (features.items("edits", FULL)[0] for features in both)
    assert (native.load().shape, small.load().shape) == ((3, 64, 64), (3, 32, 32))
    assert small.key == f"{native.key}-32"
    native, small = (features.items("inputs", UNEDITED)[0] for features in both)
    assert (native.load().shape, small.load().shape) == ((3, 64, 64), (3, 32, 32))
    assert small.key != native.key


def test_nothing_is_scored_twice_and_a_changed_edit_is_scored_again(runs):
    roots, metrics, cache = runs
    root = next(root for root in roots if root.parts[-2] == "diffedit")
    before = {path: path.stat().st_mtime_ns for path in (root / "scores").iterdir()}
    assert score(root, metrics, settings(cache)) == []
    assert before == {path: path.stat().st_mtime_ns for path in (root / "scores").iterdir()}
    assert score(root, metrics, settings(cache, 50)) == list(metrics)
    (root / "scores/lpips.json").unlink()
    assert score(root, metrics, settings(cache, 50)) == ["lpips"]
    path = next((root / "records").iterdir())
    record = json.loads(path.read_text())
    edit = root / record["edits"][0]["file"]
    Image.new("RGB", (64, 64), "red").save(edit)
    with pytest.raises(OSError, match=f"{edit.name}: truncated or changed after the run wrote it"):
        FinishedRun(root).load_edit(record["edits"][0])
    write_record(root, edit)
    assert score(root, metrics, settings(cache, 50)) == list(metrics)


def read_values(root):
    """The values of a run by (strength, metric)."""
    scores = read_run_scores(root)
    return scores[scores.run != ""].set_index(["strength", "metric"]).value.to_dict()


def test_other_resamples_and_a_new_metric_touch_no_picture(runs, monkeypatch):
    roots, metrics, cache = runs
    root = next(root for root in roots if root.parts[-2] == "diffedit")
    before = read_values(root)

    def refuse(*args):
        raise AssertionError("a picture was opened")

    monkeypatch.setattr("eval.scoring.finished_run.read_picture", refuse)
    monkeypatch.setattr("eval.stilllife.modules.FeatureModule.forward", refuse)
    assert score(root, metrics, settings(cache, 77)) == list(metrics)
    assert before == pytest.approx(read_values(root))
    fid2 = {"fid2": SetDistance(Fid(), metrics["fid"].extractor, 12)}
    monkeypatch.undo()
    monkeypatch.setattr("eval.scoring.finished_run.read_picture", refuse)
    assert score(root, metrics | fid2, settings(cache, 77)) == ["fid2"]


def test_a_damaged_score_is_computed_again_and_named_until_then(runs):
    roots, metrics, cache = runs
    (roots[0] / "scores/lpips.json").write_text('{"key": "cut')
    with pytest.raises(OSError, match=r"scores/lpips\.json: damaged"):
        collect(roots)
    (roots[0] / "scores/fid.parquet").unlink()
    assert score(roots[0], metrics, settings(cache)) == ["lpips", "fid"]
    assert not collect(roots).empty


def test_merged_tables_follow_a_score_that_was_interrupted(runs):
    """As a kill leaves it between the score of a metric and the tables of the run."""
    root, metrics = runs[0][0], {"lpips": runs[1]["lpips"]}
    assert score_runs([root], metrics, settings(runs[2])) == [root]
    scores = json.loads((root / "scores/fid.json").read_text())
    scores["rows"][0]["value"] += 1
    (root / "scores/fid.json").write_text(json.dumps(scores))
    assert find_outdated(root) == [root / "scores.parquet", root / "metrics.json"]
    assert score_runs([root], metrics, settings(runs[2])) == [root]
    assert not find_outdated(root)
    assert set(pd.read_parquet(root / "scores.parquet").metric) >= {"lpips", "fid"}


def test_another_mask_of_the_method_is_another_score(runs):
    """As a run leaves it that was edited again; one that only lies there is refused."""
    roots, metrics, cache = runs
    root = next(root for root in roots if root.parts[-2] == "diffedit")
    mask = next((root / "masks").iterdir())
    before = read_pseudo_values(root, "mask_iou")
    Image.new("L", (64, 64), 255).save(mask)
    with pytest.raises(IncompleteRunError, match=rf"{mask.name} has [\d,]+ bytes of"):
        score(root, metrics, settings(cache))
    write_record(root, mask)
    assert "mask_iou" in score(root, metrics, settings(cache))
    assert not before.equals(read_pseudo_values(root, "mask_iou"))


def write_record(root, file):
    """Note the content of a file in its record, as the run does that writes it."""
    path = root / "records" / f"{file.stem}.json"
    record, name = json.loads(path.read_text()), file.relative_to(root).as_posix()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    record["files"][name] = {"size": file.stat().st_size, "sha256": sha256}
    for edit in record["edits"]:
        edit["sha256"] = sha256 if edit["file"] == name else edit["sha256"]
    path.write_text(json.dumps(record))


def test_runs_of_other_requests_have_another_set(edited, tmp_path):
    """Also where the benchmark's config is the same: a table may have been edited in between."""
    run = FinishedRun(find_runs(str(edited[0] / "*/*/copy/*"))[0])
    before = name_requests(run), name_benchmark(run)
    run.requests[0] = replace(run.requests[0], origin="another picture")
    assert name_requests(run) != before[0]
    assert name_benchmark(run) == before[1]  # the reference is the same


def test_copies_stay_for_metrics_that_a_run_of_copy_was_not_scored_by(runs):
    scores = [root / "scores/fid.json" for root in runs[0] if root.parts[-2] == "copy"]
    scores[0].unlink()
    copies = collect(runs[0]).query("editor == 'copy'")
    assert set(copies[copies.run == ""].metric) == {"fid"}
    assert "lpips" in set(copies[copies.run != ""].metric)


def test_an_edit_of_another_size_is_named(runs, tmp_path):
    roots, metrics, _ = runs
    path = next((roots[0] / "records").iterdir())
    record = json.loads(path.read_text())
    edit = roots[0] / record["edits"][1]["file"]
    Image.new("RGB", (32, 32)).save(edit)
    write_record(roots[0], edit)
    with pytest.raises(OSError, match=rf"{edit.name}: \(32, 32\) pixels, and other edits have 64"):
        score(roots[0], {"lpips": metrics["lpips"]}, settings(tmp_path))


def test_a_run_has_its_scores_in_one_table_and_one_file(runs):
    root = next(root for root in runs[0] if root.parts[-2] == "diffedit")
    write_run_scores(root)
    table, summary = pd.read_parquet(root / "scores.parquet"), json.loads((root / "metrics.json").read_text())
    scores = table[table.run != ""]
    assert len(scores[scores.metric == "lpips"]) == 2
    assert {"variant", "strength", "metric", "value", "low", "high", "n", "made_by", "version"} <= set(table)
    assert summary["n"] == summary["expected"] == 8
    assert summary["metrics"]["csfid"]["undefined"] == "the benchmark has no target classes"
    row = next(row for row in summary["metrics"]["lpips"]["rows"] if row["variant"] == "ratio=1.0")
    assert row["value"] == scores[(scores.metric == "lpips") & (scores.strength == 1)].value.item()
    assert summary["environment"]["packages"]["torch"]
    value = scores[(scores.metric == "fid") & (scores.strength == 1)].value.item()
    assert read_pseudo_values(root, "fid")[1.0].mean() == pytest.approx(value)


def test_runs_of_other_requests_or_networks_are_not_compared(runs):
    scores = collect(runs[0])
    assert check_comparable(scores) is scores
    for column, value, fault in (
        ("n", 9, "different n are not compared"),
        ("version", "2", "different versions of the benchmark are not compared"),
        ("set", "other", "different settings of the benchmark are not compared"),
    ):
        other = scores[scores.editor == "diffedit"].assign(**{column: value}, run="elsewhere")
        with pytest.raises(NotComparableError, match=rf"stilllife_scenes: runs of {fault}.*(\n.*)*elsewhere"):
            check_comparable(pd.concat([scores, other]))
    other = scores[(scores.editor == "diffedit") & (scores.metric == "fid")].assign(made_by="fid-9", run="elsewhere")
    with pytest.raises(NotComparableError, match=r"fid was measured in different ways(.*\n)*.*fid-9: elsewhere"):
        check_comparable(pd.concat([scores, other]))
    with pytest.raises(NotComparableError):
        draw_curves(pd.concat([scores, other.assign(metric="lpips")]), "lpips", "accuracy")


def test_an_undefined_metric_says_why(runs):
    root = next(root for root in runs[0] if root.parts[-2] == "copy")
    scores = json.loads((root / "scores/mask_iou.json").read_text())
    assert scores["undefined"] == "the method has no mask"
    assert scores["rows"] == []


def test_an_incomplete_run_is_refused_by_name(runs):
    roots, metrics, cache = runs
    root = roots[0]
    path = sorted((root / "records").iterdir())[2]
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"status": "failed", "error": "OSError: broken"}))
    with pytest.raises(
        IncompleteRunError, match=rf"1 of 8 requests have no edits.*\n  {record['id']}: OSError: broken"
    ):
        score(root, metrics, settings(cache))
    path.unlink()
    with pytest.raises(IncompleteRunError, match=f"{record['id']}: not run yet"):
        score(root, metrics, settings(cache))


def test_a_run_of_another_version_and_no_run_are_refused(runs, tmp_path):
    root = runs[0][0]
    config = (root / "config.yaml").read_text()
    (root / "config.yaml").write_text(config.replace("benchmark_version: '1'", "benchmark_version: '0'"))
    with pytest.raises(ValueError, match="version 0 of its benchmark, which now has 1"):
        FinishedRun(root)
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml"):
        FinishedRun(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run directory there"):
        find_runs(str(tmp_path / "nothing/*"))


def test_a_truncated_edit_and_a_missing_one_are_named(runs, tmp_path):
    roots, metrics, cache = runs
    root = roots[0]
    path = sorted((root / "images/1").iterdir())[0]
    path.write_bytes(path.read_bytes()[:200])
    shutil.rmtree(root / "scores")
    for name in ("lpips", "fid"):
        with pytest.raises(IncompleteRunError, match=rf"{path.name} has 200 bytes of"):
            score(root, {name: metrics[name]}, settings(tmp_path / "cache", 10))
    path.unlink()
    with pytest.raises(IncompleteRunError, match=rf"start the run again:\n  images/1/{path.name} is gone"):
        score(root, metrics, settings(cache))


def test_plots_and_tables(runs, tmp_path):
    scores = collect(runs[0])
    paths = save_figure(draw_curves(scores, "lpips", "accuracy", "a title"), tmp_path / "plots/one")
    assert [path.suffix for path in paths] == [".png", ".pdf", ".svg"]
    assert paths[0].stat().st_size > 10_000
    svg = paths[2].read_text()
    assert "diffedit" in svg
    assert "round_trip" in svg
    with pytest.raises(KeyError, match="beauty was not scored; there are accuracy, both, cf_lpips"):
        draw_curves(scores, "lpips", "beauty")
    known = scores[scores.editor != "oracle"]  # beside which a distance that sees no edit is not shown
    assert build_table(known, "title", width=400).table.row_count == 5
    narrow = build_table(known, "title")
    assert narrow.table.row_count == 4  # real pictures have a distance alone, and there is no room for its column
    assert "without any of these: real" in narrow.notes
    blind = build_table(scores, "title", width=400)
    assert blind.table.row_count == 5
    assert any("does not tell copy" in note for note in blind.notes)
    shown = build_table(scores, "title", ["lpips", "csfid"])
    assert [str(column.header) for column in shown.table.columns] == ["method", "ratio", "lpips ↓"]


def test_two_runs_of_an_editor_are_told_apart(runs):
    scores = collect(runs[0])
    other = scores[scores.editor.isin(("diffedit", "copy"))].assign(name="editor.guidance=3", run="other")
    methods = pivot_scores(pd.concat([scores, other])).method
    assert list(dict.fromkeys(methods[:5])) == [
        "real", "copy (default)", "copy (editor.guidance=3)", "round_trip", "oracle",
    ]  # fmt: skip
    assert set(methods[5:]) == {"diffedit (default)", "diffedit (editor.guidance=3)"}
    elsewhere = scores[scores.editor == "diffedit"].assign(run="elsewhere")
    methods = set(pivot_scores(pd.concat([scores, elsewhere])).method)
    assert {name for name in methods if "diffedit" in name} == {
        "diffedit (elsewhere)", f"diffedit ({scores[scores.editor == 'diffedit'].run.iloc[0]})",
    }  # fmt: skip
    assert draw_curves(pd.concat([scores, other, elsewhere]), "lpips", "accuracy")


def test_a_run_whose_requests_have_changed_is_refused(runs):
    roots, metrics, cache = runs
    path = next((roots[0] / "records").iterdir())
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"target": "something else"}))
    with pytest.raises(ValueError, match=rf"{record['id']} is not what was edited: target: something else -> "):
        score(roots[0], metrics, settings(cache))


def test_scores_of_an_older_release_are_not_read_and_scored_anew(runs):
    roots, metrics, cache = runs
    path = roots[0] / "scores/lpips.json"
    scores = json.loads(path.read_text())
    assert scores.pop("format") == FORMAT
    path.write_text(json.dumps(scores))
    assert "lpips" not in set(read_run_scores(roots[0]).metric)
    assert score(roots[0], metrics, settings(cache)) == ["lpips"]


def test_a_run_of_an_older_release_has_the_same_scores(runs):
    """Its config and records in the names that they had."""
    roots, metrics, cache = runs
    root = next(root for root in roots if root.parts[-2] == "diffedit")
    before = read_values(root)
    config = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
    for key in ("format", "is_bound", "strength_name"):
        del config[key]
    config["benchmark"]["_target_"] = "eval.benchmarks.stilllife.benchmarks.StillLifeScenes"
    OmegaConf.save(config, root / "config.yaml")
    for path in (root / "records").iterdir():
        record = json.loads(path.read_text())
        record["notes"] = record.pop("metadata")
        for edit in record["edits"]:
            edit["ratio"] = Variant.parse(edit.pop("variant")).strength
        path.write_text(json.dumps(record))
    shutil.rmtree(root / "scores")
    assert score(root, metrics, settings(cache)) == list(metrics)
    assert read_values(root) == before
    assert FinishedRun(root).variants == [HALF, FULL]


@dataclass(frozen=True)
class Folder(BaseBenchmark):
    """Without classes, true edits or reference pictures; only the first request has a mask."""

    count: int

    def __len__(self):
        return self.count

    def requests(self, resolution):
        for i in range(self.count):
            image = torch.full((3, resolution, resolution), i / 10)
            mask = (lambda: torch.ones(1, resolution, resolution)) if i == 0 else None
            yield EditRequest(f"a/{i}", lambda image=image: image, "pears", mask=mask)


@pytest.mark.parametrize("count", [1, 2])
def test_any_benchmark_is_scored_by_what_it_allows(edited, tmp_path, tiny, count):
    _, metrics, cache = edited
    root = tmp_path / "folder/tiny/diffedit/default"
    edit_benchmark(root, Folder(count), DiffEdit(), tiny, [0.5], 2)
    chosen = {name: metrics[name] for name in ("lpips", "accuracy", "mask_iou", "counterfactual", "fid")}
    assert score(root, chosen, settings(cache, 10, batch=1)) == list(chosen)
    reasons = {name: json.loads((root / f"scores/{name}.json").read_text())["undefined"] for name in chosen}
    assert reasons["lpips"] == "the network knows only stilllife; networks=photographs takes others"
    assert reasons["fid"] == "the network knows only stilllife; networks=photographs takes others"
    assert reasons["accuracy"] == "the benchmark has no target classes"
    assert reasons["counterfactual"] == "the benchmark knows no counterfactuals"
    assert reasons["mask_iou"] == (None if count == 1 else "the benchmark has no exact masks")
    assert set(collect([root]).metric) == ({"mask_iou"} if count == 1 else set())


def test_the_oracle_needs_a_counterfactual(analytic):
    program = Oracle()(EditRequest("a", lambda: None, "pear"), [0.5], analytic.schedule(4), RequestNoise(0, "a"))
    with pytest.raises(ValueError, match="request a: the benchmark knows no true edit"):
        next(program)
