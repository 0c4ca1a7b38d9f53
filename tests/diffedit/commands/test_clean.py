"""`diffedit clean` removes what dead processes left, nothing else, and nothing of a run that somebody is at."""

import json
import os
import subprocess
import sys

import pytest
from made_runs import read_files, write_claim, write_record, write_run

from diffedit.commands.clean import main
from diffedit.io.files import HOST, name_temporary
from diffedit.runs.archive import name_tar, name_unfinished
from diffedit.runs.claim import NAME, STALE, Claim, claim, describe_self
from diffedit.runs.cut import get_claim_path, get_shard_path, read_summary
from diffedit.runs.status import read_status


@pytest.fixture(scope="module")
def dead():
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def leave(root, dead):
    """What processes leave that are killed; returns the paths."""
    left = [root / f"images/0.5/.r1.png.1.{HOST}.{dead}.tmp", name_temporary(name_unfinished(name_tar(root)))]
    left[1] = left[1].with_name(left[1].name.replace(f".{os.getpid()}.tmp", f".{dead}.tmp"))
    for path in left:
        path.touch()
    claims = [root / NAME, get_claim_path(root, 2), root / f"{NAME}.turn", root / "shards/000001.claim.turn"]
    for path in claims:
        write_claim(path, age=STALE + 5)
    here = get_claim_path(root, 1)
    here.write_text(json.dumps(describe_self() | {"process": dead, "token": "y"}))  # of this host: at once
    probe = root / "shards" / f".clock.{'0' * 32}"
    probe.touch()
    os.utime(probe, (1.0, 1.0))
    return [*left, *claims, here, probe]


def test_what_dead_processes_left_goes_and_nothing_else(tmp_path, capsys, dead):
    root = write_run(tmp_path / "runs/run", packed=1, loose=1)
    before = read_files(root)
    left = leave(root, dead)
    messy = read_files(root)
    assert main([str(tmp_path), "--dry-run"]) == 0
    would = capsys.readouterr().out.splitlines()
    assert read_files(root) == messy
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert read_files(root) == before
    assert not any(path.exists() for path in left)
    assert [line.replace("would clean", "cleaned") for line in would[:-1]] == said[:-1]
    assert {line.split(": ")[0] for line in said[:-1]} == {f"cleaned {path}" for path in left}
    assert (would[-1], said[-1]) == ("1 runs, 8 things to clean", "1 runs, 8 things cleaned")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 runs, 0 things cleaned\n"


def test_what_may_be_anothers_stays(tmp_path, capsys):
    """Of a living process, of another host, of a claim that is taken over right now, and what is only named so."""
    root = write_run(tmp_path / "run")
    (root / f"maps/.r1.npy.1.{HOST}.{os.getpid()}.tmp").touch()
    (root / "maps/.r1.npy.1.elsewhere.3.tmp").touch()
    write_claim(root / f"{NAME}.turn")
    (root / "shards" / f".clock.{'0' * 32}").touch()
    (root / "masks/x.aside").touch()
    (root / "masks/r1.png.0123abcd.aside").mkdir()
    before = read_files(root)
    assert main([str(root)]) == 0
    assert read_files(root) == before
    assert (root / "masks/r1.png.0123abcd.aside").is_dir()
    (line, last) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"stays: {root}/maps/.r1.npy.1.elsewhere.3.tmp: temporary file of another host")
    assert last == "1 runs, 0 things cleaned"


def test_what_was_set_aside_goes_where_that_is_asked_for(tmp_path, capsys):
    root = write_run(tmp_path / "run")
    before = read_files(root)
    (root / "masks/r1.png.0123abcd.aside/below").mkdir(parents=True)
    (root / "masks/r1.png.0123abcd.aside/below/file").touch()
    (root / "records/r1.json.0123abce.aside").symlink_to(root / "images")
    assert main([str(root), "--aside"]) == 0
    assert read_files(root) == before
    assert not list(root.rglob("*.aside"))
    assert capsys.readouterr().out.count("set aside") == 2


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_run_that_somebody_is_at_is_refused_and_others_are_cleaned(tmp_path, capsys, dead, flags):
    whole, shard, other = (write_run(tmp_path / name) for name in ("a", "b", "c"))
    for root in (whole, shard, other):
        (root / f"maps/.r1.npy.1.{HOST}.{dead}.tmp").touch()
    held = Claim(get_claim_path(shard, 1))
    with claim(whole):
        assert held.take()
        before = [read_files(whole), read_files(shard)]
        assert main([str(tmp_path), *flags]) == 3
        assert [read_files(whole), read_files(shard)] == before
        held.release()
    said = capsys.readouterr()
    assert f"{whole}: process {os.getpid()} on " in said.err
    assert f"{shard}: process {os.getpid()} on " in said.err
    assert "3 runs, 1 things" in said.out
    assert bool(list(other.glob("maps/.*"))) == bool(flags)


def test_records_beside_their_shard_are_packed_where_that_is_asked_for(tmp_path, capsys):
    """They count more than what is packed; those without a shard's file stay, and those that are not whole."""
    root = write_run(tmp_path / "run", packed=2, loose=1, errors={0: "OSError: gone", 3: "OSError: gone"})
    for name in ("r0", "r1"):
        (root / f"records/{name}.json").write_text(json.dumps(write_record(root, name)))
    (root / "records/r2.json").write_text("{")
    summary, before = read_summary(get_shard_path(root, 0)), read_status(root)
    assert (before.done, before.failed) == (4, 1)
    files = read_files(root)
    assert main([str(root)]) == 0
    assert main([str(root), "--pack", "--dry-run"]) == 0
    assert read_files(root) == files
    assert "shards/000000.parquet: 2 records beside it: packed into it" in capsys.readouterr().out
    assert main([str(root), "--pack"]) == 0
    assert {path.name for path in root.glob("records/*")} == {"r2.json", "r4.json"}
    after = read_files(root)
    assert after["shards/000001.parquet"] == files["shards/000001.parquet"]
    assert read_summary(get_shard_path(root, 0)) == summary | {
        "done": 2,
        "failed": 0,
        "edits": 4,
        "bytes": 800,
        "error": None,
    }
    status = read_status(root)
    assert (status.done, status.failed, status.missing) == (4, 1, 1)


def test_what_is_no_claim_is_told(tmp_path, capsys):
    root = write_run(tmp_path / "run")
    get_claim_path(root, 1).mkdir()
    assert main([str(root)]) == 2
    assert "not a regular file, so nobody's claim: remove it" in capsys.readouterr().err
    assert main([str(tmp_path / "none")]) == 2
