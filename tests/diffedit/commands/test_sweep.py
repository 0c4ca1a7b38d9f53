"""`diffedit run --multirun`: the jobs of one process are edited together; each has its log, its words and its end."""

import gc
import logging
import shutil
import weakref
from functools import partial

import numpy as np
import pytest
from helpers import kept_log
from PIL import Image

from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.commands import main
from diffedit.runs.claim import NAME, claim

SMALL = ["backbone=analytic", "steps=4", "ratios=[0.5]", "benchmark=folder", "engine.progress=false"]
SWEEP = ["run", "--multirun", "editor=sdedit,encode_decode", *SMALL]


@pytest.fixture
def door(tmp_path, monkeypatch, capsys):
    """Calls the command from a folder with a table of two pictures; returns its exit code and what it says."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate("ab"):
        pixels = np.random.default_rng(k).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    (tmp_path / "edits.csv").write_text("image,target\na.png,pear\nb.png,plum\n")

    def enter(*words):
        with kept_log("run"):
            code = main([*words, "benchmark.path=edits.csv"])
        return code, "".join(capsys.readouterr())

    return enter


@pytest.fixture
def loaded(monkeypatch):
    """The backbones that were made, by weak references; at each, how many of those before were alive."""
    made, alive = [], []
    prepare = AnalyticBackbone.__post_init__

    def note(self):
        gc.collect()
        alive.append(sum(reference() is not None for reference in made))
        made.append(weakref.ref(self))
        prepare(self)

    monkeypatch.setattr(AnalyticBackbone, "__post_init__", note)
    return alive


def find_runs(folder):
    """The run directories, by editor."""
    return {path.parents[1].name: path.parent for path in folder.glob("runs/*/*/*/*/config.yaml")}


def test_jobs_are_edited_by_one_set_of_networks(door, tmp_path, loaded):
    code, told = door(*SWEEP)
    assert code == 0, told
    assert loaded == [0]
    assert told.count("edited together") == told.count("evaluations made: ") == 1
    assert {name: (root / "manifest.parquet").is_file() for name, root in find_runs(tmp_path).items()} == {
        "sdedit": True,
        "encode_decode": True,
    }
    code, again = door(*SWEEP)
    assert code == 0, again
    assert again.count("2 of 2 requests are done already") == 2


def test_each_job_has_its_own_log(door, tmp_path):
    door(*SWEEP)
    runs = find_runs(tmp_path)
    for name, root in runs.items():
        lines = (root / "run.log").read_text().splitlines()
        (summary,) = (line for line in lines if "requests done" in line)
        assert f"[run][INFO] - {root}: 2 of 2 requests done, 2 edits" in summary
        assert all(sum(words in line for line in lines) == 1 for words in ("edited together", "evaluations made")), name
        assert not any("[HYDRA]" in line for line in lines)


def test_one_after_another_where_that_is_asked(door, tmp_path, loaded):
    code, told = door(*SWEEP, "together=false")
    assert code == 0, told
    assert "edited together" not in told
    assert len(loaded) == told.count("evaluations made: ") == 2
    alone = {path: path.read_bytes() for path in tmp_path.rglob("images/0.5/*.png")}
    assert len(alone) == 4
    shutil.rmtree(tmp_path / "runs")
    door(*SWEEP)
    assert {path: path.read_bytes() for path in tmp_path.rglob("images/0.5/*.png")} == alone


def test_other_networks_come_when_the_first_are_gone(door, tmp_path, loaded):
    code, told = door(*SWEEP, "backbone.seed=0,1")
    assert code == 0, told
    assert loaded == [0, 0]
    assert told.count("edited together") == 2
    assert len(list(tmp_path.rglob("manifest.parquet"))) == 4


def test_each_error_is_told_with_its_job(door, tmp_path):
    """Another process is at one run, and the other is edited; the networks of none can be had."""
    door(*SWEEP)
    root = find_runs(tmp_path)["sdedit"]
    shutil.rmtree(root / "shards")
    (log,) = root.glob("run.log")
    before = log.read_text()
    with claim(root):
        code, told = door(*SWEEP)
    assert code == 3, told
    assert "diffedit run editor=sdedit backbone=analytic" in told
    assert "is at it: wait for it" in told
    assert "diffedit run editor=encode_decode" not in told
    assert log.read_text() == before
    code, told = door(*SWEEP, "backbone._target_=no.Such", "name=x")
    assert code == 2, told
    for editor in ("sdedit", "encode_decode"):
        assert told.count(f"diffedit run editor={editor} ") == 1
    assert told.count("Error loading 'no.Such'") == 2
    assert not list(tmp_path.glob("runs/*/*/*/x"))


def test_a_bad_setting_refuses_its_job_alone(door, tmp_path):
    code, told = door("run", "--multirun", "editor=sdedit", *SMALL, "editor.eta=0.0,-1")
    assert code == 2, told
    assert len(list(tmp_path.rglob("manifest.parquet"))) == 1


def test_a_sweep_that_is_stopped_gives_all_back(door, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(AnalyticBackbone, "predict", stop)
    code, told = door(*SWEEP)
    assert (code, told.splitlines()[-1]) == (130, "stopped")
    assert not list(tmp_path.rglob(NAME))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert door(*SWEEP)[0] == 0


def test_the_plan_of_a_sweep_is_one(door, tmp_path):
    code, told = door("run", "--multirun", "editor=diffedit,encode_decode", *SMALL, "plan=true")
    assert code == 0, told
    assert told.count("requests to edit") == 1
    assert "4 requests to edit" in told
    assert not list(tmp_path.glob("runs/*/"))


@pytest.mark.parametrize("words", [SWEEP, ["run", "editor=sdedit", *SMALL]], ids=["a sweep", "one run"])
def test_a_plan_writes_no_log_whatever_it_warns_of(words, door, tmp_path, monkeypatch):
    warn = partial(logging.getLogger("run").warning, "%s", "cores busy")
    monkeypatch.setattr("diffedit.commands.run.check_refine", lambda cfg: warn())
    code, told = door(*words, "plan=true")
    assert code == 0
    assert "cores busy" in told
    assert not list(tmp_path.rglob("run.log"))
