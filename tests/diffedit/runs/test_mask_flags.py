"""Masks that are worth a look are named at the end of a run, with the rule that made them."""

import logging

import pytest
from helpers import Pictures, find_record

from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.mask import ContrastMask, Fixed, KeepOutliers
from diffedit.runs.held import FLAGS
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

ALL = ContrastMask(num_noises=2, outliers=KeepOutliers(), threshold=Fixed(0.0))


@pytest.mark.parametrize(
    ("finder", "flag"),
    [(ALL, "nearly full"), (ContrastMask(num_noises=5, floor=3.1), "no contrast"), (ContrastMask(num_noises=2), "")],
)
def test_odd_masks_are_named_with_their_rule(tmp_path, caplog, finder, flag):
    """All but the smallest value is nearly everything; of noise for pictures not all have contrast that agrees."""
    with caplog.at_level(logging.WARNING, "run"):
        table = run_benchmark(
            Pictures(4), EditPipeline(DiffEdit(finder)), AnalyticBackbone(), tmp_path, RunSettings((0.5,), 4)
        )
    flagged = list(table.id[table.mask_flag == flag])
    assert flagged
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("masks: ")]
    if not flag:
        assert said == []
        return
    rule = f"; by {finder.describe_rule()}"
    assert said == [f"masks: {len(flagged)} {flag} ({FLAGS[flag]}): {', '.join(flagged)}{rule}"]
    for name in flagged:
        facts = find_record(tmp_path, name)["metadata"]
        assert facts["mask_rule"] == finder.describe_rule()
        assert (facts["mask_area"] > 0.95) == (flag == "nearly full")
