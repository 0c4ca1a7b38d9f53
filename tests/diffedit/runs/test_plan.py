"""A plan says what the run then makes, and begins nothing."""

import io
from dataclasses import replace

import pytest
from helpers import Pictures, edit_counted, lose_record
from rich.console import Console

from baselines.bounds import Copy
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.sizes import BatchSizes
from diffedit.mask import ContrastMask
from diffedit.runs.describe import describe_run
from diffedit.runs.loop import RunSettings
from diffedit.runs.plan import LOOKED_AT, Plan, describe_seconds, plan_benchmark, spread_evenly
from diffedit.stages.pipeline import EditPipeline

SETTINGS = RunSettings((0.4, 0.8), 5, batch=BatchSizes(4, 1, 2, 1), progress=False)
MASK = ContrastMask(num_noises=4)
METHODS = {
    "DiffEdit": DiffEdit(mask=MASK),
    "its noise": DiffEdit(mask=replace(MASK, num_noises=7), start="noise"),
    "Encode-Decode": EncodeDecode(),
    "SDEdit": SDEdit(repeats=2),
    "SDEdit without guidance": SDEdit(guidance=1.0),
    "Copy": Copy(),
}


def edit(root, editor, **changed):
    """The evaluations that a run made, and those that it did not."""
    return edit_counted(root, editor, Pictures(2), AnalyticBackbone(), replace(SETTINGS, **changed))


def plan(root, editor, benchmark=None, **changed):
    """The plan of a run as `edit` makes it."""
    pipeline, backbone, settings = EditPipeline(editor), AnalyticBackbone(), replace(SETTINGS, **changed)
    benchmark = benchmark or Pictures(2)
    config = describe_run(benchmark, pipeline, backbone, settings)
    return plan_benchmark(benchmark, pipeline, backbone, root, settings, config)


@pytest.mark.parametrize("name", METHODS)
def test_the_plan_is_what_the_run_makes(tmp_path, name):
    planned = plan(tmp_path / "run", METHODS[name])
    assert not list(tmp_path.iterdir())
    made, _ = edit(tmp_path / "run", METHODS[name])
    assert (planned.made, planned.recalled) == (made, {})
    assert planned.requests == 2
    assert not plan(tmp_path / "run", METHODS[name]).made  # all is done


@pytest.mark.parametrize("edits", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_the_plan_knows_what_the_cache_saves(tmp_path, name, edits):
    options = {"cache": tmp_path / "cache", "cache_edits": edits}
    edit(tmp_path / "first", DiffEdit(mask=MASK), **options)
    planned = plan(tmp_path / "run", METHODS[name], **options)
    assert (planned.made, planned.recalled) == edit(tmp_path / "run", METHODS[name], **options)


def test_a_run_that_was_begun_is_planned_from_where_it_stands(tmp_path):
    whole = plan(tmp_path / "run", EncodeDecode())
    edit(tmp_path / "run", EncodeDecode())
    lose_record(tmp_path / "run", "1")
    assert plan(tmp_path / "run", EncodeDecode()).made == {purpose: n // 2 for purpose, n in whole.made.items()}


def test_of_many_requests_some_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("diffedit.runs.plan.LOOKED_AT", 3)
    planned, two = plan(tmp_path, EncodeDecode(), Pictures(10)), plan(tmp_path, EncodeDecode())
    assert planned.looked_at == 3
    assert planned.made == {purpose: 5 * n for purpose, n in two.made.items()}
    assert spread_evenly(10, 4) == [0, 3, 6, 9]
    assert spread_evenly(LOOKED_AT, LOOKED_AT) == list(range(LOOKED_AT))


def test_the_time_is_that_of_the_calls(tmp_path, monkeypatch):
    """Rows over the size of a call, times the seconds of one."""
    monkeypatch.setattr("diffedit.runs.plan.time_call", lambda backbone, kind, row, size: 2.0)
    planned = plan(tmp_path, EncodeDecode())
    batch, evaluations = SETTINGS.batch, planned.made.total()
    assert planned.seconds == 2.0 * (evaluations / batch.predict + 2 / batch.encode + 4 / batch.decode)


def test_the_table_is_narrow(tmp_path):
    planned = replace(plan(tmp_path, DiffEdit(mask=MASK)), seconds=7300)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(planned.table())
    text = console.export_text()
    assert "2 requests to edit" in text
    assert "about 2.0 hours at this device's rate" in text
    assert max(map(len, text.splitlines())) <= 100
    assert [describe_seconds(s) for s in (5, 300, 90000 * 3)] == ["5 seconds", "5.0 minutes", "3.1 days"]
    assert Plan(0, 0).scale().made.total() == 0
