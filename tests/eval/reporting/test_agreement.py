"""Two judges of the same edits: how their agreement is reckoned, and that the command shows it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import edit_benchmark, render
from scipy.stats import kendalltau, spearmanr
from torchmetrics.functional import spearman_corrcoef
from torchmetrics.functional.classification import binary_cohen_kappa

from baselines.bounds import Copy
from baselines.sdedit import SDEdit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands import main
from diffedit.testing import TinyPipeline
from eval.metrics.accuracy import EditAccuracy
from eval.metrics.functional.csfid import Sfid
from eval.metrics.ground_truth import MaskIou
from eval.metrics.lpips import Lpips
from eval.metrics.set_distance import SetDistance
from eval.reporting.agreement import (
    Figure,
    Judgement,
    build_agreement_table,
    compare_judges,
    compare_score,
    compute_kappa,
    correlate,
    correlate_pictures,
)
from eval.reporting.collect import NotComparableError, check_comparable
from eval.scoring.bootstrap import estimate_mean
from eval.scoring.files import read_run_scores
from eval.scoring.score import Settings, score
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import StillLifeExtractor, load
from eval.stilllife.train.features import FeaturesPart
from eval.stilllife.train.second import SecondPart


def draw(seed, n=40, points=6):
    return np.random.default_rng(seed).random((n, points))


def test_the_correlation_over_pictures_is_the_mean_of_torchmetrics_over_the_points():
    first, second = draw(0), draw(0) + draw(1)
    first[:, 0] = 0.5  # a point at which the judge sees no difference between pictures: it has no rank correlation
    by_point = [spearman_corrcoef(*map(torch.from_numpy, pair)).item() for pair in zip(first.T, second.T, strict=True)]
    assert correlate_pictures(first, second) == pytest.approx(np.mean(by_point[1:]), abs=1e-6)
    assert correlate_pictures(first, second) < correlate_pictures(second, second) == pytest.approx(1)
    assert np.isnan(correlate_pictures(np.ones((40, 2)), second[:, :2]))
    assert np.isnan(correlate_pictures(first[:2], second[:2]))


def test_kappa_is_of_the_verdicts_at_all_points():
    """By its definition, on a table of counts."""
    both, first_alone, second_alone, neither = 40, 10, 6, 24
    first = np.repeat([1.0, 1, 0, 0], [both, first_alone, second_alone, neither]).reshape(20, 4)
    second = np.repeat([1.0, 0, 1, 0], [both, first_alone, second_alone, neither]).reshape(20, 4)
    same, chance = 64 / 80, (50 / 80) * (46 / 80) + (30 / 80) * (34 / 80)
    assert compute_kappa(first, second) == pytest.approx((same - chance) / (1 - chance), abs=1e-6)
    assert np.isnan(compute_kappa(np.ones((4, 2)), np.ones((4, 2))))


def test_few_or_equal_scores_have_no_rank_correlation():
    assert np.isnan(correlate([0.1, 0.2], [0.3, 0.4]))
    assert np.isnan(correlate([0.1, 0.1, 0.1], [0.3, 0.4, 0.5]))
    assert correlate([0.1, 0.2, 0.3], [1, 2, 9]) == pytest.approx(1)


SETTINGS = Settings(Path("unused"), resamples=200)


def make_points(values):
    return [Judgement(estimate_mean(column), column) for column in values.T]


def test_a_score_of_verdicts_has_kappa_and_others_a_correlation_each_with_an_interval():
    first = draw(0) + np.linspace(0, 1, 6)
    second = first + 0.5 * draw(1)
    row = compare_score("lpips", make_points(first), make_points(second), SETTINGS)
    assert row.kind == "rho"
    assert (row.points, row.pictures) == (6, 40)
    assert row.spearman.value == pytest.approx(spearmanr(first.mean(0), second.mean(0)).statistic)
    assert row.kendall.value == pytest.approx(kendalltau(first.mean(0), second.mean(0)).statistic)
    assert row.by_picture.low < row.by_picture.value < row.by_picture.high
    seen = [make_points((values > 0.9).astype(float)) for values in (first, second)]
    row = compare_score("accuracy", *seen, SETTINGS)
    assert row.kind == "kappa"
    pair = (torch.from_numpy((values > 0.9).astype(int)) for values in (first, second))
    assert row.by_picture.value == pytest.approx(binary_cohen_kappa(*pair).item(), abs=1e-6)
    assert row.by_picture.low < row.by_picture.value < row.by_picture.high


def test_the_interval_of_agreement_covers_what_many_pictures_have():
    """In 18 or more of 20 draws of 60 pictures, where one judge is the other with a fifth of its verdicts redrawn."""
    chance = np.linspace(0.2, 0.8, 5)

    def judge(seed, n):
        random = np.random.default_rng(seed)
        first = random.random((n, 5)) < chance
        return np.where(random.random((n, 5)) < 0.2, random.random((n, 5)) < chance, first).astype(float), first * 1.0

    truth, covered = compute_kappa(*judge(0, 20000)), 0
    for seed in range(1, 21):
        found = Figure().with_interval(compute_kappa, *judge(seed, 60), SETTINGS)
        covered += found.low <= truth <= found.high
    assert covered >= 18


def load_tiny(folder):
    return StableDiffusion.from_pretrained(str(TinyPipeline(latent=16, tokens=77).write(folder / "tiny")), device="cpu")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """(a run of a bound, one of a method with three strengths, the metrics of two judges, cache), random weights."""
    folder = tmp_path_factory.mktemp("judged")
    FeaturesPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "first")
    SecondPart(channels=(8, 8, 16, 16), validation=2, seed=0, whitening=32).export(folder / "second")
    backbone = load_tiny(folder)
    roots = {name: folder / "runs/stilllife_scenes/tiny" / name / "default" for name in ("copy", "sdedit")}
    for name, editor in {"copy": Copy(), "sdedit": SDEdit()}.items():
        edit_benchmark(roots[name], StillLifeScenes(size=6), editor, backbone, [0.25, 0.5, 1.0], 4)
    pair = tuple(
        {
            "lpips": Lpips(load(str(folder / name), "cpu")),
            "accuracy": EditAccuracy(StillLifeExtractor(str(folder / name), "logits", "cpu")),
            "mask_iou": MaskIou(),
            "sfid": SetDistance(Sfid(), StillLifeExtractor(str(folder / name), device="cpu"), 16),
        }
        for name in ("first", "second")
    )
    return roots, pair, folder / "cache"


def test_judges_are_compared_on_methods_alone_by_what_they_measure_apart(judged):
    roots, pair, cache = judged
    settings = Settings(cache, resamples=50)
    rows = {row.score: row for row in compare_judges(list(roots.values()), pair, settings)}
    assert set(rows) == {
        "lpips",
        "accuracy",
        "kept",
        "both",
        "sfid",
        "sfid_debiased",
    }  # masks are measured without a network
    assert {row.points for row in rows.values()} == {3}  # of copy there is none
    assert {name: row.kind for name, row in rows.items()} == {
        **{"lpips": "rho", "accuracy": "kappa", "kept": "rho", "both": "kappa"},
        **{"sfid": "", "sfid_debiased": ""},  # of the set: no picture has a value of its own
    }
    assert np.isfinite(rows["sfid"].kendall).all()
    assert np.isnan(rows["sfid"].by_picture).all()
    text = render(build_agreement_table(list(rows.values()), ("first", "second"), title="scenes"))
    assert "scenes: agreement of networks=first and networks=second" in text
    assert "nan" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert not (roots["sdedit"] / "scores/lpips.json").exists()  # nothing is written beside the runs


def test_what_is_compared_are_the_scores_of_either_network(judged):
    """Kendall's of the scores that `diffedit score` writes by the one and by the other."""
    roots, pair, cache = judged
    settings, means = Settings(cache, resamples=50), []
    (row,) = compare_judges([roots["sdedit"]], tuple({"lpips": metrics["lpips"]} for metrics in pair), settings)
    for metrics in pair:
        score(roots["sdedit"], {"lpips": metrics["lpips"]}, settings)
        table = read_run_scores(roots["sdedit"])
        means.append(table[table.run != ""].sort_values("strength").value)
    assert row.kendall.value == pytest.approx(kendalltau(*means).statistic)


def test_what_cannot_be_compared_is_refused_by_name(judged, tmp_path):
    roots, (first, second), cache = judged
    settings = Settings(cache)
    with pytest.raises(ValueError, match="mask_iou: measured alike by both networks"):
        compare_judges(list(roots.values()), ({"mask_iou": MaskIou()}, {"mask_iou": MaskIou()}), settings)
    with pytest.raises(ValueError, match="bounds alone, such as copy"):
        compare_judges([roots["copy"]], (first, second), settings)
    other = edit_benchmark(tmp_path / "other", StillLifeScenes(size=2), SDEdit(), load_tiny(tmp_path), [1.0], 2)
    with pytest.raises(ValueError, match=r"sdedit/default and .*other are of different requests"):
        compare_judges([roots["sdedit"], other], (first, second), settings)


def test_the_command_prints_a_table_of_agreement(judged, capsys, tmp_path):
    """And the scores that it keeps are those of networks=."""
    roots = judged[0]
    words = [f"runs={roots['sdedit']}", f"cache={tmp_path}", "resamples=20", "metric=[lpips,mask_iou]"]
    assert main(["score", *words, "agree=stilllife_second"]) == 0
    printed = capsys.readouterr().out
    assert "agreement of networks=stilllife and networks=stilllife_second" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("lpips  ") and "ρ" in line)
    assert line.split()[1] == "3"
    (made_by,) = set(read_run_scores(roots["sdedit"], ["lpips"]).made_by)
    assert load("weights/stilllife_features", "cpu").hash in made_by
    assert main(["score", *words, "agree=stilllife"]) == 2
    assert "agree = stilllife" in capsys.readouterr().err


def test_scores_by_both_judges_stand_in_no_table_together(judged):
    roots, pair, cache = judged
    tables = []
    for metrics in pair:
        score(roots["sdedit"], {"lpips": metrics["lpips"]}, Settings(cache, resamples=20))
        tables.append(read_run_scores(roots["sdedit"], ["lpips"]))
    with pytest.raises(NotComparableError, match="lpips was measured in different ways"):
        check_comparable(pd.concat(tables))
