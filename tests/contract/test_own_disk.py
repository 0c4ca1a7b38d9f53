"""The paper's ImageNet experiment from files: the commands of docs/reproduction.md, on files in the true formats.

A small checkpoint with random weights in CompVis' layout stands in for cin256-v2, and Still Life's networks for those
of photographs.
"""

import json

import numpy as np
import pandas as pd
import torch
import yaml
from compvis_modules import make_original, shrink_f4
from helpers import call, said

from eval.stilllife.export import ImageNetFiles

SMALL = ["steps=4", "ratios=[0.5]", "engine.batch.predict=4", "engine.progress=false", "backbone.resolution=64"]
SMALL += ["benchmark.domain=stilllife"]


def do(script, *args):
    """Run a command; fails where it does."""
    done = call(script, *args)
    assert done.returncode == 0, said(done)
    return said(done)


def write_checkpoint(folder):
    """A config and a checkpoint with the original's names, 1,001 rows of classes; returns the words that name them."""
    original = make_original(shrink_f4((1, 2), 1), 1001, True)
    (folder / "cin256-v2.yaml").write_text(yaml.safe_dump(original.config))
    torch.save({"state_dict": original.state}, folder / "model.ckpt")
    return "--config", "cin256-v2.yaml", "--checkpoint", "model.ckpt", "--allow-ckpt", "--out", "models/cin256-v2"


def run_experiment(tmp_path, experiment, count, index, *files):
    """Run, score, plot; returns the scores of all its `count` runs."""
    told = do("run.py", f"experiment={experiment}", f"benchmark.classes={index}", *files, *SMALL)
    assert told.count("4 of 4 requests done") == count
    words = ["networks=stilllife", "resolution=null", "reference=reference/imagenet", "resamples=50"]
    do("score.py", f"table={experiment}", *words)
    do("plot.py", f"figure={experiment}", "resamples=50")
    (plot,) = tmp_path.glob(f"plots/{experiment}/*csfid_over_lpips.png")
    assert plot.stat().st_size > 10_000
    paths = sorted(tmp_path.glob(f"runs/imagenet/ldm_imagenet/*/*{experiment}*/scores.parquet"))
    assert len(paths) == count
    return pd.concat({str(path): pd.read_parquet(path) for path in paths})


def check(table):
    """Each run has LPIPS and CSFID of four pictures, beside the floor, which edits differ from."""
    assert set(table.n) == {4}
    for _, scores in table.groupby(level=0):
        edited = scores[~scores.is_bound].set_index("metric").value
        floor = scores[scores.editor == "copy"].set_index("metric").value
        assert floor.lpips == 0 < edited.lpips
        assert np.isfinite([floor.csfid, edited.csfid]).all()
        assert floor.csfid != edited.csfid


def test_on_still_life_as_imagenet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, content in ImageNetFiles(1, 24):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    words = ["networks=stilllife", "resolution=64", "extractors=[csfid]", "held=1"]
    told = do("reference_stats.py", *words, "folder=train", "out=reference/imagenet")
    assert "n = 12, 12 classes" in told
    files = ["benchmark.queries=queries.csv", "benchmark.images=val", "benchmark.limit=4"]
    index = "imagenet_class_index.json"
    do("convert_ldm.py", *write_checkpoint(tmp_path), "--classes", index)
    check(run_experiment(tmp_path, "imagenet_tradeoff", 4, index, *files))
    check(run_experiment(tmp_path, "imagenet_thresholds", 3, index, *files))


def test_on_real_photographs(tmp_path, realset, monkeypatch):
    """FlexIT's own rows, but with targets of which there are other pictures here."""
    monkeypatch.chdir(tmp_path)
    index = json.loads((realset / "wordnet/imagenet_class_index.json").read_text())
    table = pd.read_csv(realset / "flexit/queries_present.csv", index_col=0)
    table["target_id"] = [(1, 3, 11)[i % 3] for i in range(len(table))]
    table["target"] = [index[str(number)][1] for number in table.target_id]
    table.to_csv(tmp_path / "queries.csv")
    for path in table.path:
        (tmp_path / "val" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / path).symlink_to(realset / "imagenet/val" / path)
    words = ["networks=stilllife", "resolution=64", "extractors=[csfid]", "held=0", "without=val"]
    told = do("reference_stats.py", *words, f"folder={realset}/imagenet/val", "out=reference/imagenet")
    assert f"{len(set(table.path))} pictures left out" in told
    files = ["benchmark.queries=queries.csv", "benchmark.images=val", "benchmark.limit=4"]
    index = f"{realset}/wordnet/imagenet_class_index.json"
    do("convert_ldm.py", *write_checkpoint(tmp_path), "--classes", index)
    check(run_experiment(tmp_path, "imagenet_tradeoff", 4, index, *files))
