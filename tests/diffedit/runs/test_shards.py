"""A run is cut into shards: whoever edits them, in whatever order and number, the run is the same."""

import json
import logging
import multiprocessing
import os
import random
import shutil
import time

import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import Pictures, edit_small_run, read_run, unpack_records
from made_runs import write_claim

from diffedit.diffedit import DiffEdit
from diffedit.mask import ContrastMask
from diffedit.runs.claim import BusyError, Claim, describe_self
from diffedit.runs.cut import (
    Share,
    choose_size,
    count_records,
    get_claim_path,
    get_shard_path,
    list_shards,
    read_cut,
    read_summary,
)
from diffedit.runs.directory import RunDirectory
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.runs.shards import read_shard
from diffedit.stages.pipeline import EditPipeline
from eval.reporting.load_run import load_run

COUNT = 7


def edit(analytic, root, benchmark=None, size=3, ratios=(0.5, 1.0), **settings):
    settings = {"shard_size": size, "progress": False} | settings
    pipeline = EditPipeline(DiffEdit(mask=ContrastMask(num_noises=2)))
    return run_benchmark(benchmark or Pictures(COUNT), pipeline, analytic, root, RunSettings(ratios, 4, **settings))


@pytest.fixture
def whole(analytic, tmp_path):
    """(files, manifest) of a run in one shard."""
    table = edit(analytic, tmp_path / "whole", size=64)
    return read_run(tmp_path / "whole"), table


def same_rows(one, other):
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))


@pytest.fixture
def edited(monkeypatch):
    """The ids of what is edited, as it comes."""
    ids, write = [], RunDirectory.write_outcome

    def note(self, request, *words):
        ids.append(request.id)
        write(self, request, *words)

    monkeypatch.setattr(RunDirectory, "write_outcome", note)
    return ids


# ------------------------------------------------------------------------------------------------------------- the cut


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_the_cut_changes_nothing(analytic, tmp_path, whole, size):
    root = tmp_path / "cut"
    table = edit(analytic, root, size=size)
    assert read_run(root) == whole[0]
    same_rows(table, whole[1])
    same_rows(pd.read_parquet(root / "manifest.parquet"), pd.read_parquet(tmp_path / "whole/manifest.parquet"))
    shards = -(-COUNT // size)
    assert [path.name for path in list_shards(root)] == [f"{i:06d}.parquet" for i in range(shards)]
    assert len(os.listdir(root / "shards")) == shards + 1  # and the cut: no claims
    assert not list((root / "records").iterdir())
    assert (read_cut(root).size, read_cut(root).requests, count_records(root)) == (size, COUNT, COUNT)


@pytest.mark.parametrize(
    ("asked", "requests", "processes", "size"),
    [(None, 48, 1, 64), (None, 48, 2, 6), (None, 1000, 2, 64), (None, 1000, 8, 31), (None, 5, 8, 1), (30, 48, 2, 30)],
)
def test_several_processes_share_a_short_run_evenly(asked, requests, processes, size):
    assert choose_size(asked, requests, processes) == size


def test_the_first_process_cuts_by_how_many_it_is_one_of_and_others_keep_that(analytic, tmp_path, whole):
    edit(analytic, tmp_path / "cut", size=None, share=Share(1, 2))
    assert read_cut(tmp_path / "cut").size == 1
    edit(analytic, tmp_path / "cut", size=None)
    assert read_cut(tmp_path / "cut").size == 1
    assert read_run(tmp_path / "cut") == whole[0]


@pytest.mark.parametrize("shares", [["0/2", "1/2"], ["1/2", "0/2"], ["2/3", "0/2", "5/7"], ["99/100"]])
def test_shares_change_nothing(analytic, tmp_path, whole, shares):
    """One that is alone edits all; the next finds it done."""
    for share in shares:
        table = edit(analytic, tmp_path / "run", share=Share.read(share))
        same_rows(table, whole[1])
    assert read_run(tmp_path / "run") == whole[0]


def test_a_share_begins_with_its_own(analytic, tmp_path, monkeypatch):
    taken, take = [], Claim.take

    def note(self):
        if "shard" in self.work:
            taken.append(self.work["shard"])
        return take(self)

    monkeypatch.setattr(Claim, "take", note)
    edit(analytic, tmp_path, size=1, share=Share(1, 3))
    assert taken == [1, 4, 0, 2, 3, 5, 6]


def test_a_run_that_is_begun_keeps_its_cut(analytic, tmp_path, whole, edited):
    edit(analytic, tmp_path / "run", size=2)
    edited.clear()
    same_rows(edit(analytic, tmp_path / "run", size=5), whole[1])
    assert (read_cut(tmp_path / "run").size, edited) == (2, [])


def test_the_foot_of_a_shard_says_what_is_in_it(analytic, tmp_path):
    edit(analytic, tmp_path)
    summary = read_summary(get_shard_path(tmp_path, 1))
    assert {key: summary[key] for key in ("shard", "requests", "done", "failed", "edits", "error", "process")} == {
        "shard": 1,
        "requests": 3,
        "done": 3,
        "failed": 0,
        "edits": 6,
        "error": None,
        "process": os.getpid(),
    }
    assert summary["since"] <= summary["ended"]
    files = [path for folder in ("images", "masks", "maps") for path in (tmp_path / folder).rglob("*.*")]
    ids = read_shard(get_shard_path(tmp_path, 1))
    assert list(ids) == ["3", "4", "5"]
    assert summary["bytes"] == sum(path.stat().st_size for path in files if path.stem in ids)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.touch()])
def test_what_is_no_file_of_a_shard_has_no_foot(tmp_path, make):
    path = get_shard_path(tmp_path, 0)
    path.parent.mkdir()
    make(path)
    with pytest.raises(OSError, match=r"000000\.parquet: no whole records of a shard"):
        read_summary(path)
    assert count_records(tmp_path) == 0


# ------------------------------------------------------------------------------------------------------------ who is at


def lose_shard(analytic, root, number):
    """A run with a shard that is not done."""
    edit(analytic, root)
    get_shard_path(root, number).unlink()
    (root / "manifest.parquet").unlink()


def hold_shard(root, number):
    claim = Claim(get_claim_path(root, number), {"shard": number})
    claim.path.parent.mkdir(parents=True, exist_ok=True)
    assert claim.take()
    return claim


def test_what_another_is_at_is_left_to_it(analytic, tmp_path, whole):
    lose_shard(analytic, tmp_path / "run", 1)
    other = hold_shard(tmp_path / "run", 1)
    with pytest.raises(BusyError, match=rf"1 of 3 shards are not done, and process {os.getpid()} on .* is at it"):
        edit(analytic, tmp_path / "run")
    assert [path.stem for path in list_shards(tmp_path / "run")] == ["000000", "000002"]
    assert not (tmp_path / "run/manifest.parquet").exists()  # the last one makes it
    other.release()
    same_rows(edit(analytic, tmp_path / "run"), whole[1])
    assert read_run(tmp_path / "run") == whole[0]


def test_who_waits_takes_over_what_is_left(analytic, tmp_path, whole, monkeypatch):
    lose_shard(analytic, tmp_path / "run", 1)
    other = hold_shard(tmp_path / "run", 1)
    monkeypatch.setattr("diffedit.runs.held.time.sleep", lambda seconds: other.release())
    same_rows(edit(analytic, tmp_path / "run", wait=True), whole[1])
    assert read_run(tmp_path / "run") == whole[0]


def test_a_claim_that_was_left_on_a_finished_shard_goes_with_the_next_start(analytic, tmp_path):
    """Of a process that died between the end of the shard and giving it back; one that lives keeps its own."""
    edit(analytic, tmp_path)
    write_claim(get_claim_path(tmp_path, 0), age=1000)
    write_claim(get_claim_path(tmp_path, 1), age=0)
    edit(analytic, tmp_path)
    assert [path.name for path in tmp_path.glob("shards/*.claim")] == ["000001.claim"]


def test_a_claim_is_stale_after_what_its_holder_says(analytic, tmp_path):
    path = get_claim_path(tmp_path, 0)
    path.parent.mkdir()
    path.write_text(json.dumps(describe_self() | {"host": "far", "token": "x", "timeout": 5}))
    os.utime(path, (time.time() - 3,) * 2)
    with pytest.raises(BusyError):
        edit(analytic, tmp_path)
    os.utime(path, (time.time() - 8,) * 2)
    assert (edit(analytic, tmp_path).status == "done").all()


def test_who_loses_a_claim_writes_no_more_of_its_shard(analytic, tmp_path, whole, monkeypatch):
    """Another has taken it over: from then on the records are the other's."""
    root, write, seen = tmp_path / "run", RunDirectory.write_outcome, []

    def write_and_lose(self, request, outcome, check):
        write(self, request, outcome, check)
        seen.append(request.id)
        if request.id == "1":
            path = get_claim_path(root, 0)
            path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "of another"}))

    monkeypatch.setattr(RunDirectory, "write_outcome", write_and_lose)
    monkeypatch.setattr("diffedit.runs.directory.Writer", one_writer())
    with pytest.raises(BusyError, match="1 of 3 shards are not done"):
        edit(analytic, root)
    assert "2" not in seen
    assert not get_shard_path(root, 0).exists()
    assert len(list_shards(root)) == 2
    monkeypatch.undo()
    get_claim_path(root, 0).unlink()
    same_rows(edit(analytic, root), whole[1])
    assert read_run(root) == whole[0]


def one_writer():
    from diffedit.io.files import Writer

    return lambda: Writer(threads=1)


# -------------------------------------------------------------------------------------------------- damage and change


def test_failed_requests_are_tried_again(analytic, tmp_path, whole, monkeypatch):
    load = Pictures.load
    monkeypatch.setattr(Pictures, "load", lambda self, i, resolution: load(Pictures(broken=4), i, resolution))
    with pytest.raises(RunFailedError, match="1 of 7 requests failed"):
        edit(analytic, tmp_path / "run")
    monkeypatch.undo()
    assert len(list_shards(tmp_path / "run")) == 3
    assert read_summary(get_shard_path(tmp_path / "run", 1))["error"].startswith("4: ")
    same_rows(edit(analytic, tmp_path / "run"), whole[1])
    assert read_run(tmp_path / "run") == whole[0]


@pytest.mark.parametrize("how", ["cut", "emptied", "changed", "no table", "a folder"])
def test_a_damaged_shard_is_edited_again(analytic, tmp_path, whole, caplog, how):
    root = tmp_path / "run"
    edit(analytic, root)
    path = get_shard_path(root, 1)
    content = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "changed":
            chunk = pq.read_metadata(path).row_group(0).column(0)
            middle = chunk.data_page_offset + 40
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "no table":
            path.write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
        case "a folder":
            path.unlink()
            path.mkdir()
    load_run(root)
    assert "000001.parquet: no whole records of a shard" in caplog.text
    same_rows(edit(analytic, root), whole[1])
    if how == "a folder":
        (aside,) = (root / "shards").glob("*.aside")
        aside.rmdir()
    assert read_run(root) == whole[0]


class Listed(Pictures):
    """The requests of a table that changes: these ids, in this order."""

    order = ""

    def requests(self, resolution):
        by_name = {request.id: request for request in super().requests(resolution)}
        return iter([by_name[name] for name in self.order])

    def __len__(self):
        return len(self.order)


def list_requests(order):
    """A table with these requests now."""
    Listed.order = order
    return Listed(9)


def test_a_table_with_other_rows_keeps_what_is_done(analytic, tmp_path, edited):
    """Shards are ranges of the order: what is in another one now moves, and is not edited again."""
    root = tmp_path / "run"
    edit(analytic, root, list_requests("12345"))
    edited.clear()
    table = edit(analytic, root, list_requests("0123456"))
    assert list(table.id.unique()) == list("0123456")
    assert sorted(edited) == ["0", "6"]
    fewer = edit(analytic, root, list_requests("642"))
    assert list(fewer.id.unique()) == list("246")
    assert count_records(root) == 7  # the others stay where they lie
    assert set(load_run(root).ids) == set("246")
    same_rows(edit(analytic, root, list_requests("0123456")), table)
    assert sorted(edited) == ["0", "6"]


def test_other_requests_are_not_asked_for_beside_another_process(analytic, tmp_path):
    edit(analytic, tmp_path, list_requests("12345"))
    other = hold_shard(tmp_path, 0)
    with pytest.raises(BusyError, match="this start asks for other requests"):
        edit(analytic, tmp_path, list_requests("012345"))
    other.release()
    assert len(edit(analytic, tmp_path, list_requests("012345")).id.unique()) == 6


def test_a_run_of_before_goes_on(analytic, tmp_path, whole, edited):
    """Each record in a file of its own, no cut, format 4: read, and packed by the next start, which edits nothing."""
    root = tmp_path / "whole"
    make_old(root)
    assert len(load_run(root).ids) == COUNT
    edited.clear()
    same_rows(edit(analytic, root), whole[1])
    assert not edited
    assert len(list_shards(root)) == 3
    assert {name: content for name, content in read_run(root).items() if name != "config.yaml"} == {
        name: content for name, content in whole[0].items() if name != "config.yaml"
    }


def make_old(root):
    directory = RunDirectory(root, {"ratios": [0.5]}) if not (root / "config.yaml").exists() else None
    assert directory is None
    for path in list_shards(root):
        for name, text in read_shard(path).items():
            (root / "records" / f"{name}.json").write_text(text)
    shutil.rmtree(root / "shards")
    config = root / "config.yaml"
    config.write_text(config.read_text().replace("format: 5", "format: 4"))


def test_a_run_of_a_later_release_is_refused(analytic, tmp_path):
    edit(analytic, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("format: 5", "format: 6"))
    with pytest.raises(ValueError, match=r"a run of a later release \(format 6; this one reads up to 5\)"):
        edit(analytic, tmp_path)


def test_what_a_kill_left_beside_a_shard_goes_into_it(analytic, tmp_path, whole, edited):
    root = tmp_path / "run"
    edit(analytic, root)
    packed = get_shard_path(root, 0).read_bytes()
    unpack_records(root)
    get_shard_path(root, 0).write_bytes(packed)  # the rename came, and the end before the removal
    edited.clear()
    same_rows(edit(analytic, root), whole[1])
    assert not edited
    assert read_run(root) == whole[0]
    assert len(list_shards(root)) == 3


def test_a_damaged_cut_is_written_anew(analytic, tmp_path, whole, caplog):
    edit(analytic, tmp_path / "run")
    (tmp_path / "run/shards/cut.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        same_rows(edit(analytic, tmp_path / "run"), whole[1])
    assert "cut.json: damaged" in caplog.text
    assert read_run(tmp_path / "run") == whole[0]


# ----------------------------------------------------------------------------------------------------- the environment


ENVIRONMENTS = {
    "nothing": ({}, (0, 1)),
    "torchrun": ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4)),
    "srun": ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
    "a batch script beside its steps": ({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, (0, 1)),
    "an array": (
        {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"},
        (4, 8),
    ),
    "an array by twos": (
        {
            "SLURM_ARRAY_TASK_ID": "4",
            "SLURM_ARRAY_TASK_MIN": "0",
            "SLURM_ARRAY_TASK_COUNT": "3",
            "SLURM_ARRAY_TASK_STEP": "2",
        },
        (2, 3),
    ),
    "srun in an array": (
        {
            "SLURM_ARRAY_TASK_ID": "1",
            "SLURM_ARRAY_TASK_MIN": "0",
            "SLURM_ARRAY_TASK_COUNT": "4",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "1",
            "SLURM_STEP_NUM_TASKS": "2",
        },
        (3, 8),
    ),
    "a word": ({"RANK": "x", "WORLD_SIZE": "y"}, (0, 1)),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_share_of_the_environment(name):
    environ, expected = ENVIRONMENTS[name]
    share = Share.read(None, environ)
    assert (share.k, share.of) == expected


def test_a_share_that_is_asked_for():
    assert Share.read("3/16", {"RANK": "0", "WORLD_SIZE": "2"}) == Share(3, 16)
    for text in ("16/16", "3", "a/b", "-1/2", "1/0", ""):
        with pytest.raises(ValueError, match=f"shard = {text}: k/N with 0 <= k < N is wanted"):
            Share.read(text)


# ------------------------------------------------------------------------------------------------------ two at a time


OPTIONS = {"shard_size": 2, "wait": True}


@pytest.fixture(scope="module")
def start():
    """Starts a process at a run of 40 requests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["helpers", "diffedit.diffedit", "diffedit.backbones.analytic", "diffedit.runs.loop"]
    )

    def start_one(root, share):
        options = OPTIONS | {"share": share}
        process = context.Process(target=edit_small_run, args=(str(root), 40), kwargs=options)
        process.start()
        return process

    return start_one


@pytest.mark.parametrize("shares", [(Share(0, 2), Share(1, 2)), (Share(0, 2), Share(0, 2))], ids=["two", "one twice"])
def test_two_processes_at_one_run(tmp_path, start, shares):
    """Each edits shards of its own; together the run of one alone, no record twice."""
    workers = [start(tmp_path / "run", share) for share in shares]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    edit_small_run(str(tmp_path / "whole"), 40, **OPTIONS)
    assert read_run(tmp_path / "run") == read_run(tmp_path / "whole")
    makers = [read_summary(path)["process"] for path in list_shards(tmp_path / "run")]
    assert set(makers) <= {worker.pid for worker in workers}
    assert len(makers) == 20
    table = pd.read_parquet(tmp_path / "run/manifest.parquet")
    assert not table.duplicated(["id", "variant"]).any()


KILLS = 100


@pytest.mark.slow
def test_a_hundred_kills_of_two_processes(tmp_path, start):
    """Each is started again; whatever moment a kill comes at, the run is that of a process that nothing happened to."""
    edit_small_run(str(tmp_path / "whole"), 40, **OPTIONS)
    expected, draw, kills, roots = read_run(tmp_path / "whole"), random.Random(0), 0, []
    while kills < KILLS:
        roots.append(tmp_path / str(len(roots)))
        workers = [start(roots[-1], Share(k, 2)) for k in range(2)]
        while any(worker.is_alive() for worker in workers) and kills < KILLS:
            time.sleep(draw.random() * 0.4)
            k = draw.randrange(2)
            if workers[k].is_alive():
                workers[k].kill()
                workers[k].join()
                kills += workers[k].exitcode != 0
                workers[k] = start(roots[-1], Share(k, 2))
        for worker in workers:
            worker.join(120)
        last = start(roots[-1], Share())
        last.join(120)
        assert last.exitcode == 0
        assert read_run(roots[-1]) == expected
        assert not list(roots[-1].rglob("*.claim")) + list(roots[-1].rglob("*.tmp"))
    assert kills == KILLS
