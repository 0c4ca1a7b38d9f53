"""What a run wrote and what lies there now: scores refuse a difference in what they open; other runs are scored.

A new kind of damage is a line in `DAMAGE`.
"""

import io
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import edit_few_scenes, unpack_records
from omegaconf import OmegaConf
from PIL import Image

import diffedit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.commands import main
from diffedit.diffedit import DiffEdit
from diffedit.mask import ContrastMask, Quantile
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from eval.benchmarks.folder import FolderBenchmark
from eval.metrics.cost import Cost
from eval.metrics.functional.frechet import Fid
from eval.metrics.ground_truth import MaskIou
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import collect
from eval.reporting.contact_sheet import draw_run_sheet
from eval.scoring.files import FORMAT
from eval.scoring.finished_run import FinishedRun
from eval.scoring.score import Settings, find_runs, score_runs
from eval.stilllife.network import StillLifeExtractor
from eval.stilllife.train.features import FeaturesPart

EDIT, MASK, MAP, RECORD = "images/0.5/{}.png", "masks/{}.png", "maps/{}.npy", "records/{}.json"
SHARD = "shards/000000.parquet"
FIRST = "00000-fruits"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return edit_few_scenes(tmp_path_factory.mktemp("finished"), DiffEdit(ContrastMask(outliers=Quantile())))


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs/stilllife_scenes/tiny/diffedit/default")


def swap(root, file):
    """The files of two requests change places: each is whole, and neither is its own."""
    one, other = (root / file.format(name) for name in (FIRST, "00001-vessel"))
    contents = one.read_bytes(), other.read_bytes()
    assert contents[0] != contents[1]
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


def cut(root, file):
    path = root / file.format(FIRST)
    path.write_bytes(path.read_bytes()[:-9])


def rewrite(root, file, content):
    (root / file.format(FIRST)).write_text(content)


def flip(root, file):
    """Another content of the same size."""
    path = root / file.format(FIRST)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def make_fifo(root, file):
    """What a reader would wait for, for ever."""
    path = root / file.format(FIRST)
    path.unlink()
    os.mkfifo(path)


def damage_record(damage, *args):
    """The same done to a record that lies beside the shards, as those of a shard do that is not done."""

    def damage_it(root):
        unpack_records(root)
        damage(root, RECORD, *args)

    return damage_it


def edit_record(root, change):
    unpack_records(root)
    record = json.loads((root / RECORD.format(FIRST)).read_text())
    change(record)
    rewrite(root, RECORD, json.dumps(record))


def rename_edit(record):
    """As if it were of another strength."""
    record["edits"][0]["variant"] = "ratio=0.25"


def flip_in_shard(root, _):
    """Another byte among the values of its records."""
    path = root / SHARD
    group, data = pq.read_metadata(path).row_group(0), bytearray(path.read_bytes())
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    data[columns["record"].dictionary_page_offset + 100] ^= 1
    path.write_bytes(data)


def edit_shard(root, change):
    """Change the records of a shard by place; it is a whole file then."""
    table = pq.read_table(root / SHARD)
    texts = change(table["record"].to_pylist())
    place = table.column_names.index("record")
    pq.write_table(table.set_column(place, "record", pa.array(texts, pa.string())), root / SHARD)


def pop_source(text):
    record = json.loads(text)
    del record["source"]
    return json.dumps(record)


def change_config(root, **values):
    config = OmegaConf.load(root / "config.yaml")
    for name, value in values.items():
        OmegaConf.update(config, name.replace("__", "."), value, force_add=True)
    (root / "config.yaml").write_text(OmegaConf.to_yaml(config))


DAMAGE = {
    "edits swapped": (lambda root: swap(root, EDIT), "changed after the run wrote it"),
    "an edit cut": (lambda root: cut(root, EDIT), "changed after the run wrote it"),
    "an edit changed": (lambda root: flip(root, EDIT), "changed after the run wrote it"),
    "an edit a FIFO": (lambda root: make_fifo(root, EDIT), "images/0.5/00000-fruits.png"),
    "masks swapped": (lambda root: swap(root, MASK), "changed after the run wrote it"),
    "a mask cut": (lambda root: cut(root, MASK), "changed after the run wrote it"),
    "a mask a FIFO": (lambda root: make_fifo(root, MASK), "masks/00000-fruits.png"),
    "a mask gone": (lambda root: (root / MASK.format(FIRST)).unlink(), "masks/00000-fruits.png"),
    "a record cut": (damage_record(cut), "1 of 2 requests have no edits"),
    "a record null": (damage_record(rewrite, "null"), "1 of 2 requests have no edits"),
    "a record deep": (damage_record(rewrite, "[" * 100_000), "records/00000-fruits.json"),
    "a record a FIFO": (damage_record(make_fifo), "records/00000-fruits.json"),
    "a record without an edit": (lambda root: edit_record(root, rename_edit), "records/00000-fruits.json"),
    "a record without source": (lambda root: edit_record(root, lambda r: r.pop("source")), "00000-fruits.json"),
    "a shard cut": (lambda root: cut(root, SHARD), SHARD),
    "a shard empty": (lambda root: rewrite(root, SHARD, ""), SHARD),
    "a shard changed": (lambda root: flip_in_shard(root, SHARD), SHARD),
    "a shard a FIFO": (lambda root: make_fifo(root, SHARD), SHARD),
    "a shard of another table": (lambda root: pd.DataFrame({"id": [FIRST]}).to_parquet(root / SHARD), SHARD),
    "a shard gone": (lambda root: (root / SHARD).unlink(), "00001-vessel: not run yet"),
    "a null in a shard": (lambda root: edit_shard(root, lambda texts: ["null", texts[1]]), SHARD),
    "a shard without a record": (lambda root: edit_shard(root, lambda texts: [None, texts[1]]), SHARD),
    "a shard without source": (lambda root: edit_shard(root, lambda texts: [pop_source(texts[0]), texts[1]]), SHARD),
    "a config of a number": (lambda root: rewrite(root, "config.yaml", "3"), "config.yaml: damaged"),
    "a config of a list": (lambda root: rewrite(root, "config.yaml", "- 1"), "config.yaml: damaged"),
    "a config of bytes": (lambda root: (root / "config.yaml").write_bytes(b"\xff\0"), "config.yaml: damaged"),
    "a config without a benchmark": (lambda root: rewrite(root, "config.yaml", "ratios: [0.5]"), "yaml: damaged"),
    "a config with a text as ratio": (lambda root: change_config(root, ratios=["a"]), "config.yaml: damaged"),
    "a config with another setting": (lambda root: change_config(root, benchmark__a=1), "config.yaml"),
    "a config a FIFO": (lambda root: make_fifo(root, "config.yaml"), "config.yaml: not a regular file"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_named_and_the_others_are_scored(run, tmp_path, caplog, name):
    damage, words = DAMAGE[name]
    whole = shutil.copytree(run, run.with_name("whole"))
    damage(run)
    roots = find_runs(str(run.parent / "*"))
    assert roots == [run, whole]
    assert score_runs(roots, {"mask_iou": MaskIou()}, Settings(tmp_path / "cache")) == [whole]
    assert f"{run}: not scored" in caplog.text
    assert words in caplog.text
    assert "another name" not in caplog.text  # scoring it, one has no use for that


def test_a_sheet_and_a_notebook_refuse_a_map_that_changed(run):
    values = np.load(run / MAP.format(FIRST))
    np.save(run / MAP.format(FIRST), values + 1)
    with pytest.raises(OSError, match=r"00000-fruits.npy: truncated or changed"):
        draw_run_sheet([FinishedRun(run)], 2)
    with pytest.raises(OSError, match=r"00000-fruits.npy: truncated or changed"):
        diffedit.load_run(run).contrast_map(FIRST)
    assert diffedit.load_run(run).contrast_map("00001-vessel") is not None


def test_a_run_of_before_has_hashes_of_edits_alone(run, tmp_path):
    """It is scored; what it does not know of its masks it cannot compare."""
    unpack_records(run)
    for path in (run / "records").iterdir():
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in record.items() if key not in ("files", "sources")}))
    other = shutil.copytree(run, run.with_name("other"))
    swap(run, MASK)
    swap(other, EDIT)
    assert score_runs([run, other], {"mask_iou": MaskIou()}, Settings(tmp_path / "cache")) == [run]


# ------------------------------------------------------------------------------------------------------------- scores


def forget(root):
    """So that its features are read again."""
    (root / "scores/fid.json").unlink()


def cut_cache(root, pattern):
    """Cut the files of the folder that runs share."""
    forget(root)
    files = list((root.parents[4] / "cache").glob(pattern))
    assert files
    for file in files:
        cut(file.parent, file.name)


SCORES, VALUES, INPUTS = "scores/mask_iou.json", "scores/mask_iou.parquet", "scores/inputs.json"
DAMAGED_SCORES = {
    "scores cut": (lambda root: cut(root, SCORES), SCORES),
    "scores empty": (lambda root: rewrite(root, SCORES, ""), SCORES),
    "scores a list": (lambda root: rewrite(root, SCORES, "[1]"), SCORES),
    "scores without fields": (lambda root: rewrite(root, SCORES, json.dumps({"format": FORMAT, "key": "x"})), SCORES),
    "scores deep": (lambda root: rewrite(root, SCORES, "[" * 100_000), SCORES),
    "scores a FIFO": (lambda root: make_fifo(root, SCORES), SCORES),
    "values cut": (lambda root: cut(root, VALUES), VALUES),
    "values empty": (lambda root: rewrite(root, VALUES, ""), VALUES),
    "values changed": (lambda root: flip(root, VALUES), VALUES),
    "values gone": (lambda root: (root / VALUES).unlink(), VALUES),
    "values a FIFO": (lambda root: make_fifo(root, VALUES), VALUES),
    "merged table cut": (lambda root: cut(root, "scores.parquet"), "scores.parquet"),
    "merged table a FIFO": (lambda root: make_fifo(root, "scores.parquet"), "scores.parquet"),
    "summary cut": (lambda root: cut(root, "metrics.json"), "metrics.json"),
    "inputs cut": (lambda root: (cut(root, INPUTS), forget(root)), INPUTS),
    "inputs a list": (lambda root: (rewrite(root, INPUTS, "[]"), forget(root)), INPUTS),
    "inputs with other entries": (lambda root: (rewrite(root, INPUTS, '{"inputs": {"a": 1}}'), forget(root)), INPUTS),
    "features cut": (lambda root: cut_cache(root, "features/*/*.parquet"), ".parquet: no whole shard of features"),
    "statistics of real pictures cut": (lambda root: cut_cache(root, "reference-*.safetensors"), ".safetensors: no st"),
}


@pytest.fixture(scope="module")
def scored(finished, tmp_path_factory):
    """A scored run, and the features that it was scored by."""
    folder = tmp_path_factory.mktemp("scored")
    root = shutil.copytree(finished, folder / "runs/stilllife_scenes/tiny/diffedit/default")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "features")
    assert score_runs([root], make_metrics(folder), Settings(folder / "cache")) == [root]
    return folder


def make_metrics(folder):
    """One that reads pictures, one that reads features and real pictures; by random weights."""
    extractor = StillLifeExtractor(str(folder / "features"), device="cpu")
    return {"mask_iou": MaskIou(), "fid": SetDistance(Fid(), extractor, 16)}


@pytest.fixture
def copied(scored, tmp_path):
    return shutil.copytree(scored, tmp_path / "copied") / "runs/stilllife_scenes/tiny/diffedit/default"


def list_contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", DAMAGED_SCORES)
def test_damaged_scores_are_named_and_computed_again(copied, scored, caplog, name):
    damage, file = DAMAGED_SCORES[name]
    damage(copied)
    caplog.set_level(logging.INFO, "score")
    metrics = make_metrics(scored)
    assert score_runs([copied], metrics, Settings(copied.parents[4] / "cache")) == [copied]
    assert file in "".join(record.getMessage() for record in caplog.records)
    after, before = (list_contents(root) for root in (copied, scored / "runs/stilllife_scenes/tiny/diffedit/default"))
    assert after.keys() == before.keys()
    assert after[Path(VALUES)] == before[Path(VALUES)]
    tables = [
        pd.read_parquet(io.BytesIO(files[Path("scores.parquet")])).drop(columns="run") for files in (after, before)
    ]
    pd.testing.assert_frame_equal(*tables)
    caplog.clear()
    assert score_runs([copied], metrics, Settings(copied.parents[4] / "cache")) == [copied]
    assert [record.getMessage() for record in caplog.records] == [f"{copied}: all there"]
    assert collect([copied]).value.notna().any()


LEFT_OUT = {name: DAMAGED_SCORES[name] for name in ("scores cut", "scores a list", "values cut", "values a FIFO")}
LEFT_OUT["config cut"] = (lambda root: rewrite(root, "config.yaml", "a: 1"), "config.yaml")


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_plot_leaves_a_damaged_run_out_and_draws_the_others(copied, tmp_path, capfd, name):
    damage, file = LEFT_OUT[name]
    shutil.copytree(copied, copied.with_name("whole"))
    damage(copied)
    options = ["x=fid", "y=mask_iou", "compare=[mask_iou]", "match=fid", f"out={tmp_path}/plots"]
    assert main(["plot", f"runs={copied.parent}/*", *options]) == 1
    said = "".join(capfd.readouterr())
    assert f"{copied}: left out" in said
    assert file in said
    assert "1 of 2 runs were left out" in said
    assert len(list((tmp_path / "plots").glob("*.png"))) == 1


def test_a_plot_needs_no_note_of_the_inputs(copied, tmp_path):
    rewrite(copied, INPUTS, "[")
    assert main(["plot", f"runs={copied}", "x=fid", "y=mask_iou", "match_at=null", f"out={tmp_path}/plots"]) == 0


# ----------------------------------------------------------------------------------------------- inputs and notebooks


@pytest.fixture
def of_files(tmp_path):
    """A run of pictures that are files, each in a shard of its own."""
    for i, colour in enumerate(("red", "blue")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{i}.png")
    (tmp_path / "table.csv").write_text("image,source,target,id\n0.png,an apple,a pear,r0\n1.png,an apple,a pear,r1\n")
    root = tmp_path / "runs/folder/analytic/diffedit/default"
    settings = RunSettings(ratios=(0.5,), steps=4, progress=False, shard_size=1)
    benchmark = FolderBenchmark(path=str(tmp_path / "table.csv"))
    run_benchmark(benchmark, EditPipeline(DiffEdit()), AnalyticBackbone(), root, settings)
    return root


def test_each_request_names_its_own_shard(of_files, tmp_path, caplog):
    one, other = (of_files / f"shards/00000{k}.parquet" for k in (0, 1))
    text = other.read_bytes()
    for path in (one, other):
        cut(path.parent, path.name)
    assert score_runs([of_files], {"cost": Cost()}, Settings(tmp_path / "cache")) == []
    assert (
        f"2 of 2 requests have no edits (2 of 2 shards are there); start it again:\n  r0: {one}: no whole"
        in caplog.text
    )
    assert f"\n  r1: {other}: no whole records" in caplog.text
    caplog.clear()
    one.unlink()
    assert score_runs([of_files], {"cost": Cost()}, Settings(tmp_path / "cache")) == []
    assert f"\n  r0: not run yet\n  r1: {other}: no whole records" in caplog.text
    caplog.clear()
    other.write_bytes(text)
    assert score_runs([of_files], {"cost": Cost()}, Settings(tmp_path / "cache")) == []
    assert "1 of 2 requests have no edits (1 of 2 shards are there); start it again:\n  r0: not run" in caplog.text


def test_an_input_that_was_replaced_is_not_measured(of_files, tmp_path, caplog, capsys):
    """As a start of the run refuses it: the edits were made of another picture."""
    assert score_runs([of_files], {"cost": Cost()}, Settings(tmp_path / "cache")) == [of_files]
    Image.new("RGB", (16, 16), "green").save(tmp_path / "0.png")
    assert score_runs([of_files], {"cost": Cost()}, Settings(tmp_path / "cache")) == []
    assert "r0 is not what was edited" in caplog.text
    assert "0.png was replaced by another image" in caplog.text
    assert main(["sheet", str(of_files), "--out", str(tmp_path / "sheet.png")]) == 2
    assert "0.png was replaced by another image" in capsys.readouterr().err
    run = diffedit.load_run(of_files)
    for look in (run.sheet, lambda: run.input("r0")):
        with pytest.raises(ValueError, match=r"0\.png was replaced by another image"):
            look()
    assert run.input("r1").size == (16, 16)


def test_an_input_that_was_copied_is_the_same(of_files, tmp_path):
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    (tmp_path / "copy.png").replace(tmp_path / "0.png")
    assert score_runs([of_files], {"cost": Cost()}, Settings(tmp_path / "cache")) == [of_files]


NOTEBOOK = {
    "manifest cut": (lambda root: cut(root, "manifest.parquet"), [FIRST, "00001-vessel"]),
    "manifest empty": (lambda root: rewrite(root, "manifest.parquet", ""), [FIRST, "00001-vessel"]),
    "manifest a FIFO": (lambda root: make_fifo(root, "manifest.parquet"), [FIRST, "00001-vessel"]),
    "a record a FIFO": (damage_record(make_fifo), ["00001-vessel"]),
    "a record deep": (damage_record(rewrite, "[" * 100_000), ["00001-vessel"]),
    "a record without source": (lambda root: edit_record(root, lambda record: record.pop("source")), ["00001-vessel"]),
    "a shard cut": (lambda root: cut(root, SHARD), []),
    "a shard changed": (lambda root: flip_in_shard(root, SHARD), []),
    "a shard a FIFO": (lambda root: make_fifo(root, SHARD), []),
    "a null in a shard": (lambda root: edit_shard(root, lambda texts: ["null", texts[1]]), ["00001-vessel"]),
    "a shard without source": (
        lambda root: edit_shard(root, lambda texts: [pop_source(texts[0]), texts[1]]),
        ["00001-vessel"],
    ),
}


@pytest.mark.parametrize("name", NOTEBOOK)
def test_a_notebook_shows_what_is_whole_and_names_what_is_not(run, caplog, name):
    damage, ids = NOTEBOOK[name]
    damage(run)
    opened = diffedit.load_run(run)
    assert opened.ids == ids
    assert opened.table.id.tolist() == ids
    assert any(file in caplog.text for file in ("manifest.parquet", "00000-fruits.json", SHARD))
    assert run.is_dir()


@pytest.mark.parametrize("damage", [cut, make_fifo, lambda root, file: rewrite(root, file, "")])
def test_a_map_that_is_none_is_named(run, damage):
    """Of a run of before, too, whose records do not know what was written."""
    damage(run, MAP)
    edit_record(run, lambda record: record.update(files={}))
    with pytest.raises(OSError, match=r"00000-fruits\.npy"):
        diffedit.load_run(run).contrast_map(FIRST)
    with pytest.raises(OSError, match=r"00000-fruits\.npy"):
        draw_run_sheet([FinishedRun(run)], 2)
