"""Contact sheets of runs."""

import numpy as np
import pytest
import torch

from baselines.bounds import Copy
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline
from diffedit.testing import TinyPipeline
from eval.reporting.contact_sheet import GAP, draw_contrast_map, draw_overlay, draw_run_sheet, draw_sheet, spread
from eval.scoring.finished_run import FinishedRun
from eval.stilllife.benchmarks import StillLifeScenes


@pytest.fixture
def edit(tmp_path):
    """Makes a finished run of a method on some scenes."""
    backbone = StableDiffusion.from_pretrained(
        str(TinyPipeline(latent=16, tokens=77).write(tmp_path / "tiny")), device="cpu"
    )

    def edit(editor, size):
        root = tmp_path / "scenes/tiny" / type(editor).__name__ / str(size)
        settings = RunSettings(ratios=(0.5, 1.0), steps=4, progress=False)
        run_benchmark(StillLifeScenes(size=size), EditPipeline(editor), backbone, root, settings)
        return FinishedRun(root)

    return edit


def test_runs_of_the_same_requests_have_a_row_each(edit):
    runs = [edit(DiffEdit(), 3), edit(Copy(), 3)]
    one, both = (draw_run_sheet(part, 2) for part in (runs[:1], runs))
    assert both.width == one.width == GAP + 6 * (128 + GAP)  # input, map, mask, two edits, the true edit
    assert both.height - GAP == 2 * (one.height - GAP)
    assert draw_run_sheet(runs[:1], 9).height - GAP == 1.5 * (one.height - GAP)
    assert np.array_equal(np.asarray(both)[: one.height // 2], np.asarray(one)[: one.height // 2])
    with pytest.raises(ValueError, match=r"2 has other requests than .*3"):
        draw_run_sheet([runs[0], edit(Copy(), 2)], 2)


def test_requests_are_spread_evenly():
    assert spread(10, 3) == [0, 3, 6]
    assert spread(2, 8) == [0, 1]


def test_a_mask_is_red_and_a_map_has_its_whole_range():
    mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    mask[..., 0] = True
    pixels = np.asarray(draw_overlay(torch.full((3, 4, 4), 0.5), mask))
    assert pixels[0, 0].tolist() == [192, 94, 84]
    assert pixels[0, 3].tolist() == [102, 102, 102]
    assert np.unique(np.asarray(draw_contrast_map(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), (8, 8)))).tolist() == [0, 255]
    assert not np.asarray(draw_contrast_map(torch.ones(2, 2), (8, 8))).any()


def test_a_title_that_does_not_fit_is_cut():
    picture = draw_overlay(torch.zeros(3, 128, 128), torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    row = [("a caption", picture)]
    assert draw_sheet([row], 50 * "a title").size == draw_sheet([row], "a title").size
