"""One process at a time at a run: by files alone; a dead one holds nobody up, a slow one finds out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

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
