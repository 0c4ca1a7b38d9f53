"""One process at a time at a run: by files alone; a dead one holds nobody up, a slow one finds out."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import Pictures

from baselines.bounds import Copy
from diffedit.runs import claim as claims
from diffedit.runs.claim import NAME, BusyError, Claim, claim, is_claimed
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

HOLD = """
import sys, time
from pathlib import Path
from diffedit.runs.claim import claim

with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def edit(analytic, root, benchmark=None, **settings):
    settings = RunSettings((0.5,), 4, progress=False, **settings)
    return run_benchmark(benchmark or Pictures(1), EditPipeline(Copy()), analytic, root, settings)


def hold(root, seconds=60):
    """Another process that is at work in a directory."""
    command = [sys.executable, "-c", HOLD, str(root), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def holder(tmp_path):
    process = hold(tmp_path)
    yield process
    process.kill()
    process.wait()


def write_claim(root, age=0.0, **fields):
    """The claim of a process that we say what we like of."""
    holder = {"host": "far", "node": "far", "process": 1, "began": 0.0, "since": 0.0, "token": "x"} | fields
    (root / NAME).write_text(json.dumps(holder))
    then = time.time() - age
    os.utime(root / NAME, (then, then))


def test_a_second_process_is_refused_and_changes_nothing(tmp_path, analytic, holder):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        BusyError, match=rf"process {holder.pid} on .* \(since .*\) is at it: wait for it \(wait=true\)"
    ):
        edit(analytic, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before == [tmp_path / NAME]
    assert is_claimed(tmp_path)


def test_one_that_is_to_wait_waits(tmp_path, analytic):
    with hold(tmp_path, 1.5) as process:
        began = time.monotonic()
        assert (edit(analytic, tmp_path, wait=True).status == "done").all()
        assert process.wait() == 0
    assert time.monotonic() - began > 0.5
    assert not (tmp_path / NAME).exists()


def test_other_settings_are_refused_also_while_another_is_at_it(tmp_path, analytic, holder):
    """Not busy, but wrong: waiting would not help."""
    holder.kill()
    holder.wait()
    edit(analytic, tmp_path)
    with claim(tmp_path), pytest.raises(ConfigChangedError, match="seed: 0 -> 1"):
        edit(analytic, tmp_path, seed=1)


def test_a_killed_process_holds_nobody_up(tmp_path, analytic, holder, caplog):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / NAME).is_file()
    assert not is_claimed(tmp_path)
    edit(analytic, tmp_path)
    assert f"taken over from process {holder.pid} on" in caplog.text
    assert not (tmp_path / NAME).exists()


def test_what_died_over_a_claim_is_swept_at_its_end(tmp_path, analytic):
    """Of a dead process of this host at once, of another host after a minute; whoever lives keeps its own."""
    makers = {
        "dead": claims.describe_self() | {"began": 0.0},
        "old": {"host": "far", "node": "far", "process": 1, "began": 0.0, "since": 0.0},
        "new": {"host": "far", "node": "far", "process": 1, "began": 0.0, "since": 0.0},
        "alive": claims.describe_self(),
    }
    for name, maker in makers.items():
        (tmp_path / f"{NAME}.{name}").write_text(json.dumps(maker))
    then = time.time() - claims.STALE - 5
    os.utime(tmp_path / f"{NAME}.old", (then, then))
    edit(analytic, tmp_path)
    assert sorted(path.name for path in tmp_path.glob(f"{NAME}*")) == [f"{NAME}.alive", f"{NAME}.new"]


def test_it_is_given_back_also_after_an_error(tmp_path, analytic):
    with pytest.raises(RunFailedError):
        edit(analytic, tmp_path, Pictures(1, broken=0))
    for _ in range(2):
        with claim(tmp_path):
            assert is_claimed(tmp_path)
    assert not (tmp_path / NAME).exists()


HOLDERS = {
    "of another host, just touched": ({}, 0, True),
    "of another host, touched a minute ago": ({}, 61, False),
    "of a container of this host, just touched": ({"host": f"{claims.HOST}0"}, 0, True),
    "of a process that is gone": ({"host": claims.HOST, "process": 2**22 + 1}, 0, False),
    "of another process with the number of one that is gone": ({"host": claims.HOST, "process": os.getpid()}, 0, False),
    "that says nothing yet": (None, 0, True),
    "that never said anything": (None, 61, False),
    "that is damaged": ({"host": claims.HOST, "process": "x"}, 0, True),
    "of a process that no system has": ({"host": claims.HOST, "process": 10**30}, 0, False),
    "of a process below zero": ({"host": claims.HOST, "process": -1}, 0, True),
    "that began at no time": ({"host": claims.HOST, "process": os.getpid(), "began": "x"}, 0, True),
    "touched a little ahead of the disk's clock": ({}, -30, True),
    "touched far ahead of the disk's clock": ({}, -3600, False),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_who_is_alive(tmp_path, name):
    fields, age, is_alive = HOLDERS[name]
    write_claim(tmp_path, age, **(fields or {}))
    if fields is None:
        (tmp_path / NAME).write_text("")
        os.utime(tmp_path / NAME, (time.time() - age,) * 2)
    assert is_claimed(tmp_path) == is_alive
    assert Claim(tmp_path / NAME).take() != is_alive
    assert {path.name for path in tmp_path.iterdir()} == {NAME}


SAYINGS = {
    "since a word": (json.dumps({"process": 1, "node": "far", "since": "abc"}), r"process 1 on far \(since \?\)"),
    "since the end of time": (
        json.dumps({"process": 1, "node": "far", "since": 1e30}),
        r"process 1 on far \(since \?\)",
    ),
    "since nobody knows": (json.dumps({"process": 1, "node": "far"}), r"process 1 on far \(since \?\)"),
    "nothing": ("", "another process"),
    "no JSON": ("\0\0", "another process"),
    "a list": ("[1]", "another process"),
    "a deep list": ("[" * 50_000, "another process"),
    "more than a claim is": ("[" + "1," * 50_000 + "1]", "another process"),
}


@pytest.mark.parametrize("name", SAYINGS)
def test_whatever_a_claim_says_it_is_one(tmp_path, analytic, name):
    """Until nobody has touched it for a minute; then it is taken over, whatever it says."""
    text, words = SAYINGS[name]
    (tmp_path / NAME).write_text(text)
    with pytest.raises(BusyError, match=rf"{words} is at it"):
        edit(analytic, tmp_path)
    assert (tmp_path / NAME).read_text() == text
    os.utime(tmp_path / NAME, (time.time() - 61,) * 2)
    edit(analytic, tmp_path)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nothing")])
def test_what_is_no_file_is_no_claim(tmp_path, analytic, make):
    """Nobody would ever give it back: refused with what to do, however old it is."""
    make(tmp_path / NAME)
    for _ in range(2):
        with pytest.raises(OSError, match=r"\.claim: not a regular file, so nobody's claim: remove it and start again"):
            edit(analytic, tmp_path)
        os.utime(tmp_path / NAME, (0, 0), follow_symlinks=False)
    assert not is_claimed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_claim_that_is_being_written_is_waited_for(tmp_path, analytic):
    """It is made first, and says a moment later who it is."""
    (tmp_path / NAME).touch()
    writer = threading.Timer(0.1, write_claim, (tmp_path,), {"process": 77})
    writer.start()
    with pytest.raises(BusyError, match="process 77 on far"):
        edit(analytic, tmp_path)
    writer.join()


@pytest.mark.parametrize("wait", [False, True])
def test_other_settings_are_refused_before_there_is_a_config(tmp_path, analytic, wait):
    """Who is at it has written nothing yet but its claim: waiting would end in a refusal."""
    with claim(tmp_path, work={"config": "of another"}):
        with pytest.raises(
            ConfigChangedError, match=r"process \d+ on .* is at a run with other settings .*name=\.\.\."
        ):
            edit(analytic, tmp_path, wait=wait)
        assert not (tmp_path / "config.yaml").exists()


def test_the_claim_of_a_run_says_what_it_is_for(tmp_path, analytic, monkeypatch):
    """The same of a run with another way to go, and another of one with other settings."""
    seen, create = [], Claim.create
    monkeypatch.setattr(Claim, "create", lambda self, path: seen.append(self.work["config"]) or create(self, path))
    for name, settings in (("a", {}), ("b", {"wait": True, "max_live": 1}), ("c", {"seed": 1})):
        edit(analytic, tmp_path / name, **settings)
    assert seen[0] == seen[3] != seen[6]
    assert all(len(set(seen[i : i + 3])) == 1 for i in (0, 3, 6))  # of the opening, of the process, of its shard


def test_a_claim_that_cannot_be_written_is_named_and_goes(tmp_path, analytic, monkeypatch):
    """An empty one would be a claim of nobody, and hold up the next start."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(claims.os, "fsync", fail)
        with pytest.raises(OSError, match=r"\.claim: \d+ bytes could not be written: No space left on device"):
            edit(analytic, tmp_path)
    assert list(tmp_path.iterdir()) == []
    edit(analytic, tmp_path)


def test_a_holder_that_works_touches_its_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    with claim(tmp_path) as held:
        os.utime(tmp_path / NAME, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / NAME).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / NAME).stat().st_mtime > 0
        held.check()


def test_a_holder_that_stood_still_finds_out_and_leaves_the_new_claim(tmp_path, monkeypatch):
    """As a process does that was stopped, or whose disk was away, for longer than a minute."""
    monkeypatch.setattr(claims, "BEAT", 0.02)
    with claim(tmp_path) as held:
        write_claim(tmp_path, token="of another")
        deadline = time.monotonic() + 10
        while not held.is_lost and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(BusyError, match="stood still for so long that another took over"):
            held.check()
    assert json.loads((tmp_path / NAME).read_text())["token"] == "of another"


def test_a_run_whose_claim_is_lost_stops(tmp_path, analytic, monkeypatch):
    monkeypatch.setattr(Claim, "check", lambda self: (_ for _ in ()).throw(BusyError("lost")))
    with pytest.raises(BusyError, match="lost"):
        edit(analytic, tmp_path)


def test_of_many_that_come_at_once_one_takes_a_stale_claim_over(tmp_path):
    """Thirty threads, each a claimer of its own, at ten stale claims one after another: never two holders."""
    for _ in range(10):
        write_claim(tmp_path, age=1000)
        ready, taken = threading.Barrier(30), []

        def come(ready=ready, taken=taken):
            mine = Claim(tmp_path / NAME)
            ready.wait()
            if mine.take():
                taken.append(mine)

        threads = [threading.Thread(target=come) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        taken[0].check()
        taken[0].release()
        assert list(tmp_path.iterdir()) == []


def test_two_starts_with_other_seeds_leave_one_run(tmp_path, analytic):
    """At once: one edits, the other is refused or finds it busy; no picture of the second is there."""
    outcomes = {}

    def start(seed):
        try:
            outcomes[seed] = edit(analytic, tmp_path / "run", Pictures(8), seed=seed)
        except (BusyError, ConfigChangedError) as error:
            outcomes[seed] = error

    threads = [threading.Thread(target=start, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = sorted(type(outcome).__name__ for outcome in outcomes.values())
    assert kinds[0] in ("BusyError", "ConfigChangedError")
    assert kinds[1] == "DataFrame"
    (done,) = (outcome for outcome in outcomes.values() if not isinstance(outcome, Exception))
    assert done.seed.nunique() == 1
