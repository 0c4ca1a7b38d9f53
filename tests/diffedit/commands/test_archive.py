"""`diffedit archive` puts the pictures of a run into one file and back, to the byte; nothing goes before it is safe."""

import errno
import io
import json
import os
import tarfile

import pytest
from helpers import Pictures, kept_log
from made_runs import read_files, write_record, write_run

from baselines.bounds import Copy
from diffedit.api.run import run
from diffedit.commands import main as enter
from diffedit.commands.archive import main
from diffedit.runs import archive as archives
from diffedit.runs.archive import FOLDERS, NOTE, ArchivedError, leave_out_tars
from diffedit.runs.claim import claim
from diffedit.runs.status import read_status
from eval.scoring.finished_run import FinishedRun


def is_picture(name):
    return name.split("/")[0] in FOLDERS


@pytest.fixture
def root(tmp_path):
    """A run of six requests: some packed, one beside it, one failed, one missing, and a file that no record names."""
    root = write_run(tmp_path / "runs/run", packed=2, loose=1, errors={3: "OSError: gone"})
    (root / "scores").mkdir()
    (root / "scores/lpips.json").write_text("{}")
    (root / "manifest.parquet").write_bytes(b"x")
    (root / "samples/0/images/0.5").mkdir(parents=True)
    (root / "samples/0/images/0.5/old.png").write_bytes(b"of before")
    return root


def change(tar, edit):
    """Write a tar anew, each member as `edit(name, data)` has it: (name, data), or None for none."""
    with tarfile.open(tar) as file:
        members = [(member.name, file.extractfile(member).read()) for member in file]
    with tarfile.open(tar, "w") as file:
        for name, data in filter(None, [edit(*member) for member in members]):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))


# ------------------------------------------------------------------------------------------------------ there and back


def test_it_goes_there_and_back_to_the_byte(root, capsys):
    before, tar = read_files(root), root.with_name("run.tar")
    times = {name: int((root / name).stat().st_mtime) for name in before}
    assert main([str(root)]) == 0
    assert read_files(root) == before
    with tarfile.open(tar, "r:") as file:  # not compressed
        held = {member.name: file.extractfile(member).read() for member in file}
    pictures = {name: data for name, data in before.items() if is_picture(name)}
    assert held == pictures
    assert f"{tar}: {len(held)} files" in capsys.readouterr().out

    written = tar.stat().st_mtime_ns
    assert main([str(root), str(tar), "--remove"]) == 0  # as a shell expands runs/*; what is there is verified
    assert tar.stat().st_mtime_ns == written
    assert read_files(root).keys() - {NOTE} == {name for name in before if not is_picture(name)}
    assert not any((root / name).exists() for name in FOLDERS)

    moved = root.parent.with_name("moved")
    root.parent.rename(moved)  # the tar beside it goes along
    assert main([str(moved / "run"), "--extract"]) == 0
    assert read_files(moved / "run") == before
    assert {name: int((moved / "run" / name).stat().st_mtime) for name in before} == times
    assert (moved / "run.tar").exists()


def test_equal_runs_have_equal_tars(tmp_path):
    for name in ("a", "b"):
        root = write_run(tmp_path / name / "run")
        for path in root.rglob("*"):
            os.utime(path, (1e9, 1e9))
        assert main([str(root)]) == 0
    assert (tmp_path / "a/run.tar").read_bytes() == (tmp_path / "b/run.tar").read_bytes()


def test_a_tar_elsewhere_is_found_again(root, tmp_path, capsys):
    before = read_files(root)
    assert main([str(root), "--out", f"{tmp_path}/new/", "--remove"]) == 0
    assert (tmp_path / "new/run.tar").is_file()
    assert main([str(root), "--remove"]) == 0  # again: it is where the note says
    assert main([str(root), "--extract"]) == 0
    assert read_files(root) == before
    assert main([str(root), "--out", str(tmp_path / "file.tar")]) == 0
    assert (tmp_path / "file.tar").read_bytes() == (tmp_path / "new/run.tar").read_bytes()


def test_a_run_of_the_longest_name_has_a_tar(tmp_path):
    root = write_run(tmp_path / ("x" * 200), requests=1, packed=0, loose=1)
    assert main([str(root)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {root.name, f"{root.name}.tar"}


def test_a_glob_of_runs_may_name_the_tars_beside_them(root, capsys):
    tar = root.with_name("run.tar")
    assert main([str(root)]) == 0
    assert leave_out_tars([tar, root]) == [root]
    assert enter(["cite", f"{root.parent}/*"]) == 0
    assert enter(["cite", str(tar)]) == main([str(tar)]) == 2  # by itself it is no run
    assert capsys.readouterr().err.count(f"{tar}: no run directory") == 2


def test_a_removal_that_was_killed_goes_on(root, monkeypatch):
    before = read_files(root)
    with monkeypatch.context() as patched:
        patched.setattr(archives, "remove_pictures", lambda root, names: kill(root, list(names)[:5]))
        with pytest.raises(KeyboardInterrupt):
            main([str(root), "--remove"])
    assert (
        0
        < len([name for name in read_files(root) if is_picture(name)])
        < len([name for name in before if is_picture(name)])
    )
    assert main([str(root), "--remove"]) == 0
    assert not any(is_picture(name) for name in read_files(root))
    assert main([str(root), "--extract"]) == 0
    assert read_files(root) == before


def kill(root, names):
    for name in names:
        (root / name).unlink()
    raise KeyboardInterrupt


def test_a_run_of_before_is_archived_as_far_as_its_records_know_it(tmp_path, capsys):
    """They have the hashes of edits alone: those are compared, and all else with what lay in the run."""
    root = write_run(tmp_path / "run", requests=1, packed=0, loose=1)
    record = json.loads((root / "records/r0.json").read_text())
    del record["files"], record["sources"]
    (root / "records/r0.json").write_text(json.dumps(record))
    before = read_files(root)
    assert main([str(root), "--remove"]) == 0
    assert main([str(root), "--extract"]) == 0
    assert read_files(root) == before
    (tmp_path / "run.tar").unlink()
    (root / "images/0.5/r0.png").write_bytes(bytes(100))
    assert main([str(root), "--remove"]) == 1
    assert "images/0.5/r0.png has another content" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ refusals


def truncate(root):
    (root / "masks/r0.png").write_bytes(b"short")


def spoil(root):
    (root / "images/0.5/r1.png").write_bytes(bytes(100))


def link(root):
    (root / "maps/link.npy").symlink_to("/etc/hostname")


def link_folder(root):
    (root / "maps").rename(root / "elsewhere")
    (root / "maps").symlink_to(root / "elsewhere")


DAMAGE = {
    "masks/r0.png has another content than was written: start the run again": truncate,
    "images/0.5/r1.png has another content than was written: start the run again": spoil,
    "maps/r4.npy is not there: start the run again": lambda root: (root / "maps/r4.npy").unlink(),
    "records/r4.json: not whole": lambda root: (root / "records/r4.json").write_text("{"),
    "no whole records of a shard": lambda root: (root / "shards/000001.parquet").write_bytes(b"PAR1"),
    "maps/link.npy: not a regular file": link,
    "maps: a link": link_folder,
}


@pytest.mark.parametrize("words", DAMAGE)
def test_a_run_that_is_not_whole_is_no_archive(root, words, capsys):
    DAMAGE[words](root)
    before = read_files(root)
    assert main([str(root), "--remove"]) in (1, 2)
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert read_files(root) == before
    assert sorted(root.parent.iterdir()) == [root]


def test_a_tar_that_is_there_and_holds_something_else_is_left_alone(root, capsys):
    tar = root.with_name("run.tar")
    assert main([str(root)]) == 0
    (root / "records/r5.json").write_text(json.dumps(write_record(root, "r5")))  # the run went on
    before, held = read_files(root), tar.read_bytes()
    assert main([str(root), "--remove"]) == 1
    assert "r5.png is not there: it is no archive of" in capsys.readouterr().err
    assert (read_files(root), tar.read_bytes()) == (before, held)
    (root / "records/r5.json").unlink()  # now no record names them, and they are not in the tar
    before = read_files(root)
    assert main([str(root), "--remove"]) == 1
    assert read_files(root) == before
    tar.write_bytes(b"rubbish" * 1000)
    assert main([str(root), "--remove"]) == 1
    assert f"{tar}: damaged" in capsys.readouterr().err
    assert read_files(root) == before


def test_a_disk_that_is_full_or_lies_costs_nothing(root, capsys, monkeypatch):
    before = read_files(root)

    def fill(archive, root, name):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(archives, "add_file", fill)
        assert main([str(root), "--remove"]) == 1
    assert f"{root.with_name('run.tar')}: not written: No space left on device" in capsys.readouterr().err
    read_tar = archives.read_tar
    with monkeypatch.context() as patched:
        patched.setattr(archives, "read_tar", lambda tar: dict(list(read_tar(tar).items())[1:]))
        assert main([str(root), "--remove"]) == 1
    assert "the disk does not give back what was written" in capsys.readouterr().err
    assert read_files(root) == before
    assert sorted(root.parent.iterdir()) == [root]


def test_a_run_that_somebody_is_at_waits(root, capsys):
    with claim(root):
        before = read_files(root)
        assert main([str(root), "--remove"]) == 3
        assert main([str(root), "--extract", "--out", str(root / "config.yaml")]) == 3
        assert read_files(root) == before
    assert f"process {os.getpid()} on " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no run directory: it holds no config.yaml"),
        (["a/run", "b/run", "--out", "."], "would both be run.tar"),
        (["a/run", "--extract"], "run.tar: no such file; --out says where the tar of a/run is"),
    ],
)
def test_mistakes_are_refused(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / name / "run", requests=1, packed=0, loose=1)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["a/run", "--extract", "--remove"])


# --------------------------------------------------------------------------------------------------- tars from anywhere


def rename(old, new):
    return lambda name, data: (new if name == old else name, data)


TARS = {
    "'../out.png' is no file of a run": rename("samples/0/images/0.5/old.png", "../out.png"),
    "'images/../../out.png' is no file of a run": rename("samples/0/images/0.5/old.png", "images/../../out.png"),
    "'/out.png' is no file of a run": rename("samples/0/images/0.5/old.png", "/out.png"),
    "'config.yaml' is no file of a run": rename("samples/0/images/0.5/old.png", "config.yaml"),
    "masks/r0.png is in it twice": rename("samples/0/images/0.5/old.png", "masks/r0.png"),
    "masks/r0.png is not there: it is damaged, or another run's": rename("masks/r0.png", "masks/x.png"),
    "masks/r0.png has another": lambda name, data: (name, data[::-1]) if name == "masks/r0.png" else (name, data),
    "files, and 17 were archived: it is damaged": lambda name, data: None if "old" in name else (name, data),
}


@pytest.mark.parametrize("words", TARS)
def test_of_a_tar_that_is_another_nothing_is_written(root, words, capsys):
    assert main([str(root), "--remove"]) == 0
    change(root.with_name("run.tar"), TARS[words])
    before = read_files(root.parent)
    capsys.readouterr()
    assert main([str(root), "--extract"]) == 1
    assert words in capsys.readouterr().err
    assert read_files(root.parent) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_of_a_tar_with_links_or_devices_nothing_is_written(root, kind, capsys):
    assert main([str(root), "--remove"]) == 0
    member = tarfile.TarInfo("images/0.5/x.png")
    member.type, member.linkname = kind, "/etc/hostname"
    with tarfile.open(root.with_name("run.tar"), "a") as file:
        file.addfile(member)
    before = read_files(root.parent)
    assert main([str(root), "--extract"]) == 1
    assert "'images/0.5/x.png' is no file of a run" in capsys.readouterr().err
    assert read_files(root.parent) == before


def test_a_tar_cut_short_is_found_out(root, capsys):
    assert main([str(root), "--remove"]) == 0
    tar = root.with_name("run.tar")
    whole = tar.read_bytes()
    for size in (0, 100, 700, 3000, 5120):
        tar.write_bytes(whole[:size])
        assert main([str(root), "--extract"]) == 1, size
        assert not (root / "images").exists()
    tar.write_bytes(whole)
    assert main([str(root), "--extract"]) == 0


def test_nothing_is_written_through_a_link(root, tmp_path, capsys):
    assert main([str(root), "--remove"]) == 0
    (tmp_path / "outside").mkdir()
    (root / "images").symlink_to(tmp_path / "outside")
    assert main([str(root), "--extract"]) == 1
    assert "images/0.5/r0.png: not written: " in capsys.readouterr().err
    assert not list((tmp_path / "outside").iterdir())
    assert (root / NOTE).exists()


def test_what_lies_in_the_way_without_a_record_stays(root, capsys):
    """What a record vouches for is put right; of the other nobody knows which is the right one."""
    before = read_files(root)
    assert main([str(root)]) == 0
    spoil(root)
    (root / "samples/0/images/0.5/old.png").write_bytes(b"of today")
    assert main([str(root), "--extract"]) == 1
    assert "old.png: another content than in" in capsys.readouterr().err
    (root / "samples/0/images/0.5/old.png").unlink()
    assert main([str(root), "--extract"]) == 0
    assert read_files(root) == before


# ------------------------------------------------------------------------------------------------ what others say of it


def test_status_tells_where_the_pictures_are(root, capsys):
    before = read_status(root)
    assert main([str(root), "--remove"]) == 0
    tar, after = root.with_name("run.tar"), read_status(root)
    assert (after.done, after.failed, after.missing) == (before.done, before.failed, before.missing) == (4, 1, 1)
    assert (after.archive, after.bytes, after.damage) == (str(tar), tar.stat().st_size, [])
    tar.unlink()
    assert read_status(root).damage == [f"{tar}: gone, and it held the pictures"]
    (root / NOTE).write_text("{")
    assert read_status(root).archive == str(tar)


def test_a_run_whose_pictures_are_away_is_neither_edited_again_nor_scored(root, analytic, capsys):
    assert main([str(root), "--remove"]) == 0
    for look in (lambda: run(Pictures(2), Copy(), analytic, root), lambda: FinishedRun(root)):
        with pytest.raises(ArchivedError, match=r"its pictures are in .*run\.tar: diffedit archive --extract .* back"):
            look()
    before = read_files(root)
    runs = root.parent
    (runs / "stilllife_scenes/analytic/copy").mkdir(parents=True)
    place = root.rename(runs / "stilllife_scenes/analytic/copy/run")
    with kept_log():
        assert enter(["run", "backbone=analytic", "editor=copy", f"runs={runs}", "name=run"]) == 2
    assert f"diffedit archive --extract {place} puts them back" in capsys.readouterr().err
    assert read_files(place) == before
