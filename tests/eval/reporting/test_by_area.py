"""IoU of masks by the area that is to be edited, beside what the latent grid allows."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import edit_benchmark, render
from PIL import Image

from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.commands.plot import main
from diffedit.diffedit import DiffEdit
from diffedit.mask import ContrastMask, MeanClamp, Quantile
from diffedit.testing import TinyPipeline
from diffedit.types import EditRequest
from eval.metrics.ground_truth import MaskCeiling, MaskIou
from eval.reporting.by_area import CEILING, COLUMNS, average_by_area, build_area_table, draw_by_area
from eval.reporting.collect import collect
from eval.scoring.batch import Batch
from eval.scoring.score import Settings, score_runs
from eval.stilllife.sizes import StillLifeSizes

EDGES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6]
RULES = {"quantile": Quantile(), "mean_clamp": MeanClamp()}
COUNT = 12


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Scored runs of two rules, by random weights."""
    folder = tmp_path_factory.mktemp("sizes")
    weights = TinyPipeline(latent=16, tokens=77).write(folder / "tiny")
    backbone = StableDiffusion.from_pretrained(str(weights), device="cpu")
    roots = [folder / "runs/stilllife_sizes/tiny/diffedit" / f"rule={name}" for name in RULES]
    for root, rule in zip(roots, RULES.values(), strict=True):
        editor = DiffEdit(ContrastMask(num_noises=2, outliers=rule))
        edit_benchmark(root, StillLifeSizes(size=COUNT), editor, backbone, [0.5], 2)
    metrics = {"mask_iou": MaskIou(), "mask_ceiling": MaskCeiling()}
    assert score_runs(roots, metrics, Settings(folder / "cache", resamples=100)) == roots
    return roots


def measure(root):
    """Area, IoU and ceiling of every request, from the files, in numpy."""
    rows = []
    for request in StillLifeSizes(size=COUNT).requests(64):
        exact = request.true_mask()[0].numpy() > 0.5
        mask = np.asarray(Image.open(root / "masks" / f"{request.id}.png")) > 127
        grid = exact.reshape(16, 4, 16, 4).mean((1, 3)) > 0.5
        pair = [(one & exact).sum() / (one | exact).sum() for one in (mask, grid.repeat(4, 0).repeat(4, 1))]
        rows.append((exact.mean(), *pair))
    return np.array(rows)


def test_the_table_is_the_mean_of_the_pictures_of_each_range(runs):
    ranges = average_by_area(collect(runs), "mask_iou", EDGES, resamples=100)
    assert list(dict.fromkeys(ranges.method)) == [
        "mask_ceiling",
        "diffedit (rule=quantile)",
        "diffedit (rule=mean_clamp)",
    ]
    measured = {method: measure(root) for method, root in zip(ranges.method.unique()[1:], runs, strict=True)}
    measured["mask_ceiling"] = measured["diffedit (rule=quantile)"][:, [0, 2, 1]]
    for method, part in ranges.groupby("method", sort=False):
        assert [*zip(part["from"], part.to, strict=True)] == list(pairwise(EDGES))
        for row in part.rename(columns={"from": "start"}).itertuples():
            areas, values, _ = measured[method].T
            inside = (areas >= row.start) & (areas < row.to)
            assert row.n == inside.sum() == 2
            assert row.value == pytest.approx(values[inside].mean())
            assert row.area == pytest.approx(areas[inside].mean())
            assert row.low <= row.value <= row.high


def test_runs_of_several_seeds_are_averaged_for_each_picture(runs):
    """As `merge_seeds` hands them over: the first is the run, `runs` are all."""
    scores = collect(runs)
    merged = scores[scores.run == str(runs[0])]
    merged = merged.assign(runs=[tuple(map(str, runs))] * len(merged))
    ranges = average_by_area(merged, "mask_iou", [0.01, 0.6], resamples=100)
    (value,) = ranges.value[ranges.method != "mask_ceiling"]
    means = [measure(root)[:, 1].mean() for root in runs]
    assert abs(means[0] - means[1]) > 1e-3
    assert value == pytest.approx(np.mean(means))
    assert list(ranges.n) == [COUNT, COUNT]


def test_the_ceiling_falls_as_the_area_does(runs):
    ranges = average_by_area(collect(runs), "mask_iou", EDGES, resamples=100)
    ceiling = ranges[ranges.method == "mask_ceiling"].value.to_numpy()
    assert ceiling[0] < 0.6 < 0.9 < ceiling[-1]
    text = render(build_area_table(ranges, "mask_iou", "stilllife_sizes"))
    assert all(
        head in text for head in ("1-2%", "40-60%", "mask_ceiling", f"{ceiling[0]:.2f}±", "n = 2, 2, 2, 2, 2, 2")
    )
    figure = draw_by_area(ranges, "mask_iou")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "what the latent grid allows",
        "diffedit (rule=quantile)",
        "diffedit (rule=mean_clamp)",
    ]
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "what the latent grid allows")
    assert list(line.get_ydata()) == list(ceiling)


def test_the_command_prints_the_table_and_draws_the_plot(runs, tmp_path, capfd):
    options = ["x=mask_ceiling", "y=[mask_iou]", "match_at=[]", "by_area=[mask_iou]", f"out={tmp_path}"]
    assert main([f"runs={runs[0].parent}/*", *options]) == 0
    said = "".join(capfd.readouterr())
    assert "mask_iou by the share of the picture" in said
    assert "…" not in said
    assert {path.suffix for path in tmp_path.glob("*mask_iou_by_area*")} == {".png", ".pdf", ".svg", ".csv"}
    (table,) = tmp_path.glob("*mask_iou_by_area.csv")
    written = pd.read_csv(table)
    assert list(written) == COLUMNS
    assert set(written.method) >= {CEILING}


def test_what_was_not_scored_so_is_said_and_left_out(runs, tmp_path, capfd):
    options = ["x=mask_ceiling", "y=[mask_iou]", "match_at=[]", "by_area=[lpips]", f"out={tmp_path}"]
    assert main([f"runs={runs[0].parent}/*", *options]) == 0
    assert "no lpips by area" in "".join(capfd.readouterr())
    assert not list(tmp_path.glob("*by_area*"))


def test_the_ceiling_needs_a_grid_and_an_exact_mask():
    request = EditRequest("a", lambda: None, "b", mask=lambda: torch.ones(1, 64, 64))
    assert "latent grid" in MaskCeiling().undefined_reason(Batch([request], None, None, None))
    bare = EditRequest("a", lambda: None, "b")
    assert "exact masks" in MaskCeiling().undefined_reason(Batch([bare], None, None, None, grid=(16, 16)))
