"""Runs of before are scored as they were: names that moved are found, and their scores stand beside new ones."""

import json
import shutil

import pandas as pd
from helpers import unpack_records
from omegaconf import OmegaConf

from baselines.bounds import Copy
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from eval.metrics.cost import Cost
from eval.reporting.collect import collect
from eval.scoring.score import Settings, score_runs
from eval.stilllife.benchmarks import StillLifeScenes


def make_old(root):
    """Write a run as revision 0e46f94 wrote it."""
    config = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
    for name in ("format", "is_bound", "strength_name"):
        del config[name]
    config["benchmark"]["_target_"] = "eval.benchmarks.stilllife.benchmarks.StillLifeScenes"
    config["reconstruct"] = {"_target_": "diffedit.reconstruct.Bare"}
    config["rank"] = {"_target_": "diffedit.stages.First"}
    config["engine"] = {"window": None, "texts": 512}
    OmegaConf.save(config, root / "config.yaml")
    unpack_records(root)
    for path in (root / "records").glob("*.json"):
        record = json.loads(path.read_text())
        record["notes"] = record.pop("metadata")
        for edit in record["edits"]:
            edit["ratio"] = float(edit.pop("variant").partition("=")[2])
        path.write_text(json.dumps(record))


def test_an_old_run_has_the_scores_of_a_new_one(tmp_path):
    new, old = (tmp_path / "scenes" / "analytic" / "copy" / name for name in ("new", "old"))
    settings = RunSettings(ratios=(0.5, 1.0), steps=4, progress=False)
    run_benchmark(StillLifeScenes(size=4), EditPipeline(Copy()), AnalyticBackbone(resolution=64), new, settings)
    shutil.copytree(new, old)
    make_old(old)
    assert "variant" not in (old / "records" / "00000-fruits.json").read_text()
    metrics = {"cost": Cost()}
    assert score_runs([new, old], metrics, Settings(tmp_path / "cache")) == [new, old]
    tables = [collect([root], ["cost"]).drop(columns=["name", "run"]) for root in (new, old)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0].is_bound.all()
    assert tables[0].variant.unique().tolist() == ["ratio=0.5", "ratio=1.0"]
