"""A file that exists is not yet a whole one: damage of every kind to a finished run, and what the next start does.

A new kind is a line in `DAMAGE` or `REFUSED`.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import Pictures
from PIL import Image

from diffedit.diffedit import DiffEdit
from diffedit.runs.describe import describe_run
from diffedit.runs.directory import ConfigChangedError
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.stages.pipeline import EditPipeline

COUNT = 3


def edit(analytic, root, benchmark=None, **settings):
    """One config, whatever has become of the pictures."""
    settings, pipeline = RunSettings(ratios=(0.5, 1.0), steps=4, progress=False, **settings), EditPipeline(DiffEdit())
    config = describe_run(Pictures(COUNT), pipeline, analytic, settings)
    return run_benchmark(benchmark or Pictures(COUNT), pipeline, analytic, root, settings, config)


def read(root):
    """Every picture, mask, map and record of a run, but for the seconds."""
    files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in (".png", ".npy", ".json") and path.name != "environment.json":
            content = path.read_bytes()
            if path.suffix == ".json":
                content = {key: value for key, value in json.loads(content).items() if key != "seconds"}
            files[path.relative_to(root).as_posix()] = content
    return files


@pytest.fixture(scope="module")
def finished(analytic, tmp_path_factory):
    """A run that nothing happened to."""
    root = tmp_path_factory.mktemp("finished") / "run"
    edit(analytic, root)
    return root


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def cut(path, size=-20):
    path.write_bytes(path.read_bytes()[:size])


def swap(path):
    """Another picture of the same number of bytes: its last pixels differ."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def change_record(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def set_edits(path, **fields):
    record = json.loads(path.read_text())
    record["edits"][0] |= fields
    path.write_text(json.dumps(record))


FILES = ("images/0.5/1.png", "masks/1.png", "maps/1.npy")
RECORD, SURROUNDINGS = "records/1.json", "environment.json"
# name: (file, what is done to it, how it is looked at, words of the log)
DAMAGE = {
    **{f"{file} cut": (file, cut, "size", f"{file} has ") for file in FILES},
    **{f"{file} emptied": (file, lambda path: cut(path, 0), "size", f"{file} has 0 bytes of") for file in FILES},
    **{f"{file} gone": (file, Path.unlink, "none", f"{file} is gone") for file in FILES},
    **{f"{file} swapped": (file, swap, "content", f"{file} has another content") for file in FILES},
    "record cut": (RECORD, cut, "size", "records/1.json: not a whole record"),
    "record emptied": (RECORD, lambda path: cut(path, 0), "size", "records/1.json: not a whole record"),
    "record gone": (RECORD, Path.unlink, "size", ""),
    "record without edits": (RECORD, lambda path: change_record(path, edits=[]), "size", "done, and without edits"),
    "record a list": (RECORD, lambda path: path.write_text("[]"), "size", "records/1.json: not a whole record"),
    "record a number": (RECORD, lambda path: path.write_text("3"), "size", "records/1.json: not a whole record"),
    "record null": (RECORD, lambda path: path.write_text("null"), "size", "records/1.json: not a whole record"),
    "record of bytes": (RECORD, lambda path: path.write_bytes(b"\xff\xfe\0"), "size", "not a whole record"),
    "record of another": (RECORD, lambda path: change_record(path, id="2"), "size", ""),
    "record, edits a text": (RECORD, lambda path: change_record(path, edits="x"), "size", "of another type"),
    "record, no target": (RECORD, lambda path: change_record(path, target=None), "size", "target = None"),
    "record, a status of its own": (RECORD, lambda path: change_record(path, status="fine"), "size", "'fine'"),
    "record, file a number": (RECORD, lambda path: set_edits(path, file=3), "size", "file = 3"),
    "record, an unknown variant": (RECORD, lambda path: set_edits(path, variant="ratio=x"), "size", "not a whole"),
    "record, another ratio": (RECORD, lambda path: set_edits(path, variant="ratio=0.7"), "size", "has not all edits"),
    "environment cut": (SURROUNDINGS, cut, "size", "environment.json: damaged or gone"),
    "environment gone": (SURROUNDINGS, Path.unlink, "size", "environment.json: damaged or gone"),
    "environment a list": (SURROUNDINGS, lambda path: path.write_text("[1]"), "size", "damaged or gone"),
    "manifest cut": ("manifest.parquet", cut, "size", ""),
    "manifest gone": ("manifest.parquet", Path.unlink, "size", ""),
    "a temporary file": (RECORD, lambda path: path.with_name(".a..tmp").touch(), "size", ""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_named_and_made_again(analytic, run, finished, caplog, name):
    """Afterwards the run is the one that nothing happened to, to the byte."""
    file, damage, verify, words = DAMAGE[name]
    damage(run / file)
    table = edit(analytic, run, verify=verify)
    assert words in caplog.text
    assert (table.status == "done").all()
    assert table.id.nunique() == COUNT
    assert read(run) == read(finished)
    assert json.loads((run / SURROUNDINGS).read_text())["packages"]


def test_what_is_not_looked_for_is_not_found(analytic, run, finished):
    """A swap of equal size is found by the content alone; so the setting does something."""
    swap(run / FILES[0])
    edit(analytic, run, verify="size")
    assert read(run) != read(finished)


REFUSED = {
    "config cut": lambda path: cut(path, len(path.read_bytes()) // 2),
    "config emptied": lambda path: cut(path, 0),
    "config of bytes": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "config a list": lambda path: path.write_text("- 1\n"),
    "config not yaml": lambda path: path.write_text("a: [1\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_config_is_refused_by_its_name(analytic, run, finished, name):
    """Whose edits these are cannot be told any more, so nothing is added to them."""
    REFUSED[name](run / "config.yaml")
    with pytest.raises(ConfigChangedError, match="run"):
        edit(analytic, run)
    assert read(run) == read(finished)


def test_records_that_go_while_the_run_goes_on_are_not_done(analytic, tmp_path, monkeypatch):
    """The exit code is 0 only where every request of the benchmark is done."""
    from diffedit.runs.directory import RunDirectory

    write = RunDirectory.write_outcome

    def write_and_lose(self, request, outcome):
        write(self, request, outcome)
        if request.id == "1":
            shutil.rmtree(self.root / "records", ignore_errors=True)

    monkeypatch.setattr(RunDirectory, "write_outcome", write_and_lose)
    with pytest.raises(RunFailedError, match=rf"\d of {COUNT} requests are done: the records of the others are gone"):
        edit(analytic, tmp_path)
    monkeypatch.undo()
    assert (edit(analytic, tmp_path).status == "done").all()


def test_a_failure_takes_nothing_from_what_is_there(analytic, run):
    """A picture is gone, and so is its source: the other edits, the mask and the map stay in the record."""
    (run / FILES[0]).unlink()
    before = json.loads((run / RECORD).read_text())
    with pytest.raises(RunFailedError, match="1 of 3 requests failed"):
        edit(analytic, run, Pictures(COUNT, broken=1))
    after = json.loads((run / RECORD).read_text())
    assert (after["status"], after["error"]) == ("failed", "OSError: broken")
    assert {key: after[key] for key in ("edits", "mask", "map", "files")} == {
        key: before[key] for key in ("edits", "mask", "map", "files")
    }
    assert (edit(analytic, run).status == "done").all()


def test_a_done_request_whose_source_is_gone_stays_done(analytic, run, finished):
    edit(analytic, run, Pictures(COUNT, broken=1))
    assert read(run) == read(finished)


def test_every_file_has_its_size_and_hash(finished):
    for path in (finished / "records").iterdir():
        record = json.loads(path.read_text())
        assert len(record["files"]) == 4
        for name, written in record["files"].items():
            assert written["size"] == (finished / name).stat().st_size
            assert len(written["sha256"]) == 64


def test_a_record_of_before_knows_less_and_is_done(analytic, run, finished):
    """One without sizes and hashes of masks and maps."""
    path = run / RECORD
    before = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("files", "sources")}
    path.write_text(json.dumps(before))
    edit(analytic, run, verify="content")
    assert json.loads(path.read_text()) == before
    swap(run / FILES[0])
    edit(analytic, run, verify="content")
    assert read(run) == read(finished)


def test_pictures_on_disk_are_not_what_damage_is_tested_on(finished):
    """The files above are real: pictures that open, a map that loads."""
    assert Image.open(finished / FILES[0]).size == (16, 16)
    assert np.load(finished / FILES[2]).shape == (16, 16)
