"""A run is looked into as it lies on disk: finished, killed in the middle, or partly failed."""

import csv
import doctest
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import edit_benchmark, find_record, unpack_records
from PIL import Image

import diffedit
from baselines.bounds import Copy
from baselines.sdedit import SDEdit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.io.images import to_pil
from diffedit.runs.loop import RunFailedError
from diffedit.testing import TinyPipeline
from eval.benchmarks.folder import FolderBenchmark
from eval.reporting.collect import collect
from eval.reporting.load_run import Run, load_run
from eval.scoring.files import name_place
from eval.scoring.finished_run import FinishedRun, IncompleteRunError
from eval.scoring.folders import load_metrics
from eval.scoring.score import Settings, score_runs
from eval.stilllife.benchmarks import StillLifeScenes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Random weights that take the long texts of Still Life."""
    folder = TinyPipeline(latent=16, tokens=77).write(tmp_path_factory.mktemp("tiny"))
    return StableDiffusion.from_pretrained(str(folder), device="cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """A run of four pictures at two ratios."""
    root = tmp_path_factory.mktemp("runs") / "stilllife_scenes/tiny/diffedit/default"
    return edit_benchmark(root, StillLifeScenes(size=4), DiffEdit(), tiny, [0.5, 1.0], 4)


@pytest.fixture
def root(finished, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, tmp_path / "b/m/diffedit/default")


def write_table(folder, rows):
    """A table of edits, of pictures that are drawn beside it."""
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(("a", "b", "c")):
        Image.new("RGB", (20, 20), (60 * k, 90, 30)).save(folder / f"{name}.png")
    with (folder / "edits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "image", "target"), *((name, f"{name}.png", "a dog") for name in rows)])
    return FolderBenchmark(path=str(folder / "edits.csv"))


def forget(root, id):
    """As if the run had been killed before this request."""
    unpack_records(root)
    (root / f"records/{id}.json").unlink()
    (root / "manifest.parquet").unlink()


# ------------------------------------------------------------------------------------------------------ finished runs


def test_the_table_is_the_manifest_with_the_texts(finished):
    run, scenes = load_run(finished), list(StillLifeScenes(size=4).requests(64))
    assert isinstance(run, Run)
    assert len(run) == 4
    assert run.ids == [scene.id for scene in scenes]
    assert list(run.table.columns[:5]) == ["id", "source", "target", "variant", "strength"]
    assert {"status", "evaluations", "file", "error"} < set(run.table)
    assert list(run.table.target) == [scene.target for scene in scenes for _ in range(2)]
    assert list(run.table.source) == [scene.source for scene in scenes for _ in range(2)]
    assert set(run.table.status) == {"done"}
    assert list(run.table.strength) == [0.5, 1.0] * 4
    assert run.config["ratios"] == [0.5, 1.0]
    assert repr(run) == f"Run('{finished}': 4 done; ratio 0.5, 1; not scored)"


def test_pictures_are_those_on_disk(finished):
    run = load_run(str(finished))
    second = run.ids[1]
    record = find_record(finished, second)
    for ratio, edit in zip((0.5, 1), record["edits"], strict=True):
        assert run.image(second, ratio).tobytes() == Image.open(finished / edit["file"]).tobytes()
    assert run.image(second, 0.5).tobytes() != run.image(second, 1.0).tobytes()
    mask = run.mask(second)
    assert mask.size == run.image(second, 0.5).size
    assert set(np.unique(mask)) <= {0, 255}
    assert run.mask(second, 1.0).tobytes() == mask.tobytes()
    assert np.array_equal(run.contrast_map(second), np.load(finished / record["map"]))
    side = mask.width
    inputs = {scene.id: to_pil(scene.image()) for scene in StillLifeScenes(size=4).requests(side)}
    assert all(run.input(id).tobytes() == inputs[id].tobytes() for id in run.ids)


def test_a_sheet_has_a_row_a_request(finished):
    run = load_run(finished)
    assert run.sheet(count=4).height > run.sheet(count=2).height > run.sheet(count=1).height
    assert run.sheet(count=6).size == run.sheet(count=4).size
    assert run.sheet(count=4).width == run.sheet(count=1).width


def test_a_sheet_shows_the_requests_that_are_named(finished):
    run = load_run(finished)
    first, second, *_ = run.ids
    one, other = run.sheet(first), run.sheet([second])
    assert one.tobytes() != other.tobytes()
    both = run.sheet([second, first])
    assert both.crop((0, 0, both.width, other.height)).tobytes() == other.tobytes()
    assert both.height == run.sheet(count=2).height
    with pytest.raises(KeyError, match=rf"no request '{first}x'; did you mean {first}"):
        run.sheet([second, f"{first}x"])
    for nothing in ({"ids": []}, {"count": 0}):
        with pytest.raises(ValueError, match="a sheet of no requests"):
            run.sheet(**nothing)


def test_scores_are_those_beside_the_run(root, tmp_path):
    run = load_run(root)
    assert run.scores.empty
    assert {"metric", "value", "low", "high", "n"} < set(run.scores)
    score_runs([root], load_metrics(["lpips"], "stilllife"), Settings(tmp_path / "cache", resamples=50))
    assert run.scores.equals(collect([root]))
    assert len(run.scores) == 3
    assert set(run.scores.editor) == {"diffedit", "copy"}
    assert "scored by lpips" in repr(run)


def test_values_are_those_that_the_scores_are_means_of(root, tmp_path):
    run = load_run(root)
    columns = ["id", "label", "variant", "strength", "metric", "name", "value"]
    assert run.values.empty
    assert list(run.values) == columns
    metrics = load_metrics(["lpips", "background", "counterfactual", "fid"], "stilllife")
    metrics["fid"].size = 16
    score_runs([root], metrics, Settings(tmp_path / "cache", resamples=50))
    values = run.values
    assert list(values) == columns
    assert [values[name].dtype for name in ("strength", "value")] == [np.float64, np.float64]
    assert set(values.metric) == {"lpips", "background", "counterfactual"}  # an image has no distance to a set
    assert set(values.id) == set(run.ids)
    means = values.groupby(["name", "variant"]).value.mean()
    assert len(means) > 6
    scores = run.scores[run.scores.metric.isin(values.name)].set_index(["metric", "variant"]).value
    assert len(scores) > 6
    assert scores.to_dict() == pytest.approx(means[scores.index].to_dict())
    copied = values[values.strength.isna() & (values.name == "lpips")]
    assert copied.value.tolist() == [0.0] * 4


def test_a_notebook_shows_the_table(root):
    html = load_run(root)._repr_html_()
    assert "4 done" in html
    assert html.count("<tr") == 9  # a head, and two edits of each of four
    unpack_records(root)
    (root / "records/00000-fruits.json").unlink()
    assert load_run(root)._repr_html_().count("<tr") < 9


def test_a_method_without_masks_has_none(tmp_path, tiny):
    root = edit_benchmark(tmp_path / "b/m/sdedit/default", StillLifeScenes(size=1), SDEdit(), tiny, [0.5], 4)
    run = load_run(root)
    assert run.mask(run.ids[0]) is None
    assert run.contrast_map(run.ids[0]) is None
    assert run.sheet().width == 8 + 3 * (128 + 8)  # input, edit and true edit: no empty places of map and mask


def test_the_place_of_a_short_path_is_named(tmp_path, tiny, monkeypatch):
    """A run may lie at /runs/one, whose path has fewer folders than a place has names."""
    monkeypatch.setattr(Path, "resolve", lambda self: self)
    place = name_place(Path("/runs/one"))
    assert place == {"benchmark": "", "backbone": "/", "editor": "runs", "name": "one"}


# ---------------------------------------------------------------------------------------------------- what is not there


def test_what_is_no_run_directory_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FileNotFoundError, match=rf"{path}: no config.yaml there, so not a run directory"):
            load_run(path)


def test_an_unknown_id_or_ratio_names_the_nearest(finished):
    run = load_run(finished)
    wrong = run.ids[2][:-1] + "x"
    for ask in (lambda id: run.image(id, 0.5), run.input, run.mask, run.contrast_map):
        with pytest.raises(KeyError, match=rf"no request '{wrong}'; did you mean {run.ids[2]}"):
            ask(wrong)
    with pytest.raises(KeyError, match=r"no edit at ratio 0.6; the nearest is 0.5, of 0.5, 1"):
        run.image(run.ids[0], 0.6)


def test_of_an_unfinished_run_there_is_what_is_done(root):
    gone = load_run(root).ids[1]
    forget(root, gone)
    run = load_run(root)
    assert len(run) == 3
    assert gone not in run.ids
    assert gone not in set(run.table.id)
    assert run.image(run.ids[0], 0.5).width == run.input(gone).width
    assert run.sheet(count=6).height == run.sheet(count=3).height > run.sheet(count=2).height
    for ask in (lambda id: run.image(id, 0.5), run.mask, run.contrast_map):
        with pytest.raises(IncompleteRunError, match=rf"{gone} is not done yet; start the run again"):
            ask(gone)


def test_a_damaged_record_is_as_good_as_none(root):
    id = load_run(root).ids[1]
    unpack_records(root)
    (root / f"records/{id}.json").write_bytes(b'{"id": ')
    run = load_run(root)
    assert len(run) == 3
    with pytest.raises(IncompleteRunError, match="start the run again"):
        run.image(id, 0.5)


def test_a_damaged_shard_is_named_and_its_records_are_as_good_as_none(root, caplog):
    (shard,) = root.glob("shards/*.parquet")
    (root / "records").mkdir(exist_ok=True)
    first, second, *_ = load_run(root).ids
    (root / f"records/{second}.json").write_text(json.dumps(find_record(root, second)))
    shard.write_bytes(shard.read_bytes()[:-9])
    run = load_run(root)
    assert f"{shard}: no whole records of a shard" in caplog.text
    assert run.ids == [second]
    assert run.image(second, 0.5)
    with pytest.raises(IncompleteRunError, match=rf"{first} is not done yet; start the run again"):
        run.image(first, 0.5)


def test_a_record_beside_a_shard_counts_before_the_one_in_it(root):
    """As a request leaves it that was edited again after the end of its shard."""
    ids = load_run(root).ids
    (root / "records").mkdir(exist_ok=True)
    record = find_record(root, ids[1]) | {"seconds": 1234.5}
    (root / f"records/{ids[1]}.json").write_text(json.dumps(record))
    run = load_run(root)
    assert run.ids == ids
    assert list(run.table.id[run.table.seconds == 1234.5]) == [ids[1]] * 2
    assert [FinishedRun(root).records[id]["seconds"] == 1234.5 for id in ids] == [False, True, False, False]
    (root / f"records/{ids[1]}.json").write_bytes(b"{")
    assert load_run(root).ids == ids


def test_nothing_done_yet(root):
    ids = load_run(root).ids
    for folder in ("records", "shards", "images"):
        shutil.rmtree(root / folder)
    (root / "manifest.parquet").unlink()
    run = load_run(root)
    assert (len(run), run.ids, len(run.table)) == (0, [], 0)
    assert {"id", "source", "target", "status"} < set(run.table)
    assert "nothing done" in repr(run)
    with pytest.raises(KeyError, match="nothing is done yet"):
        run.image(ids[0], 0.5)


def test_a_failed_request_says_why(tmp_path, tiny):
    benchmark = write_table(tmp_path / "pictures", "abc")
    (tmp_path / "pictures/b.png").write_bytes(b"no picture")
    root = tmp_path / "b/m/copy/default"
    with pytest.raises(RunFailedError):
        edit_benchmark(root, benchmark, Copy(), tiny, [0.5], 4)
    run = load_run(root)
    assert run.ids == ["a", "b", "c"]
    assert list(run.table.status) == ["done", "failed", "done"]
    assert "b.png" in run.table.error[1]
    assert list(run.table.error.isna()) == [True, False, True]
    with pytest.raises(IncompleteRunError, match=r"b failed, OSError: .*b\.png: not an image.*; start the run again"):
        run.image("b", 0.5)
    assert "2 done, 1 failed" in repr(run)
    assert run.sheet().height == run.sheet(count=2).height


def test_requests_that_a_table_no_longer_has_are_left_out(tmp_path, tiny):
    """Their records stay where they lie; those of a later start that was killed count, though no manifest has them."""
    root, folder = tmp_path / "b/m/copy/default", tmp_path / "pictures"
    edit_benchmark(root, write_table(folder, "ab"), Copy(), tiny, [0.5], 4)
    edit_benchmark(root, write_table(folder, "bc"), Copy(), tiny, [0.5], 4)
    assert load_run(root).ids == ["b", "c"] == sorted({request.id for request in FinishedRun(root).requests})
    unpack_records(root)
    shutil.copy(root / "records/c.json", root / "records/d.json")
    text = (root / "records/d.json").read_text()
    (root / "records/d.json").write_text(re.sub('"id": "c"', '"id": "d"', text).replace("/c.png", "/d.png"))
    assert load_run(root).ids == ["b", "c", "d"]


def test_an_input_that_is_another_now_is_refused(tmp_path, tiny):
    root, folder = tmp_path / "b/m/copy/default", tmp_path / "pictures"
    edit_benchmark(root, write_table(folder, "ab"), Copy(), tiny, [0.5], 4)
    (folder / "edits.csv").write_text("id,image,target\na,c.png,a dog\nb,b.png,a dog\n")
    run = load_run(root)
    with pytest.raises(ValueError, match=r"a is not what was edited: origin: a\.png -> c\.png"):
        run.input("a")
    assert run.image("a", 0.5)
    assert run.input("b")


def test_pictures_are_there_without_the_benchmark(tmp_path, tiny):
    root, folder = tmp_path / "b/m/copy/default", tmp_path / "pictures"
    edit_benchmark(root, write_table(folder, "ab"), Copy(), tiny, [0.5], 4)
    shutil.rmtree(folder)
    run = load_run(root)
    assert run.image("a", 0.5).size == run.image("b", 0.5).size
    with pytest.raises(KeyError, match="no request 'z'"):
        run.image("z", 0.5)


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(recurse=False).find(diffedit.load_run, "load_run", globs={})
    assert sum(len(example.examples) for example in examples) >= 5
    assert [doctest.DocTestRunner().run(example).failed for example in examples] == [0]
