"""A signal asks a run to stop: what is in hand is written, claims are given back, and the same command goes on."""

import importlib
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, call, read_run, said, write_pictures

from diffedit.commands.launch import stop_in_imports
from diffedit.runs.cut import count_records
from diffedit.runs.stop import StopRequested, obey_signals, stop

COUNT = 60


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Of a run of some seconds."""
    pictures = write_pictures(tmp_path_factory.mktemp("pictures"), COUNT)
    return [*pictures, "steps=60", "ratios=[0.5,1.0]", "engine.progress=false", "engine.cpu_threads=1", "shards.size=4"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = call("run.py", *words, f"runs={folder}")
    assert done.returncode == 0, said(done)
    return read(folder)


def read(folder):
    (root,) = folder.glob("*/*/*/*")
    return {name: content for name, content in read_run(root).items() if name not in ("config.yaml", "run.log")}


def start(words, folder):
    command = [sys.executable, "-m", "diffedit", "run", *words, f"runs={folder}"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)


def wait_for_records(process, folder, count):
    deadline = time.monotonic() + 120
    while sum(map(count_records, folder.glob("*/*/*/*"))) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_it_stops_soon_and_goes_on(words, tmp_path, whole, number):
    with start(words, tmp_path) as process:
        wait_for_records(process, tmp_path, 5)
        began = time.monotonic()
        process.send_signal(number)
        told, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 3, told
    assert f"stopped by {number.name}: what is done is saved, and the same command goes on" in told
    assert not list(tmp_path.rglob("*.claim")) + list(tmp_path.rglob(".claim")) + list(tmp_path.rglob("*.tmp"))
    (root,) = tmp_path.glob("*/*/*/*")
    assert 0 < count_records(root) < COUNT
    done = call("run.py", *words, f"runs={tmp_path}")
    assert done.returncode == 0, said(done)
    assert read(tmp_path) == whole


def test_it_stops_also_while_it_begins(words, tmp_path):
    with start(words, tmp_path) as process:
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
    assert process.returncode in (3, -signal.SIGTERM), told  # before the command has begun, as any program
    assert "Traceback" not in told


def test_a_signal_that_meets_a_finalizer_is_obeyed_at_the_next_check(monkeypatch):
    """Nothing can be raised there: Python says so, with a traceback, and goes on."""

    class Last:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    class Wrong:
        def __del__(self):
            raise ValueError("of its own")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(str(lost.exc_value)))
    with obey_signals():
        last, wrong = Last(), Wrong()
        del last
        with pytest.raises(StopRequested, match="stopped by SIGTERM"):
            stop.check()
        del wrong
    assert told == ["of its own"]


def test_a_signal_in_the_midst_of_an_import_is_obeyed_whatever_it_breaks(tmp_path, monkeypatch):
    (tmp_path / "half_a_module.py").write_text("raise RecursionError")
    monkeypatch.syspath_prepend(tmp_path)
    errors = []
    for name in ("half_a_module", None):
        try:
            importlib.import_module(name) if name else int("a")
        except (RecursionError, ValueError) as error:
            errors.append(error)
    stop_in_imports(errors[0])  # no signal came: the error is told
    monkeypatch.setattr(stop, "number", signal.SIGTERM)
    with pytest.raises(StopRequested, match="stopped by SIGTERM"):
        stop_in_imports(errors[0])
    stop_in_imports(errors[1])  # of something else


# ------------------------------------------------------------------------------------------------------- the handler


def test_a_second_signal_ends_at_once():
    """But for one that comes with the first: to a group of processes, and from its parent."""
    code = (
        "import os, signal\n"
        "from diffedit.runs.stop import obey_signals, stop\n"
        "with obey_signals(), stop.defer():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    print(stop.number, flush=True)\n"
        "    stop.since -= 3\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    print('not reached', flush=True)\n"
    )
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGUSR1, f"{int(signal.SIGTERM)}\n")


def test_a_signal_is_obeyed_where_nothing_is_edited_and_else_at_the_next_check():
    with obey_signals():
        with pytest.raises(StopRequested, match="stopped by SIGUSR1"):
            os.kill(os.getpid(), signal.SIGUSR1)  # handled before the next line
        with pytest.raises(StopRequested), stop.defer():
            pytest.fail("the block is not begun")
    with obey_signals(), stop.defer():
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.01)
        with pytest.raises(StopRequested, match="stopped by SIGUSR2"):
            stop.check()
    stop.check()  # forgotten with the command


def test_handlers_are_what_they_were_and_what_is_ignored_stays_so():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with obey_signals():
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGUSR2) == stop.note
        assert signal.getsignal(signal.SIGUSR2) != stop.note
    finally:
        signal.signal(signal.SIGUSR1, before)
