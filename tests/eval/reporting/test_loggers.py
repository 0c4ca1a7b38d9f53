"""Loggers carry the scores over as they are, stay inside the run directory, and never hang or ask."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from diffedit.types import Variant
from eval.reporting.collect import collect
from eval.reporting.loggers import FOLDERS, Logger, NoLogger, Tensorboard, Wandb, pick_samples, read_variant
from eval.scoring.files import FORMAT

ROOT = Path(__file__).parents[3]
CONFIG = {"benchmark": {"_target_": "a.C"}, "editor": {"_target_": "a.B", "steps": 50}, "ratios": [0.3, 1.0]}
CONFIG["benchmark_version"] = "1"
VALUES = {0.3: (0.25, 0.2, 0.3), 1.0: (0.5, 0.4, 0.6)}


def make(root):
    """A scored run: lpips at two ratios, a mask_iou without an interval, accuracy not defined at 0.3."""
    (root / "scores").mkdir(parents=True)
    (root / "config.yaml").write_text(OmegaConf.to_yaml(CONFIG))
    rows = [
        dict(zip(("value", "low", "high"), value, strict=True)) | {"variant": str(Variant(r)), "metric": "lpips"}
        for r, value in VALUES.items()
    ]
    undefined = {"low": None, "high": None}
    rows += [{"variant": str(Variant(r)), "metric": "mask_iou", "value": 0.75, **undefined} for r in VALUES]
    rows += [{"variant": "ratio=0.3", "metric": "accuracy", "value": None, **undefined}]
    better = {"lpips": False, "mask_iou": True, "accuracy": True}
    scores = {"format": FORMAT, "made_by": "x", "benchmark": "set", "version": "1", "higher_is_better": better}
    scores |= {"key": "k", "draws": [10, 0], "environment": {}, "undefined": None, "real_missing": None}
    scores |= {"n": 3, "copy": [], "real": [], "rows": [row | {"n": 3} for row in rows]}
    (root / "scores/all.json").write_text(json.dumps(scores))
    for r in VALUES:
        for i, name in enumerate(("b", "a%2Fz", "a%2Fb")):
            path = root / f"images/{r:g}/{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), 40 * i + int(10 * r), np.uint8)).save(path)
    return root


@pytest.fixture
def runs(tmp_path):
    return [make(tmp_path / "runs/scenes/tiny" / name) for name in ("copy/default", "diffedit/editor.steps=50")]


def given(runs, count=8):
    return collect(runs), {str(run): pick_samples(run, count) for run in runs}


def test_samples_are_the_first_ids_at_the_largest_strength(runs, tmp_path):
    assert pick_samples(runs[0], 2) == [runs[0] / "images/1/a%2Fb.png", runs[0] / "images/1/a%2Fz.png"]
    assert len(pick_samples(runs[0], 8)) == 3
    assert pick_samples(tmp_path, 8) == []
    for variant in (Variant(2.0, "guidance"), Variant(10.0, "guidance")):
        folder = tmp_path / "images" / variant.folder
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
        assert read_variant(folder) == variant
    assert pick_samples(tmp_path, 8) == [folder / "a.png"]


@pytest.mark.parametrize(("name", "logger"), [("none", NoLogger), ("wandb", Wandb), ("tensorboard", Tensorboard)])
def test_a_yaml_lists_every_field_with_its_default(name, logger):
    settings = OmegaConf.load(ROOT / f"conf/logger/{name}.yaml")
    built = instantiate(settings, _convert_="all")
    assert isinstance(built, Logger)
    assert built == logger()
    assert set(settings) - {"_target_"} == set(vars(built))
    assert built.samples == (0 if name == "none" else 8)


def test_no_logger_does_nothing(runs):
    assert NoLogger().log(*given(runs)) == []


# ------------------------------------------------------------------------------------------------------- tensorboard


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_tensorboard_has_scores_pictures_and_the_config(runs):
    for _ in range(2):  # a second call replaces
        folders = Tensorboard(samples=2).log(*given(runs))
        assert folders == [run / "tensorboard" for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        assert len(list(folder.iterdir())) == 1
        logged = events(folder)
        for i, name in enumerate(("lpips", "lpips/low", "lpips/high")):
            scalars = logged.Scalars(name)
            assert [event.step for event in scalars] == [30, 100]
            assert [event.value for event in scalars] == pytest.approx([value[i] for value in VALUES.values()])
        assert set(logged.Tags()["scalars"]) == {"lpips", "lpips/low", "lpips/high", "mask_iou"}
        assert set(logged.Tags()["images"]) == {"samples/a/b", "samples/a/z"}
        (picture,) = logged.Images("samples/a/z")
        assert (picture.step, picture.width, picture.height) == (100, 4, 4)
        (text,) = logged.Tensors("config/text_summary")
        assert (run / "config.yaml").read_text() in text.tensor_proto.string_val[0].decode()


def test_tensorboard_in_a_folder_leaves_other_files_alone(runs, tmp_path, caplog):
    scores, samples = given(runs)
    other = tmp_path / "logs/scenes/tiny/copy/default/events.out.tfevents.1.host"
    other.parent.mkdir(parents=True)
    other.touch()
    folders = Tensorboard(folder=str(tmp_path / "logs")).log(scores, samples)
    assert folders == [other.parent, tmp_path / "logs/scenes/tiny/diffedit/editor.steps=50"]
    assert other.exists()
    close = pd.concat([scores, scores[scores.strength == 0.3].assign(strength=0.301)])
    with caplog.at_level(logging.WARNING):
        Tensorboard().log(close, {})
    assert "some fall together" in caplog.text


@pytest.mark.parametrize(
    ("logger", "module", "package"),
    [(Wandb(), "wandb", "wandb"), (Tensorboard(), "torch.utils.tensorboard", "tensorboard")],
)
def test_a_missing_package_is_named(runs, monkeypatch, logger, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'needs {package}: pip install "diffedit\[{package}\]"; or use logger=none'):
        logger.log(*given(runs))


# ------------------------------------------------------------------------------------------------------------- wandb


class FakeCommError(Exception):
    """As wandb's, of a server that does not answer."""


class FakeRun:
    def __init__(self, about):
        self.about, self.steps, self.axes, self.summary, self.finished = about, [], {}, {}, False
        folder = Path(about["dir"]) / f"wandb/{about['mode']}-run-{about['id']}/files"
        folder.mkdir(parents=True, exist_ok=True)
        self.dir = str(folder)
        self.environment = {name: os.environ.get(name) for name in FOLDERS}

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, step):
        if step.get("lpips") == -1:
            raise OSError("disk full")
        self.steps.append(step)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module that notes what it is told."""
    fake = ModuleType("wandb")
    fake.runs, fake.key, fake.run, fake.error, fake.ended = [], True, None, None, 0
    fake.Settings = fake.Image = lambda *args, **settings: SimpleNamespace(args=args, **settings)
    fake.errors = SimpleNamespace(CommError=FakeCommError)
    fake.setup = lambda: SimpleNamespace(settings=SimpleNamespace(base_url="http://server"))
    fake.login = lambda prompt, verify: fake.key and not prompt

    def init(**about):
        if fake.error:
            raise fake.error
        fake.runs.append(FakeRun(about))
        return fake.runs[-1]

    def teardown():
        fake.ended += 1

    fake.init, fake.teardown = init, teardown
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_is_told_all(runs, wandb):
    folders = Wandb(samples=2, entity="team").log(*given(runs))
    assert [run.about["name"] for run in wandb.runs] == ["copy", "diffedit editor.steps=50"]
    assert folders == [Path(run.dir).parent for run in wandb.runs]
    for root, run in zip(runs, wandb.runs, strict=True):
        about = {"project": "diffedit", "entity": "team", "mode": "offline", "group": "scenes", "job_type": "tiny"}
        assert about | {"config": CONFIG, "dir": str(root)} == {
            key: run.about[key] for key in (*about, "config", "dir")
        }
        assert run.about["settings"].silent
        first, last, pictures = run.steps
        assert first == {"ratio": 0.3, "lpips": 0.25, "lpips/low": 0.2, "lpips/high": 0.3, "mask_iou": 0.75}
        assert last == {"ratio": 1.0, "lpips": 0.5, "lpips/low": 0.4, "lpips/high": 0.6, "mask_iou": 0.75}
        assert run.axes["lpips"] == run.axes["lpips/*"] == run.axes["mask_iou"] == "ratio"
        assert [image.caption for image in pictures["samples"]] == ["a/b, ratio=1.0", "a/z, ratio=1.0"]
        assert [image.args for image in pictures["samples"]] == [(str(path),) for path in pick_samples(root, 2)]
        assert run.summary == {"n": 3}
        assert run.finished
        assert all(Path(path).is_relative_to(root) for path in run.environment.values())


def test_the_same_is_logged_once_and_a_change_is_a_new_run(runs, wandb):
    scores, samples = given(runs[:1])
    (folder,) = Wandb().log(scores, samples)
    assert Wandb().log(scores, samples) == []
    changed = scores.assign(value=scores.value + 0.01)
    assert len(Wandb().log(changed, samples)) == 1
    assert len(Wandb().log(changed, {})) == 1
    (last,) = Wandb(project="other").log(changed, {})
    ids = [run.about["id"] for run in wandb.runs]
    assert len(set(ids)) == 3
    assert ids[2] == ids[3]  # what is logged decides, not where it goes
    assert folder.is_dir()
    shutil.rmtree(last)
    assert Wandb(project="other").log(changed, {}) == [last]  # it was never sent


def test_variables_come_back_and_a_run_is_finished_also_when_it_fails(runs, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", "mine")
    monkeypatch.delenv("WANDB_CACHE_DIR", raising=False)
    before = dict(os.environ)
    scores, samples = given(runs)
    Wandb().log(scores[scores.run == str(runs[0])], samples)
    assert dict(os.environ) == before
    assert wandb.ended == 2
    with pytest.raises(OSError, match="disk full"):
        Wandb().log(scores[scores.run == str(runs[1])].assign(value=-1.0), samples)
    assert dict(os.environ) == before
    assert wandb.runs[-1].finished
    assert not (runs[1] / "wandb/logged.json").exists()


def test_a_run_that_the_program_has_open_stays_open(runs, wandb):
    wandb.run = object()
    Wandb().log(*given(runs[:1]))
    assert wandb.ended == 0
    assert wandb.runs[0].about["reinit"] == "create_new"


def test_online_needs_a_server_and_a_key(runs, wandb):
    scores, samples = given(runs[:1])
    wandb.key = False
    with pytest.raises(PermissionError, match=r"run `wandb login` once or set WANDB_API_KEY"):
        Wandb(mode="online").log(scores, samples)
    wandb.key, wandb.error = True, FakeCommError("timed out\nraise the timeout")
    advice = r"no run from http://server \(timed out\): use logger.mode=offline, then `wandb sync <folder>`"
    with pytest.raises(ConnectionError, match=advice):
        Wandb(mode="online").log(scores, samples)
    assert wandb.runs == []
    assert not (runs[0] / "wandb/logged.json").exists()
    wandb.error = None
    assert len(Wandb(mode="online", timeout=9).log(scores, samples)) == 1
    assert wandb.runs[0].about["settings"].init_timeout == 9
    assert wandb.runs[0].environment["WANDB_CONFIG_DIR"] is None  # the user's own, where the server is noted


def test_a_strength_of_another_name_is_the_axis(runs, wandb):
    scores, _ = given(runs[:1])
    scores = scores.assign(variant=[str(Variant(strength, "guidance")) for strength in scores.strength])
    Wandb().log(scores, {})
    assert wandb.runs[0].axes["lpips"] == "guidance"
    assert [step["guidance"] for step in wandb.runs[0].steps] == [0.3, 1.0]


def test_disabled_does_nothing(runs, wandb):
    assert Wandb(mode="disabled").log(*given(runs)) == []
    assert wandb.runs == []


REAL = """
import json, os, sys, time
from pathlib import Path
from eval.reporting.loggers import Wandb, pick_samples
from eval.reporting.collect import collect

roots = [Path(root) for root in sys.argv[1:]]
given = collect(roots), {str(root): pick_samples(root, 8) for root in roots}
before = dict(os.environ)
first = [str(folder) for folder in Wandb().log(*given)]
again = [str(folder) for folder in Wandb().log(*given)]
errors, seconds = [], []
for line in sys.stdin.read().splitlines():
    url, _, key = line.partition(" ")
    variables = {"WANDB_BASE_URL": url} | ({"WANDB_API_KEY": key} if key else {})
    os.environ |= variables
    before |= variables
    begun = time.monotonic()
    try:
        Wandb(mode="online").log(*given)
    except OSError as error:
        errors.append(f"{type(error).__name__}: {error}")
    seconds.append(time.monotonic() - begun)
try:
    Wandb(mode="offlin")
except ValueError as error:  # the tests' type checker would be first
    errors.append(str(error))
report = {"first": first, "again": again, "errors": errors, "seconds": seconds}
print(json.dumps(report | {"restored": dict(os.environ) == before}))
"""


def test_the_real_wandb_stays_inside_the_run_is_quiet_and_fails_fast(runs, tmp_path):
    home, cwd, key = tmp_path / "home", tmp_path / "cwd", 40 * "0"
    home.mkdir()
    cwd.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_", "NETRC"))}
    variables = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = "http://127.0.0.1:1", f"http://127.0.0.1:1 {key}", f"http://127.0.0.1:{silent.getsockname()[1]} {key}"
        done = subprocess.run(
            [sys.executable, "-c", REAL, *map(str, runs)], input="\n".join(urls), cwd=cwd,
            env=variables, capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["restored"]
    assert report["again"] == []
    for root, folder in zip(runs, map(Path, report["first"]), strict=True):
        assert folder.parent == root / "wandb"
        assert folder.name.startswith("offline-run-")
        (record,) = folder.glob("*.wandb")
        assert all(name in record.read_bytes() for name in (b"lpips/high", b"mask_iou", b"0.25", b"a/z, ratio=1.0"))
        assert len(list(folder.glob("files/media/images/*.png"))) == 3
        assert list((root / "wandb/cache").rglob("core-debug*"))
    assert list(home.rglob("*")) == list(cwd.iterdir()) == []
    locked, refused, silent, unknown = report["errors"]
    assert locked.startswith("PermissionError: wandb: no API key")
    assert refused.startswith("ConnectionError: wandb: no run from http://127.0.0.1:1 (")
    assert silent.startswith("ConnectionError: wandb: no run from")
    assert unknown == "Wandb: mode = 'offlin': it should be 'offline', 'online' or 'disabled'"
    assert max(report["seconds"]) < 15
