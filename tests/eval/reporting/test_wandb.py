"""wandb is told each thing once, resumes its run, keeps its files in the folder, and never hangs or asks."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
from made_report import make_benchmark, make_run
from wandb_server import serve

from diffedit.commands.report import main
from diffedit.io.images import to_pil
from eval.reporting.collect import collect
from eval.reporting.load_run import load_run
from eval.reporting.loggers import Wandb
from eval.reporting.loggers.wandb_session import FOLDERS
from eval.reporting.report.site import PageSettings, write_report

ROOT = Path(__file__).parents[3]
ODD = 'it\'s "<b>" 50% #1/?'
HACK = '</script><script>window.hacked=1</script>\u2028 "é"'
IDS = ["b", "a/z", ODD, "c", "d", "e"]
RATIOS = [0.3, 1.0]
NUMBERS = ["lpips", "accuracy"]
PICTURES = ["input", "contrast map", "mask", "edit", "true edit"]


def make_runs(folder):
    """A floor without masks, and a method with them."""
    make_benchmark(folder / "b", len(IDS), ids=IDS, targets=["pears"] * 2 + [HACK] + ["plums"] * 3)
    bound = make_run(folder / "runs/scenes/tiny/copy/default", folder / "b", IDS, RATIOS, is_bound=True)
    name = "experiment=tradeoff,editor.guidance=5.0"
    method = make_run(folder / f"runs/scenes/tiny/diffedit/{name}", folder / "b", IDS, RATIOS, seed=1, masks=True)
    return [bound, method]


@pytest.fixture
def runs(tmp_path):
    return make_runs(tmp_path)


def scored(runs):
    table = collect(runs)
    return table[table.run != ""].reset_index(drop=True)


class FakeCommError(Exception):
    """As wandb's, of a server that does not answer."""


class FakeTable:
    def __init__(self, columns, data=()):
        self.columns, self.data = columns, [list(row) for row in data]

    def add_data(self, *row):
        assert len(row) == len(self.columns)
        self.data.append(list(row))


class FakeArtifact:
    def __init__(self, name, type):
        self.name, self.type, self.files = name, type, {}

    def add_file(self, path, name, policy, skip_cache):
        self.files[name] = Path(path).read_bytes(), policy


class FakeRun:
    """A run of a server that remembers which there are; offline nobody knows of any."""

    def __init__(self, about, known):
        self.about, self.id, self.steps, self.axes, self.summary = about, about["id"], [], {}, {}
        self.finished, self.artifacts, self.resumed = False, [], about["mode"] == "online" and about["id"] in known
        known.add(about["id"])
        folders = Path(about["dir"]) / "wandb"
        kind = {"offline": "offline-run", "online": "run"}[about["mode"]]
        folder = folders / f"{kind}-{len(list(folders.glob('*run-*')))}-{self.id}/files"
        folder.mkdir(parents=True)
        self.dir = str(folder)
        self.environment = {name: os.environ.get(name) for name in FOLDERS}

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, step):
        if any(isinstance(value, float) and value < 0 for value in step.values()):
            raise OSError("disk full")
        self.steps.append(step)

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module that notes what it is told."""
    fake, at_server = ModuleType("wandb"), set()
    fake.runs, fake.key, fake.run, fake.error, fake.ended, fake.at_server = [], True, None, None, 0, at_server
    fake.Settings = fake.Image = lambda *args, **settings: SimpleNamespace(args=args, **settings)
    fake.Html = lambda path, inject: SimpleNamespace(html=Path(path).read_text(), inject=inject)
    fake.Table, fake.Artifact = FakeTable, FakeArtifact
    fake.plot_table = lambda *args: args
    fake.errors = SimpleNamespace(CommError=FakeCommError)
    fake.setup = lambda: SimpleNamespace(settings=SimpleNamespace(base_url="http://server"))
    fake.login = lambda prompt, verify: fake.key and not prompt

    def init(**about):
        if fake.error:
            raise fake.error
        fake.runs.append(FakeRun(about, at_server))
        return fake.runs[-1]

    def teardown():
        fake.ended += 1

    fake.init, fake.teardown = init, teardown
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_is_told_whose_run_it_is(runs, wandb):
    folders = Wandb(entity="team").log(scored(runs))
    assert folders == [Path(run.dir).parent for run in wandb.runs]
    bound, method = (run.about for run in wandb.runs)
    assert bound["name"] == "copy"
    assert method["name"] == "diffedit experiment=tradeoff,editor.guidance=5.0"
    assert (bound["group"], method["group"]) == ("scenes", "tradeoff")
    assert bound["tags"] == ["scenes", "tiny", "copy", "bound"]
    assert method["tags"] == ["scenes", "tiny", "diffedit", "tradeoff"]
    place = {"benchmark": "scenes", "backbone": "tiny", "editor": "copy", "name": "default"}
    assert bound["config"] == load_run(runs[0]).config | {"place": place}
    for root, run in zip(runs, wandb.runs, strict=True):
        about = {"project": "diffedit", "entity": "team", "mode": "offline", "job_type": "edit", "notes": None}
        about |= {"dir": str(root), "resume": "allow", "reinit": "create_new", "save_code": False}
        assert about == {key: run.about[key] for key in about}
        assert run.about["settings"].silent
        assert run.finished
        assert all(Path(path).is_relative_to(root) for path in run.environment.values())


def test_what_is_set_is_told_instead(runs, wandb):
    told = {"group": "g", "job_type": "j", "name": "n", "tags": ["a", "b"], "notes": "s"}
    Wandb(**told).log(scored(runs[:1]))
    assert told == {key: wandb.runs[0].about[key] for key in told}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"project": "a/b"}, r"Wandb: project = 'a/b': a name without / "),
        ({"tags": ["x" * 65]}, r"Wandb: tags = .*at most 64"),
        ({"group": "x" * 129}, r"Wandb: group = .*a text of 1 to 128 characters"),
        ({"mode": "offlin"}, r"Wandb: mode = 'offlin': it should be 'offline', 'online' or 'disabled'"),
        ({"samples": -1}, r"Wandb: samples = -1"),
    ],
)
def test_what_the_server_would_refuse_is_refused_at_once(setting, message):
    with pytest.raises(ValueError, match=message):
        Wandb(**setting)


def test_wandb_gets_curves_charts_and_a_summary(runs, wandb):
    scores = scored(runs[1:])
    scores.loc[(scores.metric == "accuracy") & (scores.strength == 0.3), ["low", "high"]] = float("nan")
    Wandb(y=["accuracy", "fid"]).log(scores)
    (run,) = wandb.runs
    first, last, things = run.steps
    value = scores.set_index(["metric", "strength"])[["value", "low", "high"]]
    lpips, accuracy = value.loc["lpips"], value.loc["accuracy"]
    names = "lpips", "lpips/low", "lpips/high"
    assert first == dict(zip(names, lpips.loc[0.3], strict=True)) | {"accuracy": accuracy.value[0.3], "ratio": 0.3}
    assert run.axes["lpips"] == run.axes["lpips/*"] == run.axes["accuracy"] == "ratio"
    assert run.summary == {key: number for key, number in last.items() if key != "ratio"} | {"n": 6}
    assert set(things) == {"edits", "curves/accuracy over lpips"}
    preset, table, fields, texts = things["curves/accuracy over lpips"]
    assert preset == "wandb/line/v0"
    assert table.columns == ["strength", "lpips", "accuracy", "low", "high"]
    assert table.data[0] == [0.3, lpips.value[0.3], accuracy.value[0.3], None, None]
    assert table.data[1] == [1.0, lpips.value[1.0], *accuracy.loc[1.0]]
    assert fields == {"x": "lpips", "y": "accuracy", "stroke": None, "low": "low", "high": "high"}
    assert texts == {"title": "accuracy over lpips"}


def test_the_table_has_a_row_for_each_request_and_ratio(runs, wandb):
    Wandb().log(scored(runs))
    floor, table = (run.steps[-1]["edits"] for run in wandb.runs)
    assert table.columns == floor.columns == ["id", "source", "target", "ratio", *PICTURES, "accuracy", "lpips"]
    assert [(row[0], row[3]) for row in table.data] == [(id, ratio) for id in IDS for ratio in RATIOS]
    row = dict(zip(table.columns, table.data[5], strict=True))
    assert (row["id"], row["target"], row["ratio"]) == (ODD, HACK, 1.0)
    loaded = load_run(runs[1])
    (edit,), (mask,) = row["edit"].args, row["mask"].args
    assert Path(edit) == runs[1] / loaded.find_edit(ODD, 1.0)["file"]
    assert Path(mask).parent == runs[1] / "masks"
    assert row["input"].args[0].tobytes() == to_pil(loaded.requests[ODD].image()).tobytes()
    assert row["contrast map"].args[0].size == (16, 16)
    assert row["true edit"] is None
    measured = loaded.values.query("id == @ODD and strength == 1.0").set_index("name").value
    assert {name: row[name] for name in NUMBERS} == pytest.approx(dict(measured))
    assert table.data[4][table.columns.index("input")] is row["input"]  # sent once
    assert floor.data[0][5:7] == [None, None]


def test_few_requests_are_chosen_evenly(runs, wandb):
    Wandb(samples=2).log(scored(runs[:1]))
    assert [row[0] for row in wandb.runs[0].steps[-1]["edits"].data] == ["b"] * 2 + ["c"] * 2
    Wandb(samples=0).log(scored(runs[1:]))
    assert set(wandb.runs[1].steps[-1]) == {"curves/accuracy over lpips"}


# -------------------------------------------------------------------------------------------------------- resumed


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_nothing_is_logged_twice_and_a_change_goes_into_the_same_run(runs, wandb, mode):
    scores, logger = scored(runs[:1]), Wandb(mode=mode)
    (folder,) = logger.log(scores)
    assert logger.log(scores) == []
    changed = scores.copy()
    changed.loc[0, "value"] += 0.01
    added = pd.concat([changed, changed[changed.metric == "lpips"].assign(metric="fid")])
    (second,) = logger.log(added)
    assert second != folder
    assert folder.is_dir()
    first, last = wandb.runs
    assert first.id == last.id
    assert last.resumed == (mode == "online")
    fid, low, high = (added[added.metric == "fid"].set_index("strength")[name] for name in ("value", "low", "high"))
    point, other, things = last.steps
    new = {"fid": fid[0.3], "fid/low": low[0.3], "fid/high": high[0.3], "ratio": 0.3}
    assert point == new | {changed.metric[0]: changed.value[0]}
    assert set(other) == {"fid", "fid/low", "fid/high", "ratio"}
    assert "edits" not in things  # what was measured on each picture is the same
    assert last.summary["fid"] == fid[1.0]
    assert logger.log(added) == logger.log(added[added.metric == "fid"]) == []
    assert len(Wandb(mode=mode, tags=["new"]).log(added)) == 1
    assert wandb.runs[-1].steps == []


def test_what_fails_midway_is_gone_on_with(runs, wandb):
    scores = scored(runs[1:])
    broken = scores.copy()
    broken.loc[broken.strength == 1.0, "value"] = -1.0
    with pytest.raises(OSError, match="disk full"):
        Wandb().log(broken)
    assert wandb.runs[0].finished
    assert len(Wandb().log(scores)) == 1
    first, last = wandb.runs
    assert last.id == first.id
    assert [step["ratio"] for step in first.steps + last.steps[:-1]] == [0.3, 1.0]
    assert Wandb().log(scores) == []


def test_another_project_or_a_folder_that_is_gone_gets_all_of_it(runs, wandb):
    scores = scored(runs[:1])
    Wandb().log(scores)
    (folder,) = Wandb(project="other").log(scores)
    shutil.rmtree(folder)
    assert Wandb(project="other").log(scores) == [folder]
    Wandb(project="third", mode="online").log(scores)
    wandb.at_server.clear()  # somebody removed the run there
    Wandb(project="third", mode="online", notes="again").log(scores)
    assert {len(run.steps) for run in wandb.runs} == {3}
    assert len({run.id for run in wandb.runs}) == 1


def test_what_lies_in_folders_is_sent_before_going_on_online(runs, wandb):
    scores = scored(runs[:1])
    (folder,) = Wandb().log(scores)
    with pytest.raises(ValueError, match=r"logger.mode = online: .* is not sent: `wandb sync '.*'` first, or remove"):
        Wandb(mode="online").log(scores)
    (folder / "run-x.wandb.synced").touch()
    assert Wandb(mode="online").log(scores) == []


def test_a_run_that_grows_stays_the_same_and_a_copy_is_another(runs, wandb, tmp_path):
    scores = scored(runs[:1])
    Wandb().log(scores)
    copied = shutil.copytree(runs[0], tmp_path / "runs/scenes/tiny/copy/other")
    Wandb().log(scored([copied]))
    path = runs[0] / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    Wandb().log(scores)
    marker = runs[0] / "wandb/logged.json"
    marker.write_text("{")
    path.write_text(path.read_text().replace("seed: 1", "seed: 0"))
    Wandb().log(scores)
    first, other, grown, forgotten = (run.id for run in wandb.runs)
    assert first == grown == forgotten != other


def test_variables_come_back_also_when_it_fails(runs, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", "mine")
    monkeypatch.delenv("WANDB_CACHE_DIR", raising=False)
    before = dict(os.environ)
    scores = scored(runs[:1])
    with pytest.raises(OSError, match="disk full"):
        Wandb().log(scores.assign(value=-1.0))
    assert dict(os.environ) == before
    assert wandb.ended == 2
    wandb.run = object()  # one that the program has open, which stays open
    Wandb().log(scores)
    assert wandb.ended == 2


def test_online_needs_a_server_and_a_key(runs, wandb):
    scores = scored(runs[:1])
    wandb.key = False
    with pytest.raises(PermissionError, match=r"run `wandb login` once or set WANDB_API_KEY"):
        Wandb(mode="online").log(scores)
    wandb.key, wandb.error = True, FakeCommError("timed out\nraise the timeout")
    advice = r"no run from http://server \(timed out\): use logger.mode=offline, then `wandb sync <folder>`"
    with pytest.raises(ConnectionError, match=advice):
        Wandb(mode="online").log(scores)
    assert wandb.runs == []
    assert not (runs[0] / "wandb/logged.json").exists()
    wandb.error = None
    assert len(Wandb(mode="online", timeout=9).log(scores)) == 1
    assert wandb.runs[0].about["settings"].init_timeout == 9
    assert wandb.runs[0].environment["WANDB_CONFIG_DIR"] is None  # the user's own, where the server is noted


def test_disabled_does_nothing(runs, wandb, tmp_path):
    logger = Wandb(mode="disabled")
    assert logger.log(scored(runs)) == logger.log_page(tmp_path / "index.html", runs, {}) == []
    assert wandb.runs == []


# --------------------------------------------------------------------------------------------------------- reports


def test_a_report_is_an_artifact(runs, wandb, tmp_path):
    settings = PageSettings(copy=True, threads=1, resamples=50)
    path = write_report(tmp_path / "page", runs, settings).path
    (folder,) = Wandb().log_page(path, runs, {"copy": True})
    assert folder.parent == path.parent / "wandb"
    (run,) = wandb.runs
    assert (run.about["job_type"], run.about["group"], run.about["name"]) == ("report", "scenes", "report of 2 runs")
    assert run.about["tags"] == ["report", "scenes", "tiny", "copy", "diffedit"]
    assert run.about["config"]["runs"][0] == "scenes/tiny/copy/default"
    (artifact,) = run.artifacts
    assert (artifact.name, artifact.type) == (f"report-{run.id}", "report")
    page = {file.relative_to(path.parent).as_posix(): file for file in path.parent.rglob("*") if file.is_file()}
    assert {name: file.read_bytes() for name, file in page.items() if not name.startswith("wandb/")} == {
        name: data for name, (data, _) in artifact.files.items()
    }
    assert any(name.startswith("pictures/") for name in artifact.files)
    assert {policy for _, policy in artifact.files.values()} == {"mutable"}
    assert Wandb().log_page(path, runs, {"copy": True}) == []
    write_report(tmp_path / "page", runs, PageSettings(count=2, threads=1, resamples=50))
    assert len(Wandb().log_page(path, runs, {"count": 2})) == 1
    assert wandb.runs[1].id == run.id


def test_a_page_of_one_file_is_shown_on_the_server_too(runs, wandb, tmp_path):
    path = write_report(tmp_path / "page", runs, PageSettings(single_file=True, threads=1, resamples=50)).path
    (folder,) = Wandb(mode="online", group="g").log_page(path, runs, {})
    assert folder.parent == tmp_path / "page/wandb"
    (run,) = wandb.runs
    assert run.about["group"] == "g"
    assert run.steps[0]["report"].html == path.read_text()
    assert run.artifacts[0].files == {"page.html": (path.read_bytes(), "immutable")}


def test_the_command_logs_its_page_and_asks_for_a_logger_that_shows_some(runs, wandb, tmp_path, capsys):
    words = [f"runs={tmp_path}/runs/*/*/*/*", f"out={tmp_path}/page", "count=2", "resamples=50"]
    assert main([*words, "logger=tensorboard"]) == 2
    assert "logger = Tensorboard: it shows no pages; use logger=wandb or logger=none" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()
    assert main([*words, "logger=wandb", "logger.project=mine", "logger.tags=[a,b]"]) == 0
    (run,) = wandb.runs
    assert (run.about["project"], run.about["tags"], run.about["config"]["report"]["count"]) == ("mine", ["a", "b"], 2)
    assert f"logged: {tmp_path}/page/wandb/" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------- the real one

REAL = """
import json, os, sys, time
from pathlib import Path
from eval.reporting.collect import collect
from eval.reporting.loggers import Wandb
from eval.reporting.report.site import PageSettings, write_report

*roots, page = map(Path, sys.argv[1:])
table = collect(roots)
scores = table[table.run != ""]
before = dict(os.environ)
logged = [Wandb().log(scores) for _ in range(2)]
changed = scores[scores.run == str(roots[0])]
logged.append(Wandb().log(changed.assign(value=changed.value + 0.25)))
path = write_report(page, roots, PageSettings(single_file=True, threads=1, resamples=50)).path
logged.append(Wandb().log_page(path, roots, {}))
errors, seconds = [], []
for line in sys.stdin.read().splitlines():
    url, _, key = line.partition(" ")
    variables = {"WANDB_BASE_URL": url} | ({"WANDB_API_KEY": key} if key else {})
    os.environ |= variables
    before |= variables
    begun = time.monotonic()
    try:
        Wandb(mode="online", project="other", timeout=1.5).log(scores)
    except OSError as error:
        errors.append(f"{type(error).__name__}: {error}")
    seconds.append(time.monotonic() - begun)
report = {"logged": [list(map(str, folders)) for folders in logged], "errors": errors, "seconds": seconds}
print(json.dumps(report | {"restored": dict(os.environ) == before}))
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """What a process of its own did with the real wandb, offline and against servers that are none: it takes long."""
    folder, key = tmp_path_factory.mktemp("real"), 40 * "0"
    home, cwd = folder / "home", folder / "cwd"
    home.mkdir()
    cwd.mkdir()
    roots = make_runs(folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_", "NETRC"))}
    variables = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    variables["MPLCONFIGDIR"] = str(folder / "matplotlib")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = "http://127.0.0.1:1", f"http://127.0.0.1:1 {key}", f"http://127.0.0.1:{silent.getsockname()[1]} {key}"
        done = subprocess.run(
            [sys.executable, "-c", REAL, *map(str, roots), str(folder / "page")], input="\n".join(urls), cwd=cwd,
            env=variables, capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
    report = json.loads(done.stdout)
    logged = [list(map(Path, folders)) for folders in report.pop("logged")]
    return SimpleNamespace(
        **report, logged=logged, roots=roots, stderr=done.stderr, stray=[*home.rglob("*"), *cwd.iterdir()]
    )


def read_record(folder):
    (path,) = folder.glob("*.wandb")
    return path.read_bytes()


def test_the_real_wandb_stays_inside_the_run_is_quiet_and_fails_fast(real):
    assert real.stderr == ""
    assert real.restored
    assert real.stray == []
    locked, refused, silent = real.errors
    assert locked.startswith("PermissionError: wandb: no API key")
    assert refused.startswith("ConnectionError: wandb: no run from http://127.0.0.1:1 (")
    assert silent.startswith("ConnectionError: wandb: no run from")
    assert max(real.seconds) < 15


def test_the_real_wandb_writes_curves_a_chart_and_a_table_with_pictures(real):
    assert real.logged[1] == []
    for root, folder in zip(real.roots, real.logged[0], strict=True):
        note = json.loads((root / "wandb/logged.json").read_text())
        assert folder.parent == root / "wandb"
        assert folder.name.startswith("offline-run-")
        assert folder.name.endswith(note["id"])
        record = read_record(folder)
        words = b"lpips/high", b"wandb/line/v0", b"curves/accuracy over lpips", b"run_table", b"edit", b"scenes"
        assert all(word in record for word in words)
        (path,) = folder.glob("files/media/table/edits_*.table.json")
        table = json.loads(path.read_text())
        assert [row[:1] + row[3:4] for row in table["data"]] == [[id, ratio] for id in IDS for ratio in RATIOS]
        assert table["data"][4][2] == HACK
        (path,) = folder.glob("files/media/table/curves/*.table.json")
        assert json.loads(path.read_text())["columns"] == ["strength", "lpips", "accuracy", "low", "high"]
        copies = [file.read_bytes()[:8] for file in (root / "wandb/data/artifacts/staging").iterdir()]
        assert copies.count(b"\x89PNG\r\n\x1a\n") >= len(IDS) + 2


def test_the_real_wandb_goes_on_with_a_run_in_another_folder_of_its_id(real):
    (again,), first = real.logged[2], real.logged[0][0]
    assert again != first
    assert again.name.rpartition("-")[2] == first.name.rpartition("-")[2]
    assert not list(again.glob("files/media/table/edits_*"))
    assert json.loads((real.roots[0] / "wandb/logged.json").read_text())["offline"] == [first.name, again.name]


def test_the_real_wandb_takes_a_page(real):
    ((folder,),) = real.logged[3:]
    page = folder.parents[2] / "page.html"
    (shown,) = folder.glob("files/media/html/report_*.html")
    assert shown.read_bytes() == page.read_bytes()
    assert page.read_bytes() in [file.read_bytes() for file in (folder.parent / "data/artifacts/staging").iterdir()]
    assert b"page.html" in read_record(folder)


SYNC = """
import subprocess, sys
from pathlib import Path
from eval.reporting.collect import collect
from eval.reporting.loggers import Wandb

root = Path(sys.argv[1])
table = collect([root])
scores = table[table.run != ""]
offline, online = (Wandb(mode=mode, samples=0, y=[], timeout=20) for mode in ("offline", "online"))
offline.log(scores[scores.metric == "lpips"])
offline.log(scores)
try:
    online.log(scores)
except ValueError as error:
    print(error)
subprocess.run([sys.executable, "-m", "wandb", "sync", str(root / "wandb")], check=True, capture_output=True)
print(online.log(scores))
online.log(scores.assign(high=1.0))
"""


@pytest.mark.slow
def test_the_real_wandb_sync_appends_what_was_logged_offline(runs, tmp_path):
    """What `wandb_session.py` rests on; a release of wandb may change it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_", "NETRC"))}
    with serve() as server:
        kept |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"}
        kept |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": 40 * "0", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", SYNC, str(runs[0])],
            env=kept, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=200,
        )  # fmt: skip
    refused, nothing = done.stdout.splitlines()
    assert "was logged offline and is not sent" in refused
    assert nothing == "[]"
    ((name, history),) = server.histories.items()
    assert name == json.loads((runs[0] / "wandb/logged.json").read_text())["id"]
    assert [(line["_step"], line["ratio"], "lpips" in line, "accuracy" in line) for line in history[:4]] == [
        *((0, 0.3, True, False), (1, 1.0, True, False), (2, 0.3, False, True), (3, 1.0, False, True)),
    ]
    assert [(line["_step"], line["ratio"], line["lpips/high"], "lpips" in line) for line in history[4:]] == [
        *((4, 0.3, 1.0, False), (5, 1.0, 1.0, False)),
    ]
