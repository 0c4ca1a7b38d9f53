"""Cores that a process may use, and machines that are busy, by files as Linux writes them."""

import os
import subprocess
import sys

import psutil
import pytest
import torch
from helpers import Pictures, kept_log

from diffedit.commands import main
from diffedit.diffedit import DiffEdit
from diffedit.engine import threads
from diffedit.engine.threads import RateWatch, count_cores, set_threads, warn_of_load
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.fixture
def kept():
    """The threads of the other tests."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_without_limits_all_that_it_is_bound_to(tmp_path):
    assert count_cores(tmp_path, {}) == 8


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("?", 8)]
)
def test_the_quota_of_a_control_group(tmp_path, quota, cores):
    put(tmp_path, "proc/self/cgroup", "0::/pod/box\n")
    put(tmp_path, "sys/fs/cgroup/pod/box/cpu.max", f"{quota}\n")
    assert count_cores(tmp_path, {}) == cores


def test_groups_above_count_too_and_a_container_sees_only_the_top(tmp_path):
    put(tmp_path, "proc/self/cgroup", "0::/pod/box\n")
    put(tmp_path, "sys/fs/cgroup/pod/box/cpu.max", "max 100000\n")
    put(tmp_path, "sys/fs/cgroup/pod/cpu.max", "300000 100000\n")
    assert count_cores(tmp_path, {}) == 3
    put(tmp_path, "proc/self/cgroup", "0::/../elsewhere/on/the/host\n")
    assert count_cores(tmp_path, {}) == 8
    put(tmp_path, "sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert count_cores(tmp_path, {}) == 2


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_the_first_version_of_control_groups(tmp_path, mount):
    put(tmp_path, "proc/self/cgroup", "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x:y\n")
    put(tmp_path, f"sys/fs/cgroup/{mount}/cpu.cfs_quota_us", "-1\n")
    put(tmp_path, f"sys/fs/cgroup/{mount}/cpu.cfs_period_us", "100000\n")
    assert count_cores(tmp_path, {}) == 8
    put(tmp_path, f"sys/fs/cgroup/{mount}/docker/abc/cpu.cfs_quota_us", "150000\n")
    put(tmp_path, f"sys/fs/cgroup/{mount}/docker/abc/cpu.cfs_period_us", "50000\n")
    assert count_cores(tmp_path, {}) == 3


@pytest.mark.parametrize(
    ("environ", "cores"),
    [
        ({"SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}, 2),  # its own, whoever is beside it
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_CPUS_ON_NODE": "8"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_CPUS_ON_NODE": "32"}, 8),  # bound to its own already
        ({"SLURM_NTASKS_PER_NODE": "4"}, 8),  # a batch script, which is one process
        ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_STEP_ID": "0"}, 2),
        ({"LOCAL_WORLD_SIZE": "2"}, 4),
        ({"LOCAL_WORLD_SIZE": "100"}, 1),
        ({"SLURM_CPUS_PER_TASK": "6", "LOCAL_WORLD_SIZE": "2"}, 3),
        ({"SLURM_CPUS_PER_TASK": "", "LOCAL_WORLD_SIZE": "x"}, 8),
    ],
)
def test_what_is_shared_with_siblings(tmp_path, environ, cores):
    assert count_cores(tmp_path, environ) == cores


def test_siblings_that_are_known(tmp_path):
    assert count_cores(tmp_path, {}, siblings=3) == 2
    assert count_cores(tmp_path, {"LOCAL_WORLD_SIZE": "8", "SLURM_STEP_TASKS_PER_NODE": "8"}, siblings=2) == 4


def test_a_real_process_counts_what_it_is_bound_to():
    """Of the kernel, not of us: one core of those that there are."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("processes cannot be bound here")
    code = (
        "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1]);"
        "from diffedit.engine.threads import count_cores; print(count_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


# ------------------------------------------------------------------------------------------------------------- threads


def limit(root, cores):
    put(root, "proc/self/cgroup", "0::/\n")
    put(root, "sys/fs/cgroup/cpu.max", f"{cores * 100000} 100000\n")
    return root


def test_torch_is_left_alone_where_it_fits(tmp_path, kept, caplog):
    torch.set_num_threads(2)
    assert set_threads(None, limit(tmp_path, 2), {}) == torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert set_threads(None, tmp_path, {}) == torch.get_num_threads() == 1  # it is never given more
    assert not caplog.records


def test_more_threads_than_cores_become_a_power_of_two(tmp_path, kept, caplog):
    torch.set_num_threads(4)
    assert set_threads(None, limit(tmp_path, 3), {}) == torch.get_num_threads() == 2
    assert set_threads(None, tmp_path, {}) == 2
    (record,) = caplog.records
    assert record.getMessage() == "4 threads on 3 cores that this process may use: it takes 2"


def test_who_has_said_so_himself_is_right(tmp_path, kept, caplog):
    torch.set_num_threads(4)
    assert set_threads(None, limit(tmp_path, 2), {"OMP_NUM_THREADS": "4"}) == torch.get_num_threads() == 4
    assert set_threads(3, tmp_path, {"OMP_NUM_THREADS": "4"}) == torch.get_num_threads() == 3
    assert not caplog.records


def test_a_run_takes_the_threads_that_it_is_given_and_goes_on_with_others(analytic, tmp_path, kept, caplog):
    """They are no setting that a run is known by: another number is told as another machine is."""

    def edit(number):
        settings = RunSettings(ratios=(0.5,), steps=2, cpu_threads=number, progress=False)
        config = {"ratios": [0.5], "engine": {"cpu_threads": number}}
        run_benchmark(Pictures(1), EditPipeline(DiffEdit()), analytic, tmp_path / "run", settings, config)

    edit(1)
    assert torch.get_num_threads() == 1
    caplog.clear()
    edit(2)
    assert torch.get_num_threads() == 2
    assert "another environment, bits may differ: threads: 1 -> 2" in caplog.text


class Reached(ValueError):
    """The networks' turn has come."""


@pytest.fixture
def enter(tmp_path, monkeypatch, kept, capsys):
    """Calls a command up to its networks, on a core; returns (exit code, what it said, torch's threads then)."""

    def reach(*args, **settings):
        reached.append(torch.get_num_threads())
        raise Reached("here")

    def call(*words):
        torch.set_num_threads(2)
        reached.clear()
        with kept_log():
            code = main([*map(str, words)])
        return code, "".join(capsys.readouterr()), reached

    reached = []
    for folder in ("runs", "pictures"):
        (tmp_path / folder).mkdir()
    (tmp_path / "runs/config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "count_cores", lambda *_: 1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("diffedit.engine.engine.Engine.run", reach)
    monkeypatch.setattr("eval.scoring.score.score_runs", reach)
    monkeypatch.setattr("eval.scoring.folders.score", reach)
    return call


COMMANDS = {  # words, and the setting
    "edit": (["edit", "--backbone", "analytic", "--target", "pear"], "engine.cpu_threads"),
    "score": (["score", "runs=runs", "metric=[cost]"], "cpu_threads"),
    "score of a folder": (["score", "folder=pictures", "metric=[cost]"], "cpu_threads"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_other_commands_stay_within_their_cores_too(enter, name):
    words, key = COMMANDS[name]
    code, said, reached = enter(*words)
    assert (code, reached) == (2, [1]), said
    assert "2 threads on 1 cores that this process may use: it takes 1" in said
    assert enter(*words, f"{key}=4")[2] == [4]
    code, said, reached = enter(*words, f"{key}=0")
    assert (code, reached) == (2, [])
    assert "cpu_threads = 0: it should be a whole number from 1 on, or null" in said


# ---------------------------------------------------------------------------------------------------------------- load


@pytest.fixture
def load(tmp_path, kept, monkeypatch):
    """Says what /proc/loadavg says, and what of it is this process's own."""
    torch.set_num_threads(2)

    def say(average, own=0.0):
        put(tmp_path, "proc/loadavg", f"{average} 0.50 0.40 2/300 4242\n")
        times = psutil.Process().cpu_times()._replace(user=60 * own, system=0.0)
        monkeypatch.setattr(psutil.Process, "cpu_times", lambda self: times)
        monkeypatch.setattr(threads, "sample_others", lambda: 8.0)
        return tmp_path

    return say


def test_a_busy_machine_is_told_with_what_helps(load, caplog):
    warn_of_load(load(1.4, own=0.2), {}, cores=2)
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("others keep about 1.2 of the 2 cores busy, and this run would use 2: ")
    for remedy in ("OMP_WAIT_POLICY=PASSIVE", "engine.cpu_threads", "nice"):
        assert remedy in text
    caplog.clear()
    warn_of_load(load(1.4), {"OMP_WAIT_POLICY": "passive"}, cores=2)
    assert "OMP_WAIT_POLICY" not in caplog.text
    assert "engine.cpu_threads" in caplog.text
    caplog.clear()
    torch.set_num_threads(1)
    warn_of_load(load(7.0), {}, cores=2)
    assert caplog.messages == [
        "others keep about 2.0 of the 2 cores busy, and this run would use 1: `nice` for the others helps"
    ]


def test_a_machine_with_cores_to_spare_or_whose_load_is_our_own_is_not(load, caplog, tmp_path):
    warn_of_load(load(0.3), {}, cores=2)
    warn_of_load(load(5.0), {}, cores=8)
    warn_of_load(load(2.0, own=30.0), {}, cores=2)  # a sweep's second job: no more of it is its own than its threads
    (tmp_path / "proc/loadavg").unlink()
    warn_of_load(tmp_path, {}, cores=2)
    put(tmp_path, "proc/loadavg", "")
    warn_of_load(tmp_path, {}, cores=2)
    assert not caplog.records


def test_a_load_of_the_last_minute_that_has_ended_is_not_told(load, caplog, monkeypatch):
    """As that of a run before this one."""
    folder = load(1.9)
    monkeypatch.setattr(threads, "sample_others", lambda: 0.1)
    warn_of_load(folder, {}, cores=2)
    assert not caplog.records


def test_what_others_do_is_seen_in_a_moment():
    """A process that spins keeps a core busy."""
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert threads.sample_others(1.0) > 0.3
    finally:
        spinning.kill()
        spinning.wait()


def test_a_rate_that_falls_below_half_is_told_once(caplog):
    watch = RateWatch()
    for seconds in [9.0, *[1.0] * 60]:  # the first call is slow: what follows is not judged by it
        watch.note(16, seconds)
    for seconds in [10.0] * 5:  # of another size: by itself
        watch.note(2, seconds)
    for seconds in [1.9] * 40:
        watch.note(16, seconds)
    assert not caplog.records
    for seconds in [2.5] * 40:
        watch.note(16, seconds)
    (record,) = caplog.records
    assert " evaluations a second, and 16 before" in record.getMessage()
    assert "OMP_WAIT_POLICY" in record.getMessage() or os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_one_slow_call_is_no_busy_machine(caplog):
    watch = RateWatch()
    for seconds in [*[0.5] * 50, 8.0, *[0.5] * 50]:
        watch.note(16, seconds)
    assert not caplog.records


def test_a_run_watches_its_own_calls(analytic, tmp_path, monkeypatch, caplog):
    """Whose clock goes ever faster."""
    ticks = iter(range(10**9))
    monkeypatch.setattr("diffedit.engine.engine.time.perf_counter", lambda: next(ticks) ** 1.7)
    monkeypatch.setattr(threads, "WINDOW", 1.0)
    settings = RunSettings(ratios=(0.5, 1.0), steps=10, progress=False)
    run_benchmark(Pictures(4), EditPipeline(DiffEdit()), analytic, tmp_path / "run", settings)
    assert sum("evaluations a second, and" in record.getMessage() for record in caplog.records) == 1
