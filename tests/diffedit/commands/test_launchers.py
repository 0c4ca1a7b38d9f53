"""Who edits: this process, several on this machine, a Slurm array. The array itself: tests/slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import call, call_process, read_run, said, write_pictures

from diffedit.commands.launchers import (
    CommandTask,
    Here,
    Local,
    Print,
    RunWork,
    ScoreWork,
    Slurm,
    WorkersFailedError,
    list_devices,
    make_environment,
)
from diffedit.runs.cut import ONE, Tasks


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The words of a small run."""
    words = write_pictures(tmp_path_factory.mktemp("pictures"), 6)
    return [*words, "steps=4", "ratios=[0.5]", "engine.progress=false"]


def read_but_settings(root):
    return {name: content for name, content in read_run(root).items() if name not in ("config.yaml", "run.log")}


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = call("run.py", *small, "engine.cpu_threads=1", f"runs={folder}")
    assert done.returncode == 0, said(done)
    (root,) = folder.glob("*/*/*/*")
    return read_but_settings(root)


@pytest.mark.parametrize("count", [1, 2])
def test_processes_on_this_machine(small, tmp_path, whole, count, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # the demo has one bar of its own
    words = ["launcher=local", f"launcher.processes={count}", "engine.cpu_threads=1"]
    done = call_process("run.py", *small, *words, f"runs={tmp_path}")
    assert done.returncode == 0, said(done)
    (root,) = tmp_path.glob("*/*/*/*")
    assert read_but_settings(root) == whole
    assert len(list(tmp_path.glob(".local/*/*.log"))) == count
    assert len(list(root.glob("shards/*.parquet"))) == (1 if count == 1 else 6)  # so that there is something for each
    assert "6/6" in done.stderr
    again = call_process("run.py", *small, *words, f"runs={tmp_path}")
    assert again.returncode == 0
    assert read_but_settings(root) == whole


def test_a_process_that_fails_is_told_with_its_last_lines(tmp_path):
    (tmp_path / "edits.csv").write_text("image,target,source,id\nnothing.png,pear,apple,one\n")
    words = ["benchmark=folder", f"benchmark.path={tmp_path / 'edits.csv'}", "steps=4", "ratios=[0.5]"]
    done = call_process("run.py", "backbone=analytic", *words, "launcher=local", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 1
    assert "process 0 ended with 1:" in done.stderr
    assert "nothing.png" in done.stderr
    assert "the same command goes on" in done.stderr


def test_a_command_that_is_wrong_starts_nobody(small, tmp_path):
    done = call("run.py", *small, "launcher=local", "editor.guidanse=1", f"runs={tmp_path}")
    assert done.returncode == 2
    done = call("run.py", *small, "launcher=local", "launcher.processes=0", f"runs={tmp_path}")
    assert done.returncode == 2
    assert "launcher.processes = 0: it should be a whole number from 1 on, or null" in done.stderr
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize("launcher", ["slurm", "print"])
def test_a_plan_is_made_here_and_nothing_is_handed_in(small, tmp_path, launcher, monkeypatch):
    for kind in (Slurm, Print):
        monkeypatch.setattr(kind, "start", pytest.fail)
    words = [f"launcher={launcher}", "launcher.tasks=2", "launcher.array_parallelism=1", "shards.size=2"]
    done = call("run.py", *small, *words, "plan=true", f"runs={tmp_path}")
    assert done.returncode == 0, said(done)
    told = " ".join(done.stdout.split())
    assert "6 requests to edit" in told
    assert "shards: 3 of 2 requests, 0 of them done" in told
    assert "2 tasks: 2 shards (4 requests) each at most, about" in told
    assert "in all, 1 at once" in told
    assert not list(tmp_path.iterdir())
    many = call("run.py", "--multirun", *small, "editor=copy,sdedit", *words, "plan=true", f"runs={tmp_path}")
    assert many.returncode == 0, said(many)
    assert "12 requests to edit" in many.stdout
    assert "2 tasks: 3 shards" in many.stdout


def test_tasks_of_a_plan(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert (Local().count_tasks(), Local(processes=3).count_tasks(), Here().count_tasks()) == (Tasks(2), Tasks(3), ONE)
    assert Slurm(tasks=8, array_parallelism=2).count_tasks() == Tasks(8, 2, is_here=False)


# --------------------------------------------------------------------------------------------------------------- Slurm


def test_where_there_is_no_slurm_it_says_so(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = call("run.py", *small, "launcher=slurm", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "no srun here" in done.stderr
    assert "launcher=print" in done.stderr


def test_the_script_is_printed(small, tmp_path):
    words = ["launcher=print", "launcher.tasks=3", "launcher.array_parallelism=2", "launcher.partition=gpu"]
    words += ["launcher.gres=null", "launcher.setup=['module load cuda']", "name=my run", "shard=1/2"]
    done = call("run.py", "--multirun", *small, "editor=copy,sdedit", *words, f"runs={tmp_path}")
    assert done.returncode == 0, said(done)
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "#!/bin/bash"
    options = ["--array=0-2%2", "--partition=gpu", "--signal=USR1@120", "--requeue", "--time=240"]
    for option in [*options, "--output=diffedit-%A_%a.log"]:
        assert f"#SBATCH {option}" in lines
    assert "--gres" not in done.stdout
    assert lines.index("module load cuda") < next(i for i, line in enumerate(lines) if line.startswith("srun"))
    command = next(line for line in lines if line.startswith("srun"))
    assert "--multirun" in command
    assert "editor=copy,sdedit" in command
    assert "'name=my run'" in command
    assert "launcher=here wait=true" in command
    assert command.endswith('"shard=$SLURM_ARRAY_TASK_ID/3"')
    assert command.count("shard=") == 1
    assert not list(tmp_path.glob("*/*/*/*/config.yaml"))


def test_the_words_of_a_task():
    work = RunWork(["a=b", "launcher=slurm", "launcher.tasks=4", "shard=0/2", "wait=false"], [], 0, Path("runs"))
    assert work.make_words(3, 4) == [
        *("run", "a=b", "launcher=here", "wait=true", "engine.progress=false", "shard=3/4"),
    ]
    assert Print(tasks=2).make_script(work).count("shard=") == 1


def test_what_submitit_is_told(tmp_path, monkeypatch):
    """Its own parameters, by their names: it refuses others."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", staticmethod(lambda: 2))
    launcher = Slurm(partition="gpu", account="me", constraint="a100", qos="high", setup=("x",), folder=str(tmp_path))
    told = launcher.make_executor(tmp_path, 8, dependency="afterany:3")._executor.parameters
    assert (told["partition"], told["account"], told["constraint"], told["qos"]) == ("gpu", "me", "a100", "high")
    assert (told["array_parallelism"], told["time"], told["gres"], told["mem"]) == (8, 240, "gpu:1", "16G")
    assert told["signal_delay_s"] == 120
    assert told["additional_parameters"] == {"requeue": True, "dependency": "afterany:3"}
    assert told["setup"] == ["x"]


def test_a_task_is_a_command_that_goes_on(small, tmp_path, monkeypatch):
    """In submitit's own process, as on a node."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=5)
    words = ("run", *small, f"runs={tmp_path / 'runs'}", "shard=0/1")
    good, bad = executor.submit(CommandTask(), words), executor.submit(CommandTask(), ("ls", "nothing"))
    assert good.result() == 0
    assert list((tmp_path / "runs").glob("*/*/*/*/manifest.parquet"))
    assert "WorkersFailedError" in str(bad.exception())
    assert CommandTask().checkpoint(words).args == (words,)
    with pytest.raises(WorkersFailedError, match="exit code 2"):
        CommandTask()(("ls", "nothing"))


# ------------------------------------------------------------------------------------------------------------- devices


def test_each_process_has_its_own_device_or_cores(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("diffedit.engine.threads.count_cores", lambda: 8)
    assert list_devices({"CUDA_VISIBLE_DEVICES": "4,7"}) == ["4", "7"]
    assert list_devices({"CUDA_VISIBLE_DEVICES": ""}) == []
    made = [make_environment(k, 3, ["4", "7"]) for k in range(3)]
    assert [environ["CUDA_VISIBLE_DEVICES"] for environ in made] == ["4", "7", "4"]
    assert {environ["OMP_NUM_THREADS"] for environ in made} == {"2"}
    assert {environ["OMP_WAIT_POLICY"] for environ in made} == {"PASSIVE"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert make_environment(0, 3, [])["OMP_NUM_THREADS"] == "5"


# ------------------------------------------------------------------------------------------------------------- scoring


def test_the_words_of_a_scoring_task():
    words = ["runs=a/*", "launcher=slurm", "launcher.tasks=4", "metric=[lpips]"]
    work = ScoreWork(words, [], Path("cache"), 0)
    assert work.make_words(3, 4) == ["score", "runs=a/*", "metric=[lpips]", "launcher=here", "shard=3/4"]
    assert work.make_last_words(None) == ["score", "runs=a/*", "metric=[lpips]", "launcher=here"]
    script = Print(tasks=2, partition="gpu", setup=("module load cuda",)).make_script(work)
    (last,) = [line for line in script.splitlines() if "afterany" in line]
    assert "--partition=gpu" in last
    assert "module load cuda; " in last
    assert "shard=" not in last
    with pytest.raises(ValueError, match=r"launcher\.score: of diffedit run"):
        work.make_last_words(["resamples=10"])


def test_processes_on_this_machine_measure_for_one_that_scores(tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # the demo has one bar of its own
    (tmp_path / "pictures").mkdir()
    words = write_pictures(tmp_path / "pictures", 70)
    done = call("run.py", *words, "steps=2", "ratios=[0.5]", "engine.progress=false", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, said(done)
    asked = [f"runs={tmp_path}/runs/*/*/*/*", f"cache={tmp_path}/cache", "resamples=10", "metric=[lpips]"]
    asked += ["networks=stilllife"]
    done = call_process("score.py", *asked, "launcher=local", "launcher.processes=2")
    assert done.returncode == 0, said(done)
    assert "2/2" in done.stderr
    assert "2 of 2 parts were measured ahead" in done.stdout
    (root,) = tmp_path.glob("runs/*/*/*/*")
    assert (root / "scores.parquet").is_file()
    assert not (root / "scores/parts").exists()
    assert len(list(tmp_path.glob("cache/.local/*/*.log"))) == 2
    again = call_process("score.py", *asked, "launcher=print", "launcher.tasks=3")
    assert again.returncode == 0
    assert "--array=0-2" in again.stdout


def test_a_share_is_of_runs_and_of_one_process(tmp_path):
    (tmp_path / "edited").mkdir()
    for words in (["shard=0/2"], ["launcher=local"]):
        done = call("score.py", f"folder={tmp_path / 'edited'}", *words)
        assert done.returncode == 2
        assert "shard, launcher: of runs" in said(done)
    done = call("score.py", f"runs={tmp_path}/*", "shard=0/2", "launcher=local")
    assert "shard = 0/2: with launcher=here alone" in said(done)
