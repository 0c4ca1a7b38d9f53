"""`diffedit run refine=...`: a run is extended around the point where a figure has a value, and goes on from there."""

import pytest
from helpers import kept_log
from omegaconf import OmegaConf

from diffedit.commands import main
from eval.reporting.load_run import load_run

SMALL = ["editor=sdedit", "benchmark.size=2", "steps=4", "ratios=[0.25,1.0]", "name=small", "engine.progress=false"]
PLACE = "runs/stilllife_scenes/stilllife/sdedit/small"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Calls the command in an empty folder; returns exit code and words."""
    monkeypatch.chdir(tmp_path)

    def enter(*words):
        with kept_log("run"):
            code = main(["run", *words])
        return code, "".join(capsys.readouterr())

    return enter


@pytest.mark.parametrize("sweep", [[], ["--multirun", "seed=0"]])
def test_a_run_is_refined_and_goes_on(call, tmp_path, sweep):
    code, words = call(*sweep, *SMALL, "refine=lpips@1.2")
    assert code == 0, words
    assert "lpips = 1.2 lies between ratios" in words
    ratios = list(OmegaConf.load(tmp_path / PLACE / "config.yaml").ratios)
    assert ratios[:2] == [0.25, 1.0]
    assert len(ratios) > 2
    run = load_run(tmp_path / PLACE)
    assert sorted(run.table.strength.unique()) == sorted(ratios)
    code, words = call(*sweep, *SMALL, "refine=lpips@1.2")
    assert code == 0, words
    assert "is looked for" not in words
    assert "2 of 2 requests are done already" in words
    code, words = call(*SMALL)
    assert code == 2
    assert "ratios: " in words


@pytest.mark.parametrize(
    ("target", "words"), [("beauty@1", "no metric beauty; there are accuracy"), ("lpips", "such as accuracy@0.7")]
)
def test_what_cannot_be_scored_is_refused_first(call, tmp_path, target, words):
    code, said = call(*SMALL, f"refine={target}")
    assert code == 2
    assert words in said
    assert not (tmp_path / PLACE).exists()
