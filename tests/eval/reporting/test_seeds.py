"""Runs that differ in their seed alone are one method, and intervals cover pictures and seeds."""

import logging
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import render

from baselines.sdedit import SDEdit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands.run import sweep_seeds
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from diffedit.testing import TinyPipeline
from eval.metrics.functional.frechet import Fid
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.collect import collect
from eval.reporting.compare import build_comparison_table, compare_at_equal
from eval.reporting.seeds import merge_seeds, name_seeds
from eval.reporting.tables import build_table
from eval.scoring.bootstrap import Bootstrap, estimate_mean
from eval.scoring.per_image import read_pseudo_values
from eval.scoring.score import Settings, score
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor, load
from eval.stilllife.train.features import FeaturesPart

SEEDS = (0, 1, 2)
RATIOS = (0.5, 0.75, 1.0)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The runs of a method at three seeds, and of the same with fewer steps at one; scored by LPIPS and FID."""
    folder = tmp_path_factory.mktemp("seeds")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "features")
    weights = str(folder / "features")
    metrics = {
        "lpips": Lpips(load(weights, "cpu")),
        "fid": SetDistance(Fid(), StillLifeExtractor(weights, device="cpu"), 16),
    }
    tiny = TinyPipeline(latent=16, tokens=77).write(folder / "tiny")
    backbone = StableDiffusion.from_pretrained(str(tiny), device="cpu")
    roots = []
    for name, seed, steps in [*((f"seed={seed},steps=4", seed, 4) for seed in SEEDS), ("steps=8", 0, 8)]:
        roots.append(folder / "runs/stilllife_scenes/tiny/sdedit" / name)
        settings = RunSettings(ratios=RATIOS, steps=steps, seed=seed, progress=False)
        run_benchmark(StillLifeScenes(size=6), EditPipeline(SDEdit()), backbone, roots[-1], settings)
        score(roots[-1], metrics, Settings(folder / "cache", resamples=100))
    return roots


def test_scores_are_means_over_seeds_and_intervals_of_each_pictures_mean(scored):
    """FID too: seed by seed, and not that of all pictures in one."""
    scores = collect(scored)
    merged = merge_seeds(scores, resamples=100)
    rows = merged[merged.run != ""]
    assert rows.groupby("name").run.nunique().to_dict() == {"steps=4": 1, "steps=8": 1}
    assert set(merged.editor) == set(scores.editor)
    for metric in ("lpips", "fid"):
        for ratio in RATIOS:
            of_seeds = scores[(scores.metric == metric) & (scores.strength == ratio) & scores.name.str.contains("seed")]
            assert of_seeds.value.nunique() == len(SEEDS)
            (row,) = rows[(rows.metric == metric) & (rows.strength == ratio) & (rows.name == "steps=4")].itertuples()
            assert row.value == pytest.approx(of_seeds.value.mean())
            values = np.mean([read_pseudo_values(root, metric)[ratio] for root in scored[:3]], axis=0)
            expected = Bootstrap(6, resamples=100).interval(estimate_mean(values))
            assert (row.low, row.high) == pytest.approx(expected[1:])
            assert (row.seeds, row.runs, row.n) == (SEEDS, tuple(map(str, scored[:3])), 6)
    alone = rows[rows.name == "steps=8"].drop(columns=["seeds", "runs"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, scores[scores.run == str(scored[3])].reset_index(drop=True))


def read(table):
    """Its words in one line."""
    return " ".join(render(table).split())


def test_tables_and_comparisons_say_what_intervals_cover(scored):
    merged = merge_seeds(collect(scored))
    text = read(build_table(merged, ""))
    assert (
        "means over 3 seeds, intervals cover pictures and seeds; one seed, and pictures alone: sdedit (steps=8)" in text
    )
    assert "seeds" not in read(build_table(merge_seeds(collect(scored[3:])), ""))
    at = merged[(merged.metric == "fid") & (merged.strength == 0.75)].value.tolist()
    comparison = compare_at_equal(merged, "sdedit (steps=4)", "fid", at, "lpips", 100)
    assert set(comparison.seeds) == {1}  # of the other method
    assert comparison["first"].notna().any()
    both = compare_at_equal(merged.assign(seeds=[(0, 1)] * len(merged)), "sdedit (steps=4)", "fid", at, "lpips", 100)
    assert "over pictures and 2 seeds" in read(build_comparison_table(both, "sdedit (steps=4)", "fid", "lpips"))
    assert set(name_seeds(merged).seeds) == {"0 1 2", "0", ""}


def test_what_differs_in_more_than_its_seed_is_not_merged(scored, tmp_path, caplog):
    folder = tmp_path / "runs/stilllife_scenes/tiny/sdedit"
    roots = [shutil.copytree(root, folder / root.name) for root in scored[:3]]
    path = roots[2] / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"editor": config["editor"] | {"guidance": 3.0}}))
    merged = merge_seeds(collect(roots), resamples=50)
    assert set(merged.seeds) == {(0, 1), (2,), ()}
    path.write_text(yaml.safe_dump(config | {"seed": 1, "name": "again", "engine": {"threads": 7}}))
    with caplog.at_level(logging.INFO):
        merged = merge_seeds(collect(roots), resamples=50)
    assert set(merged.seeds) == {(0, 1), (1,), ()}
    assert f"{roots[2]}: not among the seeds of {roots[1]}, which has seed=1 too" in caplog.text


def test_scores_of_other_networks_or_of_some_seeds_alone_are_not_merged(scored, caplog):
    scores = collect(scored[:3])
    first = scores.run == str(scored[0])
    other = scores.assign(made_by=scores.made_by.where(~first, "another network"))
    assert {len(seeds) for seeds in merge_seeds(other, 50).seeds} == {0, 1}
    assert "seeds not merged: fid, lpips was measured in different ways" in caplog.text
    merged = merge_seeds(scores[~first | (scores.metric == "lpips")], 50)
    assert set(merged[merged.run != ""].metric) == {"lpips"}
    assert "not scored for each seed, so left out: fid" in caplog.text


@pytest.mark.parametrize(
    ("words", "swept"),
    [
        (["steps=4", "seeds=[0,1,2]"], ["--multirun", "steps=4", "seed=0,1,2"]),
        (["seeds=3, 1"], ["--multirun", "seed=3,1"]),
        (["-m", "editor=a,b", "seeds=[0]"], ["-m", "editor=a,b", "seed=0"]),
        (["seed=3"], ["seed=3"]),
    ],
)
def test_seeds_are_a_sweep(words, swept):
    assert sweep_seeds(words) == swept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seeds=[a]"], r"seeds=\[a\]: different whole numbers are wanted, as seeds=\[0,1,2\]"),
        (["seeds=[1,1]"], "different whole numbers"),
        (["seeds=[]"], "different whole numbers"),
        (["seeds=[0,1]", "seed=3"], r"seeds=\[0,1\] and seed=3: one of them is wanted"),
    ],
)
def test_bad_seeds_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        sweep_seeds(words)


def count_covered(draw, width, count=2500):
    """Share of intervals that hold the true mean, 0, of these resampled means."""
    inside = 0
    for seed in range(count):
        means = width(draw(np.random.default_rng(seed)))
        low, high = np.quantile(means, (0.025, 0.975))
        inside += low <= 0 <= high
    return inside / count


@pytest.mark.parametrize("of_pictures", [0.0, 0.3, 1.0])
def test_intervals_cover_pictures_and_seeds(of_pictures):
    """However much of the spread is of pictures, and of seeds: 60 pictures at three seeds.

    Seeds that are resampled within each picture as well count twice: where the spread is of seeds alone, such intervals
    cover 99 %.
    """
    bootstrap = Bootstrap(60, resamples=300)
    picks = np.random.default_rng(0).integers(0, 3, (300, 60, 3))

    def draw(random):
        own = np.sqrt(of_pictures) * random.normal(size=(60, 1))
        return own + np.sqrt(1 - of_pictures) * random.normal(size=(60, 3))

    def resample_twice(values):
        return (np.take_along_axis(values[None], picks, 2).mean(2) * bootstrap.weights).mean(1)

    covered = count_covered(draw, lambda values: bootstrap.means(values.mean(1)))
    assert 0.93 <= covered <= 0.96
    if of_pictures == 0:
        assert count_covered(draw, resample_twice, 500) > 0.98
