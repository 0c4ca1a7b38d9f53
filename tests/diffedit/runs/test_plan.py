"""A plan says what the run then makes, and begins nothing."""

import io
import json
import shutil
import time
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import Pictures, edit_counted, lose_record
from rich.console import Console

from baselines.bounds import Copy
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.sizes import AskedSizes, BatchSizes
from diffedit.mask import ContrastMask
from diffedit.runs import planner
from diffedit.runs.cut import ONE, Tasks, get_shard_path
from diffedit.runs.describe import describe_run
from diffedit.runs.earlier import choose_earlier, read_newest
from diffedit.runs.loop import RunSettings
from diffedit.runs.plan import (
    LOOKED_AT,
    LOOKED_INTO,
    Plan,
    Shards,
    describe_seconds,
    order_coarsely,
    plan_benchmark,
    spread_evenly,
)
from diffedit.runs.planner import Deadline, Planner, can_measure, find_latent, time_call
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Predict

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


def plan(root, editor, benchmark=None, tasks=ONE, **changed):
    """The plan of a run as `edit` makes it."""
    pipeline = editor if isinstance(editor, EditPipeline) else EditPipeline(editor)
    backbone, settings = AnalyticBackbone(), replace(SETTINGS, **changed)
    benchmark = benchmark or Pictures(2)
    config = describe_run(benchmark, pipeline, backbone, settings)
    return plan_benchmark(benchmark, pipeline, backbone, root, settings, config, tasks)


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
    monkeypatch.setattr("diffedit.runs.planner.time_call", lambda *args: 2.0)
    planned = plan(tmp_path / "run", EncodeDecode())
    batch, evaluations = SETTINGS.batch, planned.made.total()
    assert planned.seconds == 2.0 * (evaluations / batch.predict + 2 / batch.encode + 4 / batch.decode)


def show(planned):
    """The lines that a terminal shows."""
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(planned.table())
    return console.export_text().splitlines()


def test_the_table_is_narrow(tmp_path):
    planned = replace(plan(tmp_path / "run", DiffEdit(mask=MASK)), seconds=7300, shards=Shards(64, 12, 2))
    lines = show(planned)
    assert "2 requests to edit" in lines[0]
    assert "pictures: 4 to decode, 2 to encode" in lines
    assert "shards: 12 of 64 requests, 2 of them done" in lines
    assert "time: about 2.0 hours at this device's rate, of a few calls" in lines
    assert max(map(len, lines)) <= 100
    assert [describe_seconds(s) for s in (5, 300, 90000 * 3)] == ["5 seconds", "5.0 minutes", "3.1 days"]
    assert Plan(0, 0).scale().made.total() == 0


# ------------------------------------------------------------------------------------------------------- in ten seconds


def test_a_large_benchmark_is_planned_in_ten_seconds(tmp_path):
    """54,253 requests at seven ratios, by the processor's clock: other work on this machine does not count."""
    ratios = tuple(i / 10 for i in range(3, 10))
    one = plan(tmp_path / "one", DiffEdit(), Pictures(1), ratios=ratios, steps=50)
    began = time.process_time()
    planned = plan(tmp_path / "run", DiffEdit(), Pictures(54253), ratios=ratios, steps=50)
    assert time.process_time() - began < 10
    assert planned.made == {purpose: 54253 * n for purpose, n in one.made.items()}
    assert planned.shards == Shards(64, 848, 0)
    assert 1 <= planned.looked_at <= LOOKED_AT
    assert planned.seconds > 0


def test_what_there_is_no_time_for_is_estimated(tmp_path, monkeypatch):
    """One request is looked at in any case, and one call of each kind is timed."""
    whole = plan(tmp_path / "run", EncodeDecode(), Pictures(10))
    monkeypatch.setattr("diffedit.runs.plan.BUDGET", -1.0)
    planned = plan(tmp_path / "run", EncodeDecode(), Pictures(10))
    assert (whole.looked_at, planned.looked_at) == (10, 1)
    assert planned.made == whole.made
    assert planned.seconds > 0


def test_the_first_places_of_any_number_are_spread():
    places = order_coarsely(range(0, 80, 10))
    assert places == [0, 40, 20, 60, 10, 50, 30, 70]
    assert sorted(order_coarsely(range(13))) == list(range(13))


def test_calls_are_few_where_time_is_short(analytic, monkeypatch):
    sizes = []
    monkeypatch.setattr(planner, "time_rows", lambda backbone, kind, rows: sizes.append(len(rows)) or 3.0)
    assert time_call(analytic, Predict, (), 8, Deadline(47)) == 24.0
    assert sizes == [1]
    assert time_call(analytic, Predict, (), 8, Deadline(49)) == 3.0
    assert sizes == [1, 1, 8, 8, 8, 8]


def test_large_networks_are_not_called_on_a_cpu(tiny, tmp_path, monkeypatch):
    """What a latent is tells a part of a picture; the time is not known, and what to do about that is said."""
    picture = torch.rand(3, tiny.resolution, tiny.resolution)
    whole = find_latent(tiny, picture)
    monkeypatch.setattr(planner, "LARGE", 1)
    monkeypatch.setattr(planner, "CROP", 2)
    assert not can_measure(tiny)
    assert find_latent(tiny, picture).shape == whole.shape
    assert Planner(tiny, BatchSizes(), None).measure(Plan(1, 1, Counter(decoding=3)), Deadline(8)) == 0.0
    looked = Planner(tiny, BatchSizes(), None)
    looked.latents[tuple(picture.shape)] = whole
    assert looked.measure(Plan(1, 1, Counter(decoding=3)), Deadline(8)) is None
    assert "time: not known: there is no earlier run of this backbone" in show(Plan(1, 1, seconds=None))[-2]


def test_sizes_that_are_to_be_measured_are_not_for_a_plan(tmp_path, monkeypatch):
    monkeypatch.setattr("diffedit.engine.sizes.find_rates", pytest.fail)
    asked = plan(tmp_path / "run", EncodeDecode(), batch=AskedSizes.read("auto"))
    assert asked.made == plan(tmp_path / "run", EncodeDecode()).made


# --------------------------------------------------------------------------------------------------------- earlier runs


def test_an_earlier_run_of_the_backbone_tells_the_rate(tmp_path, monkeypatch):
    """No network is called then but for texts and one latent; a run of other weights says nothing."""
    edit(tmp_path / "first", SDEdit())
    table = pd.read_parquet(tmp_path / "first/manifest.parquet")
    requests = table.drop_duplicates("id")
    seconds = requests.seconds.sum() / (table.evaluations.sum() + requests.shared_evaluations.sum())
    monkeypatch.setattr(AnalyticBackbone, "predict", pytest.fail)
    planned = plan(tmp_path / "run", DiffEdit(mask=MASK), Pictures(5))
    assert planned.rate.run == tmp_path / "first"
    assert planned.seconds == pytest.approx(seconds * planned.made.total())
    assert f"as in {tmp_path / 'first'}" in " ".join(planned.describe())
    assert not choose_earlier([(tmp_path / "first", {"weights": {"settings": "x"}})], {"weights": {"settings": "y"}})
    assert not read_newest(tmp_path, {"settings": "another"}, Deadline(9))


def test_a_run_of_another_device_tells_nothing_of_this_one(tmp_path):
    """It does of tasks elsewhere; before it comes the newest of the same kind."""
    edit(tmp_path / "here", EncodeDecode())
    edit(tmp_path / "there", EncodeDecode())
    note = tmp_path / "there/environment.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"device": "NVIDIA H200"}))
    assert plan(tmp_path / "run", EncodeDecode()).rate.run == tmp_path / "here"
    elsewhere = plan(tmp_path / "run", EncodeDecode(), tasks=Tasks(4, None, is_here=False))
    assert (elsewhere.rate.run, elsewhere.rate.device) == (tmp_path / "there", "NVIDIA H200")
    shutil.rmtree(tmp_path / "here")
    assert plan(tmp_path / "run", EncodeDecode()).rate is None
    (tmp_path / "there/config.yaml").write_text("weights: [")
    assert plan(tmp_path / "run", EncodeDecode(), tasks=Tasks(4, None, is_here=False)).rate is None


# -------------------------------------------------------------------------------------------------------- shards, tasks


@pytest.mark.parametrize("looked_into", [LOOKED_INTO, 0], ids=["files", "feet"])
def test_shards_that_are_done_are_not_planned(tmp_path, monkeypatch, looked_into):
    """Of a small run by its files, of a large one by the feet of its shards."""
    monkeypatch.setattr("diffedit.runs.plan.LOOKED_INTO", looked_into)
    small = {"benchmark": Pictures(7), "shard_size": 3}
    edit_counted(tmp_path / "run", EncodeDecode(), Pictures(7), AnalyticBackbone(), replace(SETTINGS, shard_size=3))
    assert plan(tmp_path / "run", EncodeDecode(), **small).requests == 0
    get_shard_path(tmp_path / "run", 1).unlink()
    planned = plan(tmp_path / "run", EncodeDecode(), **small)
    assert (planned.requests, planned.shards) == (3, Shards(3, 3, 2))
    more = plan(tmp_path / "run", EncodeDecode(), **small, ratios=(0.2, 0.4, 0.8))
    assert (more.requests, more.shards) == (7, Shards(3, 3, 0))


def test_a_short_run_is_planned_as_its_processes_will_cut_it(tmp_path):
    planned = plan(tmp_path / "run", EncodeDecode(), Pictures(17), shard_size=None, tasks=Tasks(2))
    assert planned.shards == Shards(2, 9)


def test_a_large_run_is_looked_into_where_records_lie_beside_a_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("diffedit.runs.plan.LOOKED_INTO", 0)
    edit(tmp_path / "run", EncodeDecode())
    lose_record(tmp_path / "run", "1")
    assert plan(tmp_path / "run", EncodeDecode()).requests == 1


def test_what_each_task_does(tmp_path):
    tasks = Tasks(3, 2, is_here=False)
    planned = replace(
        plan(tmp_path / "run", EncodeDecode(), Pictures(10), shard_size=2, tasks=tasks), seconds=1000, space=None
    )
    assert list(planned.describe())[-1] == (
        "3 tasks: 2 shards (4 requests) each at most, about 6.7 minutes a task and 13.3 minutes in all, 2 at once, "
        "beside loading, if each is as fast as this device"
    )
    assert "a task" not in list(replace(planned, seconds=None).describe())[-1]


# ----------------------------------------------------------------------------------------------------------------- disk


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_written_is_no_more_than_the_bound(tmp_path, name, samples):
    """Pictures are noise here, which nothing compresses; then an earlier run says how many bytes there are."""
    pipeline = EditPipeline(METHODS[name], samples=samples)
    space = plan(tmp_path / "run", pipeline).space
    edit_counted(tmp_path / "run", pipeline, Pictures(2), AnalyticBackbone(), SETTINGS)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    pictures = sum(path.stat().st_size for path in files if path.suffix in (".png", ".npy"))
    assert space.bounded
    assert sum(path.stat().st_size for path in files) <= space.bytes
    assert len(files) <= space.files <= len(files) + 5
    again = plan(tmp_path / "again", pipeline).space
    assert not again.bounded
    assert again.run == tmp_path / "run"
    tables = 2 * get_shard_path(tmp_path / "run", 0).stat().st_size
    assert again.bytes == pictures + tables


def test_a_disk_that_is_too_small_is_told(tmp_path):
    space = plan(tmp_path / "run", EncodeDecode()).space
    assert space.fits
    assert "IT DOES NOT FIT" in replace(space, free=10).describe()
    assert "IT DOES NOT FIT" in replace(space, free_files=3).describe()
    assert replace(space, free=None, free_files=None).fits
    edit(tmp_path / "run", EncodeDecode())
    assert plan(tmp_path / "run", EncodeDecode()).space is None  # nothing is left
