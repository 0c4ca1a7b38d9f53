"""A real Slurm, disturbed: run by `make test-slurm`, which starts one on this machine (scripts/slurm_box.sh).

Three editors, eight shards each, two tasks at a time. One task is killed, one requeued, one comes to the end of its
time, one is preempted, and the node's daemon dies. What comes out is the run of one process that nothing happened to.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from helpers import ROOT, read_run

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SLURM_CONF"), reason="needs a Slurm: make test-slurm"),
    pytest.mark.timeout(1500),
]

EDITORS = ("diffedit", "sdedit", "encode_decode")
ASKED = [
    *("--multirun", f"editor={','.join(EDITORS)}", "benchmark.size=16", "shards.size=2", "steps=20"),
    *("ratios=[0.5,1.0]", "engine.cpu_threads=1", "engine.batch.predict=4", "claims.timeout=20"),
]
SLURM = [
    *("launcher=slurm", "launcher.tasks=4", "launcher.array_parallelism=2", "launcher.gres=null"),
    *("launcher.memory=null", "launcher.cpus=1", "launcher.partition=low", "launcher.signal=30"),
]


def diffedit(*words, cwd, **more):
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "diffedit", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environ, check=False, **more)


def slurm(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """The runs by one process."""
    folder = tmp_path_factory.mktemp("edited")
    done = diffedit("run", *ASKED, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def whole(edited):
    """The same, as `read_run` and the manifest have them."""
    return read_all(edited)


def read_all(folder):
    roots = {path.parent.parent.name: path.parent for path in sorted(folder.glob("runs/*/*/*/*/config.yaml"))}
    assert set(roots) == set(EDITORS)
    tables = {name: pd.read_parquet(root / "manifest.parquet").drop(columns="seconds") for name, root in roots.items()}
    return {name: (read_but_settings(root), tables[name]) for name, root in roots.items()}


def read_but_settings(root):
    """Images, masks, maps and records of a run."""
    files = read_run(root)
    kept = {name: files[name] for name in files if name.startswith("record of ") or name.endswith((".png", ".npy"))}
    assert {name.partition("/")[0] for name in kept} >= {"images"}
    return kept


def check_equal(folder, whole):
    found = read_all(folder)
    for editor, (files, table) in whole.items():
        assert found[editor][0] == files, editor
        pd.testing.assert_frame_equal(found[editor][1], table)
        assert not found[editor][1].duplicated(["id", "variant"]).any()


def list_queue():
    """(job, state) of all that is queued or runs."""
    lines = slurm("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
    return dict(line.split() for line in lines)


def find_workers(folder):
    """The processes of tasks that edit into a folder, by the job of each."""
    workers = {}
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "submitit.core._submit" in words and str(folder) in " ".join(words):
            environ = process.environ()
            workers[f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"] = process
    return workers


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s; {slurm('squeue', '--array')}"
        time.sleep(0.5)
    return found


def count_claims(folder):
    return len(list(folder.glob("runs/*/*/*/*/shards/*.claim")))


def count_shards(folder):
    return len(list(folder.glob("runs/*/*/*/*/shards/*.parquet")))


def test_a_disturbed_array_is_whole(tmp_path, whole):
    score = "launcher.score=['metric=[lpips]','resamples=10']"
    short = "launcher.time=2", "launcher.signal=75"  # each is asked to stop after 45 seconds, however fast it is
    done = diffedit("run", *ASKED, *SLURM, *short, score, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: count_shards(tmp_path) >= 1, 120, "a first shard")
    kill_one(tmp_path)
    requeue_one(tmp_path)
    preempt(tmp_path)
    kill_the_daemon()
    wait_until(lambda: not list_queue(), 900, "the end of all jobs")
    check_equal(tmp_path, whole)
    scores = list(tmp_path.glob("runs/*/*/*/*/scores.parquet"))
    assert len(scores) == len(EDITORS)
    newest = max(path.stat().st_mtime for path in tmp_path.glob("runs/*/*/*/*/shards/*.parquet"))
    assert all(path.stat().st_mtime > newest for path in scores)
    assert len(list(tmp_path.glob("runs/.slurm/*_result.pkl"))) >= 2
    logs = {path.name: path.read_text() for path in tmp_path.glob("runs/.slurm/*_log.*")}
    told = "".join(logs.values())
    assert told.count("this job is timed-out") >= 1  # each was really disturbed
    assert told.count("taken over from process") >= 1
    assert sum("the floor" in text or "lpips" in text for name, text in logs.items() if name.endswith("out")) == 1
    kinds = slurm("scontrol", "show", "job", "--oneliner")
    assert sum(int(found) for found in re.findall(r"Restarts=(\d+)", kinds)) >= 2


def kill_one(folder):
    job, process = wait_until(lambda: list(find_workers(folder).items()), 60, "a task")[0]
    process.send_signal(signal.SIGKILL)
    wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 30, f"the end of {job}")


def requeue_one(folder):
    def requeue():
        """Whether one was: it may end meanwhile."""
        return any(
            not subprocess.run(["scontrol", "requeue", job], check=False).returncode for job in find_workers(folder)
        )

    wait_until(requeue, 120, "a task that is requeued")


def preempt(folder):
    wait_until(lambda: find_workers(folder), 90, "a task")
    slurm("srun", "--partition=high", f"--ntasks={os.cpu_count()}", "sleep", "3")


def kill_the_daemon():
    """As a node that dies: its daemon, and what it started."""
    box = Path(os.environ["SLURM_CONF"]).parent
    number = int((box / "run/slurmd.pid").read_text())
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in ("slurmd", "slurmstepd"):
            process.kill()
    wait_until(lambda: not psutil.pid_exists(number), 30, "the end of slurmd")
    time.sleep(20)  # the controller notices
    subprocess.run(["slurmd", "-f", os.environ["SLURM_CONF"]], check=True)
    subprocess.run(["scontrol", "update", f"NodeName={os.uname().nodename.split('.')[0]}", "State=RESUME"], check=False)


def test_the_printed_script_does_the_same(tmp_path, whole):
    """Without submitit: by sbatch alone."""
    done = diffedit("run", *ASKED, *[word.replace("slurm", "print") for word in SLURM[:1]], *SLURM[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("runs/*/*/*/*/config.yaml"))  # nothing was edited
    (tmp_path / "array.sh").write_text(done.stdout)
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["sbatch", "array.sh"], cwd=tmp_path, env=environ, check=True)
    wait_until(lambda: not list_queue(), 600, "the end of all jobs")
    check_equal(tmp_path, whole)


def test_hydras_own_launcher_still_hands_in_sweeps(tmp_path, whole):
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=low", "hydra.launcher.cpus_per_task=1"]
    words += ["hydra.launcher.mem_gb=null", "hydra.sweep.dir=runs"]
    done = diffedit("run", *ASKED, *words, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    check_equal(tmp_path, whole)


def test_an_array_measures_and_one_job_scores(edited, tmp_path):
    shutil.copytree(edited / "runs", tmp_path / "runs")
    asked = ["metric=[lpips,accuracy]", "resamples=10", "cpu_threads=1"]
    words = ["launcher.tasks=2", "launcher.wait=true"]
    done = diffedit("score", *asked, *SLURM, *words, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    logs = {path.name: path.read_text() for path in tmp_path.glob("runs/.cache/.slurm/*_log.out")}
    assert sum(text.count("1 of 1 parts are measured") for text in logs.values()) == len(EDITORS)
    (last,) = [text for text in logs.values() if "lpips" in text]
    assert last.count("1 of 1 parts were measured ahead") == len(EDITORS)
    alone = diffedit("score", *asked, cwd=edited)
    assert alone.returncode == 0, alone.stderr
    for path in edited.glob("runs/*/*/*/*/scores/*.parquet"):
        assert (tmp_path / path.relative_to(edited)).read_bytes() == path.read_bytes()
