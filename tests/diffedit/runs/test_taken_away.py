"""What is taken from under a run: the right to write, or its directory; and two clusters that take from each other."""

import errno
import multiprocessing
import shutil
import subprocess
import time

import pytest
from helpers import call, edit_on_host, edit_small_run, mount_disk, read_run, said, write_pictures

from diffedit.io.files import Writer
from diffedit.runs import claim as claims
from diffedit.runs.claim import read_holder
from diffedit.runs.cut import Share, get_claim_path, get_shard_path, list_shards, read_summary
from diffedit.runs.directory import ConfigChangedError, RunDirectory, RunGoneError

COUNT = 40
OPTIONS = {"shard_size": 4, "wait": True}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a run that nothing happened to."""
    root = tmp_path_factory.mktemp("whole") / "run"
    edit_small_run(str(root), COUNT, **OPTIONS)
    return read_run(root)


@pytest.fixture(scope="module")
def start():
    """Starts a process at a run of 40 requests; returns it, and the queue of what it raises."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["helpers", "diffedit.diffedit", "diffedit.backbones.analytic", "diffedit.runs.loop"]
    )

    def start_one(root, host=claims.HOST, share=Share()):  # noqa: B008
        errors = context.Queue()
        process = context.Process(
            target=edit_on_host, args=(host, errors, str(root), COUNT), kwargs=OPTIONS | {"share": share}
        )
        process.start()
        return process, errors

    return start_one


def wait_until(is_so, seconds=60.0):
    """Until something is so; fails where it is not in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def remove(root):
    """Remove a folder, also where a file comes while it goes."""
    wait_until(lambda: shutil.rmtree(root, ignore_errors=True) or not root.exists())


# ------------------------------------------------------------------------------------------------------------ read-only


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, which can be mounted for reading alone: root may write to any folder without the right to."""
    with mount_disk(tmp_path / "disk", "64m") as folder:
        yield folder


def remount(disk, how):
    """Mount it as `ro` or `rw`; False where a file of it is open for writing."""
    command = ["mount", "-o", f"remount,{how}", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_folder_that_cannot_be_written_to_is_named_with_what_to_do(disk, tmp_path):
    """The folder of runs, or a run that was begun; with the right to write again, the same command goes on."""
    words = [*write_pictures(tmp_path, 4), "steps=4", "ratios=[0.5]", "engine.progress=false"]
    begun = [*words, f"runs={disk}/begun"]
    assert call("run.py", *begun, "benchmark.limit=2", "name=x").returncode == 0
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    assert remount(disk, "ro")
    for case in ([*begun, "name=x"], [*begun, "name=y"], [*words, f"runs={disk}/new"]):
        done = call("run.py", *case)
        assert done.returncode == 1, said(done)
        assert "Read-only file system: mount it for writing, or write elsewhere (of a run: runs=DIR)" in done.stderr
        assert f"diffedit run: {disk}/" in done.stderr
        assert "Traceback" not in said(done)
    assert "Read-only" not in said(call("run.py", *begun, "name=x", "plan=true"))  # which writes nothing
    assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
    assert remount(disk, "rw")
    assert call("run.py", *begun, "name=x").returncode == 0


def test_a_disk_that_cannot_be_written_to_any_more_ends_the_run(disk, start, whole):
    """What was saved is whole, and the next start takes over the claims, which could not be removed."""
    root = disk / "run"
    worker, errors = start(root)
    wait_until(lambda: list_shards(root))
    wait_until(lambda: remount(disk, "ro") or not worker.is_alive())
    worker.join(60)
    if errors.empty():
        pytest.skip("the run ended before its disk could be mounted anew")
    _, told, number = errors.get()
    assert number == errno.EROFS
    assert str(root) in told
    assert remount(disk, "rw")
    done = {name: content for name, content in read_run(root).items() if name.startswith("images/")}
    assert done.items() <= whole.items()
    edit_small_run(str(root), COUNT, **OPTIONS)
    assert read_run(root) == whole
    assert not list(root.rglob("*.claim"))


# -------------------------------------------------------------------------------------------------------------- removed


def test_a_run_that_is_removed_ends_and_the_next_start_edits_from_nothing(tmp_path, start, whole):
    root = tmp_path / "run"
    worker, errors = start(root)
    wait_until(lambda: list_shards(root))
    remove(root)
    worker.join(60)
    assert worker.exitcode == 0
    name, told, _ = errors.get(timeout=5)
    assert name == "RunGoneError", told
    assert f"{root}: its config.yaml is gone: somebody removed the run while it was edited" in told
    assert not list(root.rglob("*.json")) + list(root.rglob("*.parquet")) + list(root.rglob("*.claim"))
    assert RunGoneError.exit_code == 1
    edit_small_run(str(root), COUNT, **OPTIONS)
    assert read_run(root) == whole


PLACES = {
    "before a picture": "diffedit.runs.directory.RunDirectory.write_outcome",
    "before a record": "diffedit.runs.directory.RunDirectory.check_there",
    "before a shard": "diffedit.runs.directory.RunDirectory.pack",
    "before the manifest": "diffedit.runs.directory.RunDirectory.close",
}


@pytest.mark.parametrize("name", PLACES)
def test_wherever_it_goes_no_record_is_made_again(tmp_path, whole, monkeypatch, name):
    place = PLACES[name].rpartition(".")[2]
    function, calls = getattr(RunDirectory, place), []

    def remove_and_call(self, *args, **options):
        calls.append(name)
        if len(calls) == (1 if place == "close" else 3):
            remove(self.root)
        return function(self, *args, **options)

    monkeypatch.setattr(RunDirectory, place, remove_and_call)
    with pytest.raises(RunGoneError, match="somebody removed the run"):
        edit_small_run(str(tmp_path / "run"), COUNT, **OPTIONS)
    assert not list((tmp_path / "run").rglob("*.json")) + list((tmp_path / "run").rglob("*.parquet"))
    monkeypatch.undo()
    edit_small_run(str(tmp_path / "run"), COUNT, **OPTIONS)
    assert read_run(tmp_path / "run") == whole


def test_a_run_of_other_settings_in_its_place_is_not_written_into(tmp_path, monkeypatch):
    root, function, calls = tmp_path / "run", RunDirectory.write_outcome, []
    edit_small_run(str(tmp_path / "other"), 2, batch=2)

    def replace_and_call(self, *args, **options):
        calls.append(0)
        if len(calls) == 3:
            shutil.rmtree(root)
            shutil.copytree(tmp_path / "other", root)
        return function(self, *args, **options)

    monkeypatch.setattr(RunDirectory, "write_outcome", replace_and_call)
    monkeypatch.setattr("diffedit.runs.directory.Writer", lambda: Writer(threads=1))  # another would find it gone
    with pytest.raises(ConfigChangedError, match=r"engine\.batch\.predict: 2 -> 4"):
        edit_small_run(str(root), COUNT, **OPTIONS)
    assert len(list_shards(root)) == 1


# --------------------------------------------------------------------------------------------------------- two clusters


def test_two_clusters_on_one_directory(tmp_path, start, whole):
    """Neither can see whether a process of the other lives; together they make the run of one, no shard twice."""
    root = tmp_path / "run"
    workers = [start(root, host, Share(0, 2)) for host in ("cluster-a", "cluster-b")]
    hosts = set()

    def have_ended():
        for number in range(COUNT // 4):
            holder = read_holder(get_claim_path(root, number)) or {}
            hosts.update(filter(None, [holder.get("host")]))
        return not any(worker.is_alive() for worker, _ in workers)

    wait_until(have_ended, 120)
    assert all(errors.empty() for _, errors in workers)
    assert read_run(root) == whole
    makers = [read_summary(get_shard_path(root, number))["host"] for number in range(COUNT // 4)]
    assert set(makers) | hosts <= {"cluster-a", "cluster-b"}
    assert len(list_shards(root)) == len(makers)
