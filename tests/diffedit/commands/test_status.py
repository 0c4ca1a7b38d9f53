"""`diffedit status` tells how far runs are from what lies there, in a second, and stumbles over nothing."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from helpers import ROOT
from made_runs import read_files, write_claim, write_record, write_run

from diffedit.commands.status import describe_size, describe_span, main
from diffedit.runs import claim as claims
from diffedit.runs import status as statuses
from diffedit.runs import workers
from diffedit.runs.cut import get_claim_path, get_shard_path
from diffedit.runs.find import find_runs
from diffedit.runs.status import read_status


def ask(capsys, *words):
    """(exit code, what it says for programs) of one run."""
    code = main([*map(str, words), "--json"])
    (run,) = json.loads(capsys.readouterr().out)
    return code, run


# ---------------------------------------------------------------------------------------------------------- how far


def test_a_finished_run_is_done(tmp_path, capsys):
    root = write_run(tmp_path / "a/b/run")
    before = read_files(root)
    code, run = ask(capsys, tmp_path)
    assert code == 0
    assert (run["run"], run["state"], run["is_complete"]) == (str(root), "done", True)
    assert (run["shards"], run["shards_done"]) == (3, 3)
    assert (run["requests"], run["done"], run["failed"], run["missing"]) == (6, 6, 0, 0)
    shards = sum(path.stat().st_size for path in root.glob("shards/*.parquet"))
    assert (run["bytes"], run["is_least"]) == (6 * 4 * 100 + shards, False)
    assert (run["workers"], run["damage"], run["notes"]) == ([], [], [])
    assert read_files(root) == before


def test_failed_requests_are_counted_by_reason_wherever_their_records_are(tmp_path, capsys):
    errors = {0: "OSError: none.png: gone", 1: "OSError: b.png: gone", 2: "it went wrong somewhere", 4: "ValueError: x"}
    code, run = ask(capsys, write_run(tmp_path / "run", packed=2, loose=1, errors=errors))
    assert code == 1
    assert (run["done"], run["failed"], run["missing"], run["shards_done"]) == (1, 4, 1, 2)
    assert run["failures"] == {
        "OSError": {"count": 2, "example": "r0: OSError: none.png: gone"},
        "it went wrong": {"count": 1, "example": "r2: it went wrong somewhere"},
        "ValueError": {"count": 1, "example": "r4: ValueError: x"},
    }


def test_a_record_beside_its_shard_counts_once_and_before_it(tmp_path, capsys):
    root = write_run(tmp_path / "run", errors={0: "OSError: gone", 3: "OSError: gone"})
    (root / "records/r0.json").write_text(json.dumps(write_record(root, "r0")))
    (root / "records/r1.json").write_text(json.dumps(write_record(root, "r1")))
    code, run = ask(capsys, root)
    assert code == 1
    assert (run["done"], run["failed"], run["missing"]) == (5, 1, 0)
    assert run["failures"] == {"OSError": {"count": 1, "example": "r3: OSError: gone"}}


def test_what_is_missing_is_not_complete(tmp_path, capsys):
    code, run = ask(capsys, write_run(tmp_path / "one", packed=1, loose=1))
    assert (code, run["state"], run["missing"], run["seconds_left"]) == (3, "stopped", 3, None)
    code, run = ask(capsys, write_run(tmp_path / "two", packed=2, loose=2))  # the last shard is not packed
    assert (code, run["state"], run["missing"]) == (3, "stopped", 0)
    assert "not all shards are packed" in run["notes"][0]
    root = write_run(tmp_path / "three")
    config = root / "config.yaml"
    config.write_text(config.read_text().replace("- 1.0\n", "- 0.7\n- 1.0\n"))  # a run that is being extended
    code, run = ask(capsys, root)
    assert (code, run["state"], run["lacking_edits"]) == (3, "stopped", 6)


def test_a_run_of_before_has_no_shards_and_an_unknown_total(tmp_path, capsys):
    root = write_run(tmp_path / "run", packed=0, loose=6, errors={5: "OSError: gone"})
    shutil.rmtree(root / "shards")
    record = json.loads((root / "records/r0.json").read_text())
    del record["files"]
    (root / "records/r0.json").write_text(json.dumps(record))
    code, run = ask(capsys, root)
    assert (code, run["state"]) == (1, "not known")
    assert (run["done"], run["failed"], run["requests"], run["missing"], run["shards"]) == (5, 1, None, None, None)
    assert run["is_least"]
    (root / "records/r5.json").unlink()
    assert ask(capsys, root)[0] == 3
    assert main([str(root)]) == 3
    assert "0/?" in (said := capsys.readouterr().out)
    assert "≥ " in said


def test_of_too_many_records_the_names_are_counted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(statuses, "LOOSE", 2)
    root = write_run(tmp_path / "run", packed=1, loose=3, errors={2: "OSError: gone"})
    (root / "records/r0.json").write_text("{}")
    code, run = ask(capsys, root)
    assert (code, run["done"], run["failed"], run["is_least"]) == (3, 5, 0, True)
    assert "4 records beside the shards are counted by name" in run["notes"][0]


# ------------------------------------------------------------------------------------------------------ who is at it


def test_who_is_at_work_and_how_long_yet(tmp_path, capsys):
    """Two requests a minute by one process; another one, which has finished nothing, counts as much."""
    root = write_run(tmp_path / "run", requests=20, packed=3, loose=1)
    write_claim(get_claim_path(root, 3))
    write_claim(get_claim_path(root, 4), since=900.0)
    write_claim(get_claim_path(root, 5), process=8, node="node2", since=2000.0)
    code, run = ask(capsys, root)
    assert (code, run["state"], run["missing"]) == (3, "2 at work", 13)
    first, second = run["workers"]
    assert first == {"node": "node1", "process": 7, "since": 900.0, "shards": [3, 4], "an_hour": 120.0}
    assert second == {"node": "node2", "process": 8, "since": 2000.0, "shards": [5], "an_hour": None}
    assert run["an_hour"] == 240
    assert run["seconds_left"] == pytest.approx(13 / 240 * 3600)
    assert main([str(root)]) == 3
    said = capsys.readouterr().out
    assert "node1, process 7, shards 3, 4 since " in said
    assert "120 requests an hour" in said


def test_what_is_not_known_of_the_time_is_a_question_mark(tmp_path, capsys):
    root = write_run(tmp_path / "run", packed=0)
    write_claim(root / claims.NAME)
    assert main([str(root)]) == 3
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run  1 at work")]
    assert line.split()[-4:-2] == ["?", "?"]


def test_a_shard_that_others_had_begun_says_nothing_of_the_rate():
    mine = {"host": "h", "process": 1, "began": 1.0, "requests": 10}
    whole = mine | {"since": 0.0, "ended": 100.0, "seconds": 90.0}
    beside = mine | {"since": 50.0, "ended": 150.0, "seconds": 100.0}
    taken_over = mine | {"since": 150.0, "ended": 151.0, "seconds": 90.0}
    (rate,) = workers.measure_rates([whole, beside, taken_over, {"requests": 3}, whole | {"since": "x"}]).values()
    assert rate == pytest.approx(20 / 150 * 3600)


def test_a_dead_process_is_none_at_work(tmp_path, capsys):
    root = write_run(tmp_path / "run", packed=2)
    write_claim(get_claim_path(root, 2), age=claims.STALE + 5)
    code, run = ask(capsys, root)
    assert (code, run["state"], run["workers"]) == (3, "stopped", [])
    assert "1 claims of processes that are gone, as shards/000002.claim of process 7 on node1" in run["notes"][0]


@pytest.mark.parametrize(("age", "count"), [(0, 1), (claims.STALE + 5, 0)])
def test_a_directory_that_we_may_not_write_to_is_looked_at(tmp_path, capsys, monkeypatch, age, count):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(workers, "read_clock", refuse)
    monkeypatch.setattr(claims, "read_clock", refuse)
    root = write_run(tmp_path / "run", packed=2)
    write_claim(get_claim_path(root, 2), age=age)
    assert len(ask(capsys, root)[1]["workers"]) == count


# -------------------------------------------------------------------------------------------------------------- damage


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE = {
    "a shard cut short": (lambda root: cut_short(get_shard_path(root, 1)), "shards/000001.parquet: no whole records"),
    "an empty shard": (
        lambda root: get_shard_path(root, 1).write_bytes(b""),
        "shards/000001.parquet: no whole records",
    ),
    "a folder for a shard": (
        lambda root: (get_shard_path(root, 1).unlink(), get_shard_path(root, 1).mkdir()),
        "shards/000001.parquet: no whole records",
    ),
    "no config": (lambda root: (root / "config.yaml").unlink(), "config.yaml: gone"),
    "half a config": (lambda root: (root / "config.yaml").write_text("ratios: ["), "config.yaml: damaged"),
    "another config": (lambda root: (root / "config.yaml").write_text("- 1"), "config.yaml: damaged (no ratios)"),
    "bytes for a config": (lambda root: (root / "config.yaml").write_bytes(b"\xff\xfe\x00"), "config.yaml: damaged"),
    "a deep config": (lambda root: (root / "config.yaml").write_text("[" * 10000), "config.yaml: damaged"),
    "half a cut": (lambda root: (root / "shards/cut.json").write_text("{"), "shards/cut.json: damaged"),
    "a folder for a claim": (lambda root: get_claim_path(root, 2).mkdir(), "not a regular file, so nobody's claim"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_line(name, tmp_path, capsys):
    damage, words = DAMAGE[name]
    root, whole = write_run(tmp_path / "runs/broken"), write_run(tmp_path / "runs/whole")
    damage(root)
    assert main([str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert any(line.startswith("broken  damaged") for line in said.out.splitlines())
    assert any(line.startswith("whole   done") for line in said.out.splitlines())
    assert words in " ".join(said.out.split())
    assert read_status(whole).exit_code == 0


def test_records_and_claims_of_rubbish_are_told(tmp_path, capsys):
    root = write_run(tmp_path / "run", packed=2, loose=2)
    (root / "records/r4.json").write_text('{"status": "do')
    get_claim_path(root, 2).write_text("rubbish")
    claims.os.utime(get_claim_path(root, 2), (time.time() - 20, time.time() - 20))
    code, run = ask(capsys, root)
    assert (code, run["done"], run["missing"]) == (3, 5, 1)
    assert "1 records are not whole, as records/r4.json" in run["notes"][0]
    assert "shards/000002.claim: a claim that says nothing" in run["notes"]
    assert run["workers"] == [{"node": "?", "process": None, "since": None, "shards": [2], "an_hour": None}]


def test_a_summary_of_rubbish_is_damage(tmp_path, capsys):
    root = write_run(tmp_path / "run", done="many", failed=None)
    code, run = ask(capsys, root)
    assert (code, run["shards_done"]) == (1, 0)
    assert "shards/000000.parquet: it says of itself that it holds nothing" in run["damage"]


# --------------------------------------------------------------------------------------------------------------- where


def test_runs_are_found_at_any_depth_and_not_within(tmp_path):
    for name in ("a/b/c", "a/d", "e"):
        write_run(tmp_path / name, requests=1, packed=0)
    write_run(tmp_path / "a/.hidden", requests=1, packed=0)
    write_run(tmp_path / "e/images/inner", requests=1, packed=0)
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/d.tar").touch()
    assert find_runs([str(tmp_path)]) == [tmp_path / name for name in ("a/b/c", "a/d", "e")]
    assert find_runs([f"{tmp_path}/a/[bd]*"]) == [tmp_path / "a/b/c", tmp_path / "a/d"]
    assert find_runs([str(tmp_path / "e"), f"{tmp_path}/[e]"]) == [tmp_path / "e"]


def test_no_run_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path}: no run directory there; make one by diffedit run" in capsys.readouterr().err
    assert main([str(tmp_path / "none")]) == 2
    assert f"{tmp_path}/none: no such folder" in capsys.readouterr().err


def test_the_table_fits_and_says_where(tmp_path, capsys):
    for name in ("diffedit", "sdedit"):
        write_run(tmp_path / "stilllife_scenes" / name / "a_rather_long_name=0.5,of=many,settings=there,are")
    assert main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].rstrip() == str(tmp_path / "stilllife_scenes")
    assert lines[1].split() == ["run", "state", "shards", "done", "failed", "missing", "an", "hour", "left", "disk"]


def test_sizes_and_spans_have_units():
    assert [describe_size(size) for size in (0, 999, 1000, 999_600, 82.7e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1 MB",
        "82.7 GB",
    ]
    spans = [describe_span(60 * minutes) for minutes in (0.2, 59, 135, 60 * 49)]
    assert spans == ["< 1 min", "59 min", "2 h 15 min", "2 d 1 h"]


# ----------------------------------------------------------------------------------------------------------- a look


def test_a_watch_ends_when_all_is_done(tmp_path, capsys, monkeypatch):
    root, looks = write_run(tmp_path / "run", packed=2), []

    def sleep(seconds):
        looks.append(seconds)
        write_run(tmp_path / "other")
        shutil.copy(get_shard_path(tmp_path / "other", 2), get_shard_path(root, 2))

    monkeypatch.setattr(time, "sleep", sleep)
    assert main([str(root), "--watch", "7", "--json"]) == 0
    before, after = (json.loads(line)[0]["done"] for line in capsys.readouterr().out.splitlines())
    assert (looks, before, after) == ([7.0], 4, 6)
    with pytest.raises(SystemExit):
        main([str(root), "--watch", "0"])


def test_a_look_is_quick_and_imports_nothing_heavy(tmp_path):
    """A process of its own: 64 shards, and a run without any, for which even pyarrow stays where it is."""
    write_run(tmp_path / "many/run", requests=64, size=1, packed=64, errors={3: "OSError: gone"})
    write_run(tmp_path / "none/run", packed=0, loose=3)
    heavy = {"torch", "pandas", "hydra", "omegaconf", "pydantic", "scipy", "matplotlib"}
    program = (
        "import sys, time; began = time.process_time(); from diffedit.commands import main; "
        f"print(main(['status', sys.argv[1]])); print(sorted({heavy} & set(sys.modules)), 'pyarrow' in sys.modules); "
        "print(time.process_time() - began)"
    )
    for name, code, uses in (("many", "1", "True"), ("none", "3", "False")):
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        *_, ended, modules, seconds = done.stdout.splitlines()
        assert (ended, modules) == (code, f"[] {uses}")
        assert float(seconds) < 1
