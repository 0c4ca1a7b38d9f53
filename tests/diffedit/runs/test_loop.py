"""A benchmark is edited from Python, without a command: the loop, and the config that describes the objects."""

import pytest
from helpers import Pictures, find_record
from hydra.utils import instantiate
from omegaconf import OmegaConf

from baselines.bounds import Copy
from baselines.sdedit import SDEdit
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes
from diffedit.runs.describe import describe
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

SETTINGS = RunSettings(ratios=(0.5, 1.0), steps=4, progress=False)


def test_a_run_in_python_leaves_what_a_command_leaves(analytic, tmp_path):
    table = run_benchmark(Pictures(), EditPipeline(DiffEdit()), analytic, tmp_path, SETTINGS)
    assert table.variant.tolist() == ["ratio=0.5", "ratio=1.0"] * 3
    assert table.strength.tolist() == [0.5, 1.0] * 3
    assert (table.status == "done").all()
    config = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    assert config["editor"]["_target_"] == "diffedit.diffedit.DiffEdit"
    assert instantiate(config["editor"], _convert_="all") == DiffEdit()
    assert config["weights"] == analytic.fingerprint
    assert not config["is_bound"]
    again = run_benchmark(Pictures(), EditPipeline(DiffEdit()), analytic, tmp_path, SETTINGS)
    assert table.equals(again)


def test_another_method_in_the_same_directory_is_refused(analytic, tmp_path):
    run_benchmark(Pictures(1), EditPipeline(Copy()), analytic, tmp_path, SETTINGS)
    assert OmegaConf.load(tmp_path / "config.yaml").is_bound
    with pytest.raises(ConfigChangedError, match="editor"):
        run_benchmark(Pictures(1), EditPipeline(SDEdit()), analytic, tmp_path, SETTINGS)


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_a_broken_picture_fails_its_own_request(analytic, tmp_path, on_error):
    settings = RunSettings((0.5,), 4, on_error=on_error, progress=False)
    with pytest.raises(RunFailedError, match=r"1 of 3 requests failed|request 1: broken"):
        run_benchmark(Pictures(broken=1), EditPipeline(DiffEdit()), analytic, tmp_path, settings)
    record = find_record(tmp_path, "1")
    assert (record["status"], record["error"]) == ("failed", "OSError: broken")


def test_objects_are_described_as_the_config_that_makes_them():
    editor = DiffEdit(guidance=3.0)
    assert instantiate(describe(editor), _convert_="all") == editor
    assert describe({"a": [1, None, (2.5, "x")]}) == {"a": [1, None, [2.5, "x"]]}
    assert describe(BatchSizes()) == {"_target_": "diffedit.engine.sizes.BatchSizes", **vars(BatchSizes())}
    assert describe(object()) == {"_target_": "builtins.object"}


def test_settings_are_checked():
    with pytest.raises(ValueError, match="on_error"):
        RunSettings(on_error="maybe")
    with pytest.raises(ValueError, match="steps"):
        RunSettings(steps=0)
