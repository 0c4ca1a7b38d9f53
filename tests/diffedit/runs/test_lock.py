"""One process at a time in a run directory: the second is refused, a killed one holds nobody up."""

import os
import signal
import subprocess
import sys

import pytest
from helpers import Pictures

from baselines.bounds import Copy
from diffedit.runs import lock as locks
from diffedit.runs.lock import BusyError, is_locked, lock
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

HOLD = """
import sys, time
from pathlib import Path
from diffedit.runs.lock import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a directory."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_changes_nothing(tmp_path, analytic, holder):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BusyError, match=rf"process {holder.pid} on .* is editing into it"):
        run_benchmark(Pictures(1), EditPipeline(Copy()), analytic, tmp_path, RunSettings((0.5,), 4, progress=False))
    assert sorted(tmp_path.rglob("*")) == before == [tmp_path / ".lock"]
    assert is_locked(tmp_path)


def test_a_killed_process_holds_nobody_up(tmp_path, analytic, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").is_file()
    assert not is_locked(tmp_path)
    run_benchmark(Pictures(1), EditPipeline(Copy()), analytic, tmp_path, RunSettings((0.5,), 4, progress=False))
    assert not (tmp_path / ".lock").exists()


def test_it_is_given_back_also_after_an_error(tmp_path, analytic):
    broken = Pictures(1, broken=0)
    with pytest.raises(RunFailedError):
        run_benchmark(broken, EditPipeline(Copy()), analytic, tmp_path, RunSettings((0.5,), 4, progress=False))
    assert not is_locked(tmp_path)
    for _ in range(2):
        with lock(tmp_path):
            assert is_locked(tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path, monkeypatch):
    """The one before unlinks the file after we opened it: who comes third must not get a lock of its own."""
    opened, past = locks.try_lock, []

    def unlink_first(descriptor):
        if not past:
            past.append((tmp_path / ".lock").unlink())
        return opened(descriptor)

    monkeypatch.setattr(locks, "try_lock", unlink_first)
    with lock(tmp_path), pytest.raises(BusyError, match=f"process {os.getpid()} on"), lock(tmp_path):
        pass
    assert past


def test_where_there_are_no_locks_the_run_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "try_lock", lambda descriptor: None)
    with lock(tmp_path):
        assert "no locks on this file system" in caplog.text
        assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
