"""A file that exists is not yet a whole one: damage of every kind to a finished run, and what the next start does.

A new kind is a line in `DAMAGE`, `FIELDS`, `LOST` or `REFUSED`.
"""

import errno
import json
import math
import os
import pkgutil
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import Pictures, find_record, mount_disk, read_run, unpack_records
from PIL import Image

from baselines.bounds import Copy
from diffedit.diffedit import DiffEdit
from diffedit.io.files import Writer
from diffedit.runs.describe import describe_run
from diffedit.runs.directory import ConfigChangedError, RunDirectory
from diffedit.runs.loop import RunFailedError, RunSettings, run_benchmark
from diffedit.runs.records import read_whole_record
from diffedit.stages.pipeline import EditPipeline

COUNT = 3


def edit(analytic, root, benchmark=None, editor=None, **settings):
    """One config, whatever has become of the pictures."""
    pipeline = EditPipeline(editor or DiffEdit())
    settings = RunSettings(ratios=(0.5, 1.0), steps=4, progress=False, **settings)
    config = describe_run(Pictures(COUNT), pipeline, analytic, settings)
    return run_benchmark(benchmark or Pictures(COUNT), pipeline, analytic, root, settings, config)


def read(root):
    """Every picture, mask, map and record of a run."""
    return {name: content for name, content in read_run(root).items() if not name.endswith((".yaml", ".aside", "/a"))}


@pytest.fixture(scope="module")
def finished(analytic, tmp_path_factory):
    """A run that nothing happened to."""
    root = tmp_path_factory.mktemp("finished") / "run"
    edit(analytic, root)
    return root


@pytest.fixture(scope="module")
def record(finished):
    """Of one of its requests."""
    return find_record(finished, "1")


@pytest.fixture
def run(finished, tmp_path):
    """Its records lie beside its shards, as where these were not edited to their end."""
    root = shutil.copytree(finished, tmp_path / "run")
    unpack_records(root)
    return root


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


def drop_edit(path):
    """One ratio less, as of a run that was asked for less."""
    record = json.loads(path.read_text())
    del record["files"][record["edits"].pop()["file"]]
    path.write_text(json.dumps(record))


def replace(path, make):
    """Another kind of thing in the place of a file."""
    path.unlink()
    make(path)


def make_folder(path):
    path.mkdir()
    (path / "a").write_text("somebody's")


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
    "record, an edit less": (
        RECORD,
        lambda path: drop_edit(path),
        "size",
        "not all edits of 1 requests are there, as of 1",
    ),
    **{
        f"{file} {name}": (file, lambda path, make=make: replace(path, make), "size", words)
        for file, words in (
            (RECORD, "records/1.json: not a whole record"),
            (SURROUNDINGS, "environment.json: damaged or gone"),
            (FILES[0], f"{FILES[0]} is gone"),
            ("manifest.parquet", ""),
        )
        for name, make in (("a FIFO", os.mkfifo), ("a folder", make_folder))
    },
    "record without end": (RECORD, lambda path: replace(path, lambda p: p.symlink_to("/dev/zero")), "size", "regular"),
    "record a link to itself": (
        RECORD,
        lambda path: replace(path, lambda p: p.symlink_to(p)),
        "size",
        "records/1.json",
    ),
    "record nested": (
        RECORD,
        lambda path: path.write_text("[" * 200_000),
        "size",
        "1.json: not a whole record (nested",
    ),
    "environment nested": (
        SURROUNDINGS,
        lambda path: path.write_text("[" * 200_000),
        "size",
        "damaged or gone (nested",
    ),
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


ABSENT, FIRST = object(), FILES[0]
# what is written where; the words that name it
FIELDS = [
    *[
        ((name,), ABSENT, name)
        for name in ("id", "seconds", "shared_evaluations", "source", "error", "mask", "metadata")
    ],
    *[(("seconds",), value, "seconds = ") for value in ("abc", math.nan, -1, [1])],
    (("error",), 5, "error = 5"),
    (("status",), [], "status = []"),
    (("source",), 3, "source = 3"),
    (("more",), 3, "more = 3"),
    (("metadata",), {"a": {"b": [1]}}, "metadata.a"),
    (("metadata",), {"a": 10**30}, "metadata.a"),
    (("files",), [1], "files = [1]"),
    (("files",), {"images/0.5/1.png": {"size": 1, "sha256": "0" * 64}}, "files = "),
    (("files", FIRST), 5, "files.images/0.5/1.png = 5"),
    (("files", FIRST, "size"), None, "size = None"),
    (("files", FIRST, "size"), "x", "size = 'x'"),
    (("files", FIRST, "sha256"), ABSENT, "sha256"),
    (("files", FIRST, "sha256"), "0" * 64, "two hashes"),
    (("sources",), "abc", "sources = 'abc'"),
    (("sources",), [1], "sources = [1]"),
    (("sources",), {"image": {}}, "sources.image.size"),
    (("sources",), {"weird": {"size": 1, "mtime_ns": 1, "sha256": "0" * 64}}, "sources.weird"),
    (("samples",), None, "samples of another type"),
    (("samples",), [{"file": "x", "variant": "ratio=0.5"}], "samples.0.sample"),
    (("map",), "maps/2.npy", "map = 'maps/2.npy', and not 'maps/1.npy'"),
    (("mask",), "../masks/1.png", "mask = "),
    (("edits",), {}, "edits of another type"),
    *[(("edits", 0, "level"), value, "edits.0.level = ") for value in (0.5, "abc", -1, True)],
    (("edits", 0, "evaluations"), [1], "edits.0.evaluations = [1]"),
    *[(("edits", 0, "file"), value, "edits.0.file = ") for value in ("/etc/passwd", "a" * 5000, "a\0b", FILES[1])],
    *[(("edits", 0, "variant"), value, "variant") for value in ("ratio=nan", "../../x=0.5", "ratio=x")],
    *[(("edits", 0, "variant"), value, "edits.0.file = ") for value in ("ratio=1.0", "x", "\ud800")],
    (("edits", 0, "id"), "zzz", "edits.0.id = 'zzz'"),
    (("edits", 0, "mask"), "masks/1.png", "edits.0.mask = "),
]


def put(record, keys, value):
    """Another value at a place in a record."""
    *above, last = keys
    for key in above:
        record = record[key]
    if value is ABSENT:
        del record[last]
    else:
        record[last] = value


@pytest.mark.parametrize(("keys", "value", "words"), FIELDS)
def test_a_field_that_was_not_written_so_is_named(record, tmp_path, caplog, keys, value, words):
    """And the request counts as not done, so that it is edited again."""
    record, path = json.loads(json.dumps(record)), tmp_path / "1.json"
    path.write_text(json.dumps(record))
    assert read_whole_record(path) == record
    put(record, keys, value)
    path.write_text(json.dumps(record))
    assert read_whole_record(path) is None
    (line,) = caplog.messages
    assert line.startswith(f"{path}: not a whole record (")
    assert words in line
    assert len(line) < 400


def test_records_of_every_fault_at_once_are_made_again(analytic, tmp_path, caplog):
    """A run of as many requests as there are faults."""
    edit(analytic, tmp_path, Pictures(len(FIELDS)), Copy())
    before = read(tmp_path)
    unpack_records(tmp_path)
    for i, (keys, value, _) in enumerate(FIELDS):
        path = tmp_path / f"records/{i}.json"
        text = path.read_text()
        record = json.loads(text)
        put(record, [key.replace("/1.", f"/{i}.") if isinstance(key, str) else key for key in keys], value)
        path.write_text(json.dumps(record))
    table = edit(analytic, tmp_path, Pictures(len(FIELDS)), Copy())
    assert caplog.text.count("not a whole record") == len(FIELDS)
    assert read(tmp_path) == before
    assert table.id.nunique() == len(FIELDS)


def test_metadata_stand_for_nothing_but_themselves(analytic, run, finished):
    """What a record says of itself counts, in the manifest too."""
    facts = {"id": "zzz", "status": "failed", "level": "abc", "strength": "x", "mask_area": "much", "own": 1}
    change_record(run / RECORD, metadata=facts)
    table = edit(analytic, run)
    kept = ["id", "variant", "strength", "status", "level", "evaluations", "file", "error"]
    assert table[kept].equals(pd.read_parquet(finished / "manifest.parquet")[kept].astype(table[kept].dtypes))
    assert table.own.dropna().tolist() == [1, 1]
    assert pd.read_parquet(run / "manifest.parquet").mask_area.map(type).eq(str).all()


def test_metadata_that_could_not_be_read_back_fail_their_request(analytic, tmp_path, monkeypatch):
    """They are refused before they are written, and not at the next start."""
    monkeypatch.setattr("diffedit.mask.Mask.metadata", lambda self: {"area": 10**30})
    with pytest.raises(RunFailedError, match="3 of 3 requests failed"):
        edit(analytic, tmp_path)
    assert (
        "metadata of a result: area = 1000000000000000000000000000000: Value error, a text or a number is wanted"
        in find_record(tmp_path, "1")["error"]
    )
    assert not list(tmp_path.rglob("*.png"))


REFUSED = {
    "config cut": lambda path: cut(path, len(path.read_bytes()) // 2),
    "config emptied": lambda path: cut(path, 0),
    "config of bytes": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "config a list": lambda path: path.write_text("- 1\n"),
    "config not yaml": lambda path: path.write_text("a: [1\n"),
    "config a FIFO": lambda path: replace(path, os.mkfifo),
    "config a folder": lambda path: replace(path, Path.mkdir),
    "config a link to nothing": lambda path: replace(path, lambda p: p.symlink_to("nothing")),
    "config without end": lambda path: replace(path, lambda p: p.symlink_to("/dev/zero")),
    "config nested": lambda path: path.write_text("[" * 20_000),
    "config that unfolds": lambda path: path.write_text(
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20))
    ),
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
    write = RunDirectory.write_outcome

    def write_and_lose(self, request, outcome, check):
        write(self, request, outcome, check)
        if request.id == "1":
            shutil.rmtree(self.root / "records", ignore_errors=True)

    monkeypatch.setattr(RunDirectory, "write_outcome", write_and_lose)
    with pytest.raises(RunFailedError, match=rf"\d of {COUNT} requests are done: the records of the others are gone"):
        edit(analytic, tmp_path)
    monkeypatch.undo()
    assert (edit(analytic, tmp_path).status == "done").all()


LOST = {
    "pictures, by size": (lambda root: shutil.rmtree(root / "images"), "size", "images/0.5/[0-2].png is gone"),
    "pictures, looked for": (lambda root: shutil.rmtree(root / "images"), "none", "images/0.5/[0-2].png is gone"),
    "masks": (lambda root: shutil.rmtree(root / "masks"), "content", "masks/[0-2].png is gone"),
    "a map, cut": (lambda root: cut(root / "maps/0.npy"), "size", r"maps/0.npy has [\d,]+ bytes of"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_goes_while_the_run_goes_on_is_not_done(analytic, finished, tmp_path, monkeypatch, name):
    """What is lost after its record was written is named at the end, and made again by the next start."""
    lose, verify, words = LOST[name]
    write = RunDirectory.write_outcome

    def write_and_lose(self, request, outcome, check):
        write(self, request, outcome, check)
        if len(list(self.root.glob("records/*.json"))) == COUNT:
            lose(self.root)

    monkeypatch.setattr(RunDirectory, "write_outcome", write_and_lose)
    monkeypatch.setattr("diffedit.runs.directory.Writer", lambda: Writer(threads=1))
    with pytest.raises(RunFailedError, match=rf"\d of {COUNT} requests have lost files .*{words}"):
        edit(analytic, tmp_path, verify=verify)
    monkeypatch.undo()
    edit(analytic, tmp_path)
    assert read(tmp_path) == read(finished)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    with mount_disk(tmp_path / "disk", "1m") as folder:
        yield folder


def fill(folder):
    """Leave not a byte free."""
    with (folder / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(folder).free == 0


# when the disk gets full: before this function of the run, for this request; what is named
FULL = {
    "claim": ("diffedit.runs.claim.Claim.take", r"run/\.claim: \d+ bytes could not be written: No space left"),
    "environment": ("diffedit.runs.directory.check_folders", r"run/environment\.json: \d+ bytes could not"),
    "config": ("diffedit.runs.directory.write_new", r"run/\..*config\.yaml.*: [\d,]+ bytes could not"),
    "picture": (
        "diffedit.runs.directory.RunDirectory.write_result",
        r"run/images/.*\.png: [\d,]+ bytes could not be written",
    ),
    "record": (
        "diffedit.runs.directory.overwrite",
        r"run/records/.*: [\d,]+ bytes could not be written: No space left",
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_named_and_holds_nobody_up(analytic, finished, small_disk, monkeypatch, name):
    """Path and size; with room again, the same command ends with the same bytes."""
    place, words = FULL[name]
    owner, _, function = place.rpartition(".")
    monkeypatch.setattr(place, fill_before(pkgutil.resolve_name(owner), function, small_disk))
    monkeypatch.setattr("diffedit.runs.directory.Writer", lambda: Writer(threads=1))  # or another finds it full first
    with pytest.raises(OSError, match=words) as refused:
        edit(analytic, small_disk / "run")
    assert refused.value.errno == errno.ENOSPC
    assert not (small_disk / "run/.claim").exists()
    monkeypatch.undo()
    (small_disk / "fill").unlink()
    edit(analytic, small_disk / "run")
    assert read(small_disk / "run") == read(finished)


def fill_before(owner, name, disk):
    """A function that is to find the disk full."""
    function = getattr(owner, name)

    def fill_and_call(*args, **options):
        is_late = name != "overwrite" or "records" in str(args[0])  # this writes other files, too
        if is_late and not (disk / "fill").exists():
            fill(disk)
        return function(*args, **options)

    return fill_and_call


def test_a_failure_takes_nothing_from_what_is_there(analytic, run):
    """A picture is gone, and so is its source: the other edits, the mask and the map stay in the record."""
    (run / FILES[0]).unlink()
    before = json.loads((run / RECORD).read_text())
    with pytest.raises(RunFailedError, match="1 of 3 requests failed"):
        edit(analytic, run, Pictures(COUNT, broken=1))
    after = find_record(run, "1")
    assert (after["status"], after["error"]) == ("failed", "OSError: broken")
    assert {key: after[key] for key in ("edits", "mask", "map", "files")} == {
        key: before[key] for key in ("edits", "mask", "map", "files")
    }
    assert (edit(analytic, run).status == "done").all()


def test_a_done_request_whose_source_is_gone_stays_done(analytic, run, finished):
    edit(analytic, run, Pictures(COUNT, broken=1))
    assert read(run) == read(finished)


def test_every_file_has_its_size_and_hash(finished):
    records = [record for name, record in read(finished).items() if name.startswith("record of ")]
    assert len(records) == COUNT
    for record in records:
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
    assert find_record(run, "1") == before | {"seconds": 0}
    swap(run / FILES[0])
    edit(analytic, run, verify="content")
    assert read(run) == read(finished)


def test_pictures_on_disk_are_not_what_damage_is_tested_on(finished):
    """The files above are real: pictures that open, a map that loads."""
    assert Image.open(finished / FILES[0]).size == (16, 16)
    assert np.load(finished / FILES[2]).shape == (16, 16)
