"""The networks in weights/ do what their cards say. Small samples here; the cards' figures are of larger ones."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler
from helpers import call, composed, said
from hydra.utils import instantiate
from PIL import Image
from safetensors.torch import load_file

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.sampling.noise import RequestNoise
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import load
from eval.stilllife.train import exam

WEIGHTS = Path(__file__).parents[3] / "weights"
RECORDED = json.loads((WEIGHTS / "figures.json").read_text())


@pytest.fixture(scope="module")
def backbone():
    return StableDiffusion.from_pretrained("weights/stilllife", device="cpu")


def test_they_are_small_and_half_precision():
    files = list(WEIGHTS.rglob("*.safetensors"))
    assert len(files) == 11
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 43.5e6
    for path in files:
        kinds = {value.dtype for value in load_file(path).values() if value.is_floating_point()}
        assert kinds == {torch.float16}, path


def test_the_second_judge_is_small_and_no_kin_of_the_first():
    assert sum(path.stat().st_size for path in (WEIGHTS / "stilllife_second").iterdir()) <= 1.5e6
    first, second = (load(f"weights/stilllife_{name}", "cpu") for name in ("features", "second"))
    assert type(first.module) is not type(second.module)
    assert first.hash != second.hash
    assert sum(weight.numel() for weight in second.module.parameters()) <= 0.7e6
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in second.module.modules())


def test_every_network_has_a_card():
    for name in ("", "_classes", "_clip", "_features", "_second", "_pixel"):
        card = (WEIGHTS / f"stilllife{name}" / "README.md").read_text()
        for word in ("Recipe", "Seeds", "Steps", "Time", "Hardware", "Figures"):
            assert word in card, f"{name}: {word}"


def test_what_was_promised_was_measured():
    assert RECORDED["settings"]["count"] >= 256
    assert RECORDED["autoencoder"]["psnr"] >= 30
    assert min(RECORDED["features"].values()) >= 0.98
    assert min(RECORDED["second"].values()) >= 0.95
    assert RECORDED["clip"]["right_of_16"] >= 0.9
    assert RECORDED["diffusion"]["fruits"] >= 0.9
    assert RECORDED["diffusion"]["all_four"] >= 0.8
    assert RECORDED["classes"]["fruits"] >= 0.75


@torch.no_grad()
def test_the_measurements_are_of_these_weights():
    """Again, on the first pictures."""
    assert exam.examine_autoencoder(WEIGHTS / "stilllife", 32)["psnr"] == pytest.approx(
        RECORDED["autoencoder"]["psnr"], abs=0.7
    )
    assert min(exam.examine_features(WEIGHTS / "stilllife_features", 128).values()) >= 0.96
    assert min(exam.examine_features(WEIGHTS / "stilllife_second", 128).values()) >= 0.92
    assert exam.examine_clip(WEIGHTS / "stilllife_clip", 64)["right_of_16"] >= 0.84
    figures, sheet = exam.examine_diffusion(WEIGHTS / "stilllife", WEIGHTS / "stilllife_features", 32, 25, 5.0)
    assert figures["fruits"] >= 0.75
    assert figures["all_four"] >= 0.6
    assert sheet.width > 1000
    classes = WEIGHTS / "stilllife_classes", WEIGHTS / "stilllife/vae", WEIGHTS / "stilllife_features"
    assert exam.examine_classes(*classes, 32, 25, 5.0)["fruits"] == pytest.approx(
        RECORDED["classes"]["fruits"], abs=0.2
    )


def test_the_twin_has_the_noise_levels_of_the_paper_s_kind_of_model():
    """The first 800 of CompVis' betas; and it is small."""
    backbone = instantiate(composed("backbone=stilllife_classes", backbone=False).backbone)
    levels = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear").alphas_cumprod
    assert torch.allclose(backbone.scheduler.alphas_cumprod, levels[:800], atol=1e-6)
    assert (backbone.null_class, backbone.classes.find("oranges"), backbone.classes.find("orange")) == (12, 3, 3)
    assert sum(path.stat().st_size for path in (WEIGHTS / "stilllife_classes").rglob("*.*") if path.is_file()) <= 6e6


def edited(backbone, editor, count=8):
    asks = {ask.id: ask for ask in StillLifeScenes(size=count, attributes=["fruits"]).requests(64)}
    schedule = backbone.schedule(20)
    programs = [(name, editor(ask, [0.7], schedule, RequestNoise(0, name))) for name, ask in asks.items()]
    outcomes = Engine(backbone, BatchSizes(64, 8, 8, 8), progress=False).run(programs)
    return [(asks[outcome.id], outcome.result) for outcome in outcomes]


def test_diffedit_finds_the_fruit_and_leaves_the_rest(backbone):
    overlaps = []
    for ask, result in edited(backbone, DiffEdit()):
        exact = ask.mask()[0] > 0.5
        inferred = torch.nn.functional.interpolate(result.mask.float(), (64, 64))[0, 0] > 0.5
        overlaps.append(((inferred & exact).sum() / (inferred | exact).sum()).item())
        change = (result.edits[0].image - ask.image()).abs().mean(0)
        far = torch.nn.functional.max_pool2d((inferred | exact)[None].float(), 17, 1, 8)[0] == 0
        assert change[far].mean() < 0.05
        assert change[inferred].mean() > 2 * change[far].mean()
    assert np.mean(overlaps) > 0.4


@pytest.mark.slow
def test_the_commands_work_without_arguments(tmp_path):
    """A run and an edit of Still Life; score, plot and sheet of what came out."""
    small = ["benchmark.size=4", "steps=6", "ratios=[0.5,1]", f"runs={tmp_path}/runs", "name=small"]
    done = call("run.py", "--multirun", "editor=diffedit,oracle", *small)
    assert done.returncode == 0, said(done)
    runs = f"{tmp_path}/runs/*/*/*/*"
    small = [f"cache={tmp_path}/cache", f"out={tmp_path}/scores.csv"]
    done = call("score.py", f"runs={runs}", "logger=tensorboard", *small)
    assert done.returncode == 0, said(done)
    scores = pd.read_csv(tmp_path / "scores.csv")
    oracle = scores[scores.editor == "oracle"].set_index(["metric", "strength"]).value
    assert oracle["accuracy", 1.0] == 1
    assert oracle["cf_psnr", 1.0] == 100
    assert len(list((tmp_path / "runs").glob("*/*/*/*/tensorboard/*"))) == 2
    again = call("score.py", f"runs={runs}", *small)
    assert said(again).count("all there") == 2
    done = call("plot.py", f"runs={runs}", f"out={tmp_path}/plots", "match_at=[]")
    assert done.returncode == 0, said(done)
    assert {path.name for path in (tmp_path / "plots").glob("*.png")} >= {
        "stilllife_scenes_stilllife_accuracy_over_lpips.png",
        "stilllife_scenes_stilllife_clip_score_over_lpips.png",
    }
    roots = sorted(map(str, (tmp_path / "runs").glob("*/*/*/*")))
    done = call("sheet.py", *roots, "--count", "2", "--out", tmp_path / "sheet.png")
    assert done.returncode == 0, said(done)
    assert Image.open(tmp_path / "sheet.png").width > 500

    done = call("edit.py", "steps=6", "--ratio", "0.5", "--out", tmp_path / "edited")
    assert done.returncode == 0, said(done)
    assert len(list((tmp_path / "edited").glob("00000-fruits_*.png"))) == 5
    assert "the benchmark has 256" in said(call("edit.py", "--request", "999"))
