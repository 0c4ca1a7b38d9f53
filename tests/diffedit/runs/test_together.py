"""Several runs in one engine: each leaves the bytes that it leaves alone; what goes wrong with one stops no other."""

import hashlib
import json
import logging
import os
import re
import threading
import time
from dataclasses import dataclass, replace

import pandas as pd
import pytest
from helpers import Pictures, find_record, read_counts, read_run

from baselines.bounds import Copy
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes
from diffedit.mask import ContrastMask, Fixed
from diffedit.runs import claim as claims
from diffedit.runs.claim import NAME, BusyError, claim
from diffedit.runs.cut import count_records
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.held import AskedRun
from diffedit.runs.log import RunLog
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.runs.plan import plan_together
from diffedit.runs.together import edit_together
from diffedit.stages.background import NoReconstruction, PixelPaste
from diffedit.stages.pipeline import EditPipeline

SETTINGS = RunSettings((0.4, 0.8), 5, batch=BatchSizes(4, 1, 2, 1), progress=False)
MASK = ContrastMask(num_noises=4)
PICTURES = Pictures(3)
RUNS = {  # of one sweep: a method, and the settings that are its own
    "DiffEdit": (DiffEdit(mask=MASK), {}),
    "without encoding": (DiffEdit(mask=MASK, start="noise"), {}),
    "Encode-Decode": (EncodeDecode(), {}),
    "SDEdit": (SDEdit(), {}),
    "a low threshold": (DiffEdit(mask=replace(MASK, threshold=Fixed(0.3))), {}),
    "a high threshold": (DiffEdit(mask=replace(MASK, threshold=Fixed(0.7))), {}),
    "the same, with one ratio more": (DiffEdit(mask=MASK), {"ratios": (0.2, 0.4, 0.8)}),
    "more steps": (DiffEdit(mask=MASK), {"steps": 7}),
    "another seed": (DiffEdit(mask=MASK), {"seed": 1}),
    "another benchmark": (DiffEdit(mask=MASK), {"benchmark": Pictures(5, names=("a", "b", "c", "d", "e"))}),
    "two samples, reconstructed": (EditPipeline(DiffEdit(mask=MASK), PixelPaste(), samples=2), {}),
    "another call size": (EncodeDecode(), {"batch": BatchSizes(8, 1, 2, 1)}),
    "copy": (Copy(), {}),
}
FEW = ("DiffEdit", "SDEdit", "Encode-Decode")


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    """Whether others are at work is not looked at, which takes a moment each time."""
    monkeypatch.setattr("diffedit.runs.edit.warn_of_load", lambda: None)


def ask(root, name, benchmark=PICTURES, **changed):
    """A run as `RUNS` has it, to be edited beside others."""
    editor, own = RUNS[name]
    own = dict(own)
    benchmark = own.pop("benchmark", benchmark)
    pipeline = editor if isinstance(editor, EditPipeline) else EditPipeline(editor)
    return AskedRun(benchmark, pipeline, root / name, replace(SETTINGS, **own | changed))


def edit_alone(asked, backbone):
    run_benchmark(asked.benchmark, asked.pipeline, backbone, asked.root, asked.settings)


def edit(asked, backbone):
    """Edit runs together; returns their errors, by name."""
    told = {}
    edit_together(asked, backbone, lambda run, error: told.setdefault(run.root.name, error))
    return told


def read_files(root):
    """The hash of every file that a run left, but for its time and for what has one in it."""
    files = read_run(root)
    for name, content in files.items():
        if name.startswith("record of "):
            content["metadata"].pop("reconstruct_seconds", None)
            files[name] = json.dumps(content).encode()
    table = pd.read_parquet(root / "manifest.parquet").drop(columns=["seconds", "reconstruct_seconds"], errors="ignore")
    files["manifest.parquet"] = table.to_csv().encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What each run leaves that is edited by itself."""
    root, backbone = tmp_path_factory.mktemp("alone"), AnalyticBackbone()
    for name in RUNS:
        edit_alone(ask(root, name), backbone)
    files = {name: read_files(root / name) for name in RUNS}
    assert len({json.dumps(each) for each in files.values()}) == len(RUNS)
    return files


@pytest.mark.parametrize("options", [{}, {"cache": True}, {"cache_edits": False, "max_live": 2}], ids=str)
def test_each_run_leaves_the_bytes_that_it_leaves_alone(tmp_path, analytic, alone, options):
    options = options | ({"cache": tmp_path / "cache"} if "cache" in options else {})
    assert edit([ask(tmp_path, name, **options) for name in RUNS], analytic) == {}
    for name in RUNS:
        assert read_files(tmp_path / name) == alone[name], name


def test_on_networks_too(tmp_path, tiny):
    names = ["DiffEdit", "SDEdit", "a low threshold"]
    for name in names:
        edit_alone(ask(tmp_path / "alone", name, Pictures(2)), tiny)
    assert edit([ask(tmp_path / "together", name, Pictures(2)) for name in names], tiny) == {}
    for name in names:
        assert read_files(tmp_path / "together" / name) == read_files(tmp_path / "alone" / name), name


# -------------------------------------------------------------------------------------------------------- what it costs


def list_ablations():
    """The paper's ablations and sweeps: each sweep has the default in it."""
    mask = ContrastMask(num_noises=6)
    yield from (DiffEdit(mask=mask), DiffEdit(mask=mask, start="noise"), EncodeDecode(), SDEdit())
    yield from (DiffEdit(mask=replace(mask, threshold=Fixed(value))) for value in (0.3, 0.5, 0.7))
    yield from (DiffEdit(mask=replace(mask, num_noises=n)) for n in (3, 6, 12))
    yield from (DiffEdit(mask=replace(mask, noise_strength=ratio)) for ratio in (0.3, 0.5, 0.7))
    yield from (DiffEdit(mask=mask, guidance=scale) for scale in (3.0, 5.0, 7.5))


def count(caplog):
    """Evaluations that were made, and those that were not, of all runs."""
    lines = [record.getMessage() for record in caplog.records]
    return [sum(read_counts(lines, f"evaluations {words}: ").values()) for words in ("made", "not made again")]


@pytest.mark.parametrize(("edits", "most"), [(False, 0.85), (True, 0.70)])
def test_a_set_of_ablations_costs_what_differs(tmp_path, caplog, edits, most):
    """Counted once for all; each table has the costs of its run by itself."""
    caplog.set_level(logging.INFO, "run")
    settings = replace(SETTINGS, steps=10, ratios=(0.3, 0.5, 0.7, 0.9), cache_edits=edits)
    editors = enumerate(list_ablations())
    asked = [AskedRun(Pictures(1), EditPipeline(editor), tmp_path / str(k), settings) for k, editor in editors]
    assert edit(asked, AnalyticBackbone(4)) == {}
    tables = [pd.read_parquet(run.root / "manifest.parquet") for run in asked]
    apart = sum(table.evaluations.sum() + table.drop_duplicates("id").shared_evaluations.sum() for table in tables)
    decodings, inversions, maps = 16 * 2 * (3 + 5 + 7 + 9), 14 * 9, 2 * (12 * 6 + 3 + 12)
    assert apart == decodings + inversions + maps
    made, recalled = count(caplog)
    assert made + recalled == apart
    assert made / apart <= most


def test_runs_that_wait_for_each_other_fill_their_calls(tmp_path, caplog):
    """Whoever waits for work goes on when it is there, and not when its maker ends."""
    caplog.set_level(logging.INFO, "run")
    settings = replace(SETTINGS, steps=10, batch=BatchSizes())
    editors = enumerate([DiffEdit(), DiffEdit(start="noise"), EncodeDecode(), SDEdit()])
    asked = [AskedRun(Pictures(6), EditPipeline(editor), tmp_path / str(k), settings) for k, editor in editors]
    assert edit(asked, AnalyticBackbone(4)) == {}
    rows, padding = re.search(r": ([\d,]+) predict, ([\d,]+) of them", caplog.text).groups()
    assert int(rows.replace(",", "")) == count(caplog)[0] + int(padding)
    assert int(padding) < 0.05 * count(caplog)[0]


def test_one_run_in_memory_shares_nothing_and_keeps_nothing(tmp_path, analytic, caplog):
    caplog.set_level(logging.INFO, "run")
    assert edit([ask(tmp_path, "DiffEdit")], analytic) == {}
    assert "edited together" not in caplog.text
    assert "not made again" not in caplog.text


@dataclass(frozen=True)
class Counted(Pictures):
    """It notes what is opened."""

    opened: tuple = ()

    def load(self, i, resolution):
        self.opened[0].append(i)
        return super().load(i, resolution)


def test_a_picture_is_opened_once_for_all(tmp_path, analytic):
    benchmark = Counted(3, opened=([],))
    assert edit([ask(tmp_path, name, benchmark) for name in FEW], analytic) == {}
    assert sorted(benchmark.opened[0]) == [0, 1, 2]


def test_the_plan_is_what_they_make(tmp_path, analytic, caplog):
    caplog.set_level(logging.INFO, "run")
    names = ["DiffEdit", "Encode-Decode", "SDEdit", "a low threshold", "the same, with one ratio more"]
    (plan,) = plan_together([ask(tmp_path, name) for name in names], analytic, pytest.fail)
    assert plan.requests == 3 * len(names)
    assert not list(tmp_path.iterdir())
    assert edit([ask(tmp_path, name) for name in names], analytic) == {}
    assert [plan.made.total(), plan.recalled.total()] == count(caplog)


# --------------------------------------------------------------------------------------------- what goes wrong with one


def finish(asked, backbone, alone):
    """Edit runs again, none of which has anything wrong with it: all leave what they leave alone."""
    assert edit(asked, backbone) == {}
    for run in asked:
        assert read_files(run.root) == alone[run.root.name], run.root.name


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_a_request_that_fails_fails_its_own_run(tmp_path, analytic, alone, on_error):
    broken = ask(tmp_path, "DiffEdit", Pictures(3, broken=1), on_error=on_error)
    told = edit([broken, *[ask(tmp_path, name) for name in FEW[1:]]], analytic)
    assert list(told) == ["DiffEdit"]
    assert isinstance(told["DiffEdit"], RunFailedError)
    assert ("on_error=stop" in str(told["DiffEdit"])) == (on_error == "stop")
    record = find_record(tmp_path / "DiffEdit", "1")
    assert (record["status"], record["error"]) == ("failed", "OSError: broken")
    for name in FEW[1:]:
        assert read_files(tmp_path / name) == alone[name]
    (tmp_path / "DiffEdit/config.yaml").unlink()  # it names the broken picture
    finish([ask(tmp_path, "DiffEdit")], analytic, alone)


@dataclass(frozen=True)
class Short(Pictures):
    """Its table ends in the middle, once it is read a third time."""

    reads: tuple = ()

    def requests(self, resolution):
        self.reads[0].append(1)
        for request in super().requests(resolution):
            if len(self.reads[0]) > 2 and request.id == "2":
                raise RuntimeError("cut short")
            yield request


def test_a_benchmark_that_breaks_off_fails_its_own_runs(tmp_path, analytic, alone):
    asked = [ask(tmp_path, name, Short(3, reads=([],)) if name == "DiffEdit" else PICTURES) for name in FEW]
    told = edit(asked, analytic)
    assert {name: str(error) for name, error in told.items()} == {"DiffEdit": "cut short"}
    for name in FEW[1:]:
        assert read_files(tmp_path / name) == alone[name]


def test_what_is_wrong_with_the_engine_is_told_of_all(tmp_path, analytic, monkeypatch):
    def fail(*args):
        raise RuntimeError("no engine")

    monkeypatch.setattr("diffedit.runs.edit.edit_pending", fail)
    told = edit([ask(tmp_path, name) for name in FEW], analytic)
    assert {name: str(error) for name, error in told.items()} == dict.fromkeys(FEW, "no engine")
    assert not list(tmp_path.rglob(NAME))


@dataclass(frozen=True)
class RefusesTwo(NoReconstruction):
    """A stage that no picture with an edit at level 2 passes."""

    def __call__(self, request, result):
        if any(edit.level == 2 for edit in result.edits):
            raise ValueError("level 2")
        return (yield from super().__call__(request, result))


def test_a_request_that_fails_costs_what_it_costs_alone(tmp_path, analytic):
    """Also where some of its edits were taken over from another run."""
    pipeline = EditPipeline(DiffEdit(mask=MASK), RefusesTwo())
    for where in ("alone", "together"):
        settings = [replace(SETTINGS, ratios=(0.8,)), replace(SETTINGS, ratios=(0.4, 0.8))]
        asked = [AskedRun(PICTURES, pipeline, tmp_path / where / str(k), each) for k, each in enumerate(settings)]
        told = {}
        for group in [asked] if where == "together" else [[one] for one in asked]:
            told |= edit(group, analytic)
        assert list(told) == ["1"]
    for k in ("0", "1"):
        assert read_files(tmp_path / "together" / k) == read_files(tmp_path / "alone" / k)


def test_a_stopped_run_asks_nothing_more(tmp_path, analytic, caplog):
    """What it would have cost after the first request, which fails, is not spent."""
    caplog.set_level(logging.INFO, "run")
    settings = {"batch": BatchSizes(1, 1, 1, 1), "max_live": 2}
    stopped = ask(tmp_path, "without encoding", Pictures(30, broken=0), on_error="stop", **settings)
    assert list(edit([stopped, ask(tmp_path, "SDEdit", **settings)], analytic)) == ["without encoding"]
    made, _ = count(caplog)
    assert made <= 3 * 12 + 3  # of SDEdit, and a query of each that was under way


def test_what_is_refused_is_told_and_the_others_go_on(tmp_path, analytic, alone):
    edit_alone(ask(tmp_path, "another seed", seed=2), analytic)
    before = read_files(tmp_path / "another seed")
    maskless = ask(tmp_path, "SDEdit")
    maskless = replace(maskless, pipeline=EditPipeline(SDEdit(), PixelPaste()))
    asked = [maskless, *[ask(tmp_path, name) for name in ("another seed", "Encode-Decode", "DiffEdit")]]
    with claim(tmp_path / "Encode-Decode"):
        told = edit(asked, analytic)
    assert {name: type(error) for name, error in told.items()} == {
        "SDEdit": ValueError,
        "another seed": ConfigChangedError,
        "Encode-Decode": BusyError,
    }
    assert read_files(tmp_path / "another seed") == before
    assert not (tmp_path / "SDEdit").exists()
    assert not list((tmp_path / "Encode-Decode").iterdir())
    assert read_files(tmp_path / "DiffEdit") == alone["DiffEdit"]
    finish([ask(tmp_path, name) for name in FEW], analytic, alone)


def test_a_run_whose_claim_is_lost_stops_alone(tmp_path, analytic, alone, monkeypatch):
    take = claims.Claim.take

    def take_and_lose(self):
        is_ours = take(self)
        if self.path.parent.parent.name == "DiffEdit" and is_ours:
            self.path.write_text(json.dumps(claims.describe_self() | {"token": "of another"}))
        return is_ours

    monkeypatch.setattr(claims.Claim, "take", take_and_lose)
    told = edit([ask(tmp_path, name) for name in FEW], analytic)
    assert list(told) == ["DiffEdit"]
    assert f"process {os.getpid()} on" in str(told["DiffEdit"])
    assert not list(tmp_path.glob("DiffEdit/shards/*.parquet"))
    (tmp_path / "DiffEdit/shards/000000.claim").unlink()
    assert read_files(tmp_path / "SDEdit") == alone["SDEdit"]
    monkeypatch.undo()
    finish([ask(tmp_path, name) for name in FEW], analytic, alone)


def test_a_full_disk_is_told_of_the_run_that_it_stops(tmp_path, analytic, alone, monkeypatch):
    from diffedit.runs import directory

    write = directory.write

    def refuse(path, data):
        if "DiffEdit" in path.parts and path.suffix == ".png":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(directory, "write", refuse)
    told = edit([ask(tmp_path, name) for name in FEW], analytic)
    assert [(name, error.errno) for name, error in told.items()] == [("DiffEdit", 28)]
    monkeypatch.undo()
    finish([ask(tmp_path, name) for name in FEW], analytic, alone)


@pytest.mark.parametrize("calls", [5, 25, 40])
def test_all_go_on_after_a_kill(tmp_path, analytic, alone, monkeypatch, calls):
    predict, left = AnalyticBackbone.predict, iter(range(calls))

    def stop(*args):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return predict(*args)

    asked = [ask(tmp_path, name) for name in (*FEW, "a low threshold")]
    monkeypatch.setattr(AnalyticBackbone, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        edit(asked, analytic)
    monkeypatch.undo()
    for run in asked:
        assert (run.root / "manifest.parquet").exists()
        assert not (run.root / NAME).exists()
    done = sum(map(count_records, tmp_path.iterdir()))
    assert (done > 0) == (calls > 5)
    assert done < 3 * len(asked)
    finish(asked, analytic, alone)


# --------------------------------------------------------------------------------------------------- who waits for whom


def test_two_in_one_directory_come_one_after_the_other(tmp_path, analytic, alone):
    """As they do apart: the second finds all done, or another run there."""
    asked = [ask(tmp_path, "DiffEdit") for _ in range(2)] + [ask(tmp_path, "DiffEdit", seed=5), ask(tmp_path, "SDEdit")]
    told = edit(asked, analytic)
    assert [(name, type(error)) for name, error in told.items()] == [("DiffEdit", ConfigChangedError)]
    assert read_files(tmp_path / "DiffEdit") == alone["DiffEdit"]
    assert read_files(tmp_path / "SDEdit") == alone["SDEdit"]


def test_one_that_waits_for_another_process_holds_up_nobody(tmp_path, analytic, alone):
    """It comes last, and nothing is held meanwhile: two sweeps that wait for each other would never end."""
    asked = [ask(tmp_path, name, wait=True) for name in FEW]
    begun = threading.Event()

    def hold():
        with claim(tmp_path / FEW[0]):
            begun.set()
            while not all((tmp_path / name / "manifest.parquet").exists() for name in FEW[1:]):
                time.sleep(0.01)
            while any((tmp_path / name / NAME).exists() for name in FEW[1:]):
                time.sleep(0.01)

    other = threading.Thread(target=hold, daemon=True)
    other.start()
    begun.wait()
    finish(asked, analytic, alone)
    other.join(10)
    assert not other.is_alive()


# -------------------------------------------------------------------------------------------------------------- its log


def test_each_has_its_own_lines_and_those_of_all(tmp_path, analytic):
    log = logging.getLogger("run")
    level = log.level
    log.setLevel(logging.INFO)
    asked = []
    for name in FEW:
        handler = logging.FileHandler(tmp_path / f"{name}.log", delay=True)
        log.addHandler(handler)
        benchmark = Pictures(3, broken=1) if name == "SDEdit" else PICTURES
        asked.append(replace(ask(tmp_path, name, benchmark), log=RunLog([handler])))
    asked[2] = replace(asked[2], pipeline=EditPipeline(EncodeDecode(), PixelPaste()))  # is refused: there is no mask
    try:
        told = edit(asked, analytic)
    finally:
        log.setLevel(level)
        for run in asked:
            log.removeHandler(*run.log.handlers)
    assert list(told) == ["Encode-Decode", "SDEdit"]
    whole, broken = ((tmp_path / f"{name}.log").read_text() for name in FEW[:2])
    assert not (tmp_path / "Encode-Decode.log").exists()
    for text in (whole, broken):
        assert text.count("evaluations made: ") == text.count("edited together: ") == 1
    assert f"{tmp_path / 'DiffEdit'}: 3 of 3 requests done" in whole
    assert "SDEdit: 2 of 3" not in whole
    assert "failed: 1: OSError: broken" not in whole
    assert f"{tmp_path / 'SDEdit'}: 2 of 3 requests done" in broken
    assert "failed: 1: OSError: broken" in broken
    assert "DiffEdit: 3 of 3" not in broken
