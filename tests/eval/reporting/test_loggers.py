"""Loggers carry the figures over as they are, stay inside the run directory, and never hang or ask."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from eval.reporting.collect import collect
from eval.reporting.loggers import FOLDERS, Logger, NoLogger, Tensorboard, Wandb, answers, samples_of

ROOT = Path(__file__).parents[3]
CONFIG = {"editor": {"_target_": "a.B", "steps": 50}, "ratios": [0.3, 1.0]}
VALUES = {0.3: (0.25, 0.2, 0.3), 1.0: (0.5, 0.4, 0.6)}


def make(root):
    """A scored run: lpips at two ratios, a mask_iou without an interval, accuracy not defined at 0.3."""
    (root / "scores").mkdir(parents=True)
    (root / "config.yaml").write_text(OmegaConf.to_yaml(CONFIG))
    rows = [
        dict(zip(("value", "low", "high"), value, strict=True)) | {"ratio": r, "metric": "lpips"}
        for r, value in VALUES.items()
    ]
    rows += [{"ratio": r, "metric": "mask_iou", "value": 0.75, "low": None, "high": None} for r in VALUES]
    rows += [{"ratio": 0.3, "metric": "accuracy", "value": None, "low": None, "high": None}]
    better = {"lpips": "lower", "mask_iou": "higher", "accuracy": "higher"}
    said = {"made_by": "x", "benchmark": "set", "version": "1", "n": 3, "better": better, "copy": [], "real": []}
    said |= {"rows": [row | {"n": 3} for row in rows]}
    (root / "scores/all.json").write_text(json.dumps(said))
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
    return collect(runs), {str(run): samples_of(run, count) for run in runs}


def test_samples_are_the_first_ids_at_the_largest_ratio(runs, tmp_path):
    assert samples_of(runs[0], 2) == [runs[0] / "images/1/a%2Fb.png", runs[0] / "images/1/a%2Fz.png"]
    assert len(samples_of(runs[0], 8)) == 3
    assert samples_of(tmp_path, 8) == []


@pytest.mark.parametrize(("name", "logger"), [("none", NoLogger), ("wandb", Wandb), ("tensorboard", Tensorboard)])
def test_a_yaml_lists_every_field_with_its_default(name, logger):
    settings = OmegaConf.load(ROOT / f"conf/logger/{name}.yaml")
    built = instantiate(settings, _convert_="all")
    assert isinstance(built, Logger)
    assert built == logger()
    assert set(settings) - {"_target_"} == set(vars(built))


def test_no_logger_does_nothing(runs):
    assert NoLogger().log(*given(runs)) == []


# ------------------------------------------------------------------------------------------------------- tensorboard


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def test_tensorboard_has_figures_pictures_and_the_config(runs):
    for _ in range(2):  # a second call replaces
        folders = Tensorboard(samples=2).log(*given(runs))
        assert folders == [run / "tensorboard" for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        assert len(list(folder.iterdir())) == 1
        found = events(folder)
        for i, name in enumerate(("lpips", "lpips/low", "lpips/high")):
            scalars = found.Scalars(name)
            assert [each.step for each in scalars] == [30, 100]
            assert [each.value for each in scalars] == pytest.approx([value[i] for value in VALUES.values()])
        assert set(found.Tags()["scalars"]) == {"lpips", "lpips/low", "lpips/high", "mask_iou"}
        assert set(found.Tags()["images"]) == {"samples/a/b", "samples/a/z"}
        (picture,) = found.Images("samples/a/z")
        assert (picture.step, picture.width, picture.height) == (100, 4, 4)
        (text,) = found.Tensors("config/text_summary")
        assert (run / "config.yaml").read_text() in text.tensor_proto.string_val[0].decode()


def test_tensorboard_in_a_folder_leaves_other_files_alone(runs, tmp_path, caplog):
    scores, samples = given(runs)
    other = tmp_path / "logs/scenes/tiny/copy/default/events.out.tfevents.1.host"
    other.parent.mkdir(parents=True)
    other.touch()
    folders = Tensorboard(folder=str(tmp_path / "logs")).log(scores, samples)
    assert folders == [other.parent, tmp_path / "logs/scenes/tiny/diffedit/editor.steps=50"]
    assert other.exists()
    close = pd.concat([scores, scores[scores.ratio == 0.3].assign(ratio=0.301)])
    with caplog.at_level(logging.WARNING):
        Tensorboard().log(close, {})
    assert "some fall together" in caplog.text


@pytest.mark.parametrize(
    ("logger", "module", "said"),
    [(Wandb(), "wandb", "wandb"), (Tensorboard(), "torch.utils.tensorboard", "tensorboard")],
)
def test_a_missing_package_is_named(runs, monkeypatch, logger, module, said):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"needs {said}: pip install {said}; or use logger=none"):
        logger.log(*given(runs))


# ------------------------------------------------------------------------------------------------------------- wandb


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
    """A module that metadata what it is told."""
    fake = ModuleType("wandb")
    fake.runs, fake.key, fake.run, fake.url, fake.ended = [], True, None, "http://127.0.0.1:1", 0
    fake.Settings = fake.Image = lambda *args, **settings: SimpleNamespace(args=args, **settings)
    fake.setup = lambda: SimpleNamespace(settings=SimpleNamespace(base_url=fake.url))
    fake.login = lambda prompt, verify: fake.key and not prompt

    def init(**about):
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
        assert [each.caption for each in pictures["samples"]] == ["a/b, ratio 1", "a/z, ratio 1"]
        assert [each.args for each in pictures["samples"]] == [(str(path),) for path in samples_of(root, 2)]
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


@contextmanager
def server():
    """Says 404 to everything."""

    class Refuse(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as found:
        Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_online_needs_a_server_and_a_key(runs, wandb):
    scores, samples = given(runs[:1])
    with pytest.raises(ConnectionError, match=r"no answer from .*use logger.mode=offline, then `wandb sync <folder>`"):
        Wandb(mode="online").log(scores, samples)
    with server() as wandb.url:
        wandb.key = False
        with pytest.raises(PermissionError, match=r"run `wandb login` once or set WANDB_API_KEY"):
            Wandb(mode="online").log(scores, samples)
        assert wandb.runs == []
        wandb.key = True
        assert len(Wandb(mode="online").log(scores, samples)) == 1
        assert wandb.runs[0].environment["WANDB_CONFIG_DIR"] is None  # the user's own, where the server is noted


def test_a_server_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2)
        assert time.monotonic() - begun < 2


def test_disabled_does_nothing(runs, wandb):
    assert Wandb(mode="disabled").log(*given(runs)) == []
    assert wandb.runs == []


REAL = """
import json, os, sys, time
from pathlib import Path
from eval.reporting.loggers import Wandb, samples_of
from eval.reporting.collect import collect

roots = [Path(each) for each in sys.argv[1:]]
given = collect(roots), {str(root): samples_of(root, 8) for root in roots}
before = dict(os.environ)
first = [str(each) for each in Wandb().log(*given)]
again = [str(each) for each in Wandb().log(*given)]
errors, begun = [], time.monotonic()
for url in sys.stdin.read().split():
    os.environ["WANDB_BASE_URL"] = before["WANDB_BASE_URL"] = url
    try:
        Wandb(mode="online").log(*given)
    except OSError as error:
        errors.append(f"{type(error).__name__}: {error}")
try:
    Wandb(mode="offlin")
except ValueError as error:  # the tests' type checker would be first
    errors.append(str(error))
said = {"first": first, "again": again, "errors": errors, "seconds": time.monotonic() - begun}
print(json.dumps(said | {"restored": dict(os.environ) == before}))
"""


def test_the_real_wandb_stays_inside_the_run_is_quiet_and_fails_fast(runs, tmp_path):
    home, there = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    there.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "XDG_", "NETRC"))}
    variables = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    with server() as url:
        done = subprocess.run(
            [sys.executable, "-c", REAL, *map(str, runs)], input=f"http://127.0.0.1:1 {url}", cwd=there,
            env=variables, capture_output=True, text=True, check=True, timeout=100,
        )  # fmt: skip
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["restored"]
    assert said["again"] == []
    for root, folder in zip(runs, map(Path, said["first"]), strict=True):
        assert folder.parent == root / "wandb"
        assert folder.name.startswith("offline-run-")
        (record,) = folder.glob("*.wandb")
        assert all(name in record.read_bytes() for name in (b"lpips/high", b"mask_iou", b"0.25", b"a/z, ratio 1"))
        assert len(list(folder.glob("files/media/images/*.png"))) == 3
        assert list((root / "wandb/cache").rglob("core-debug*"))
    assert list(home.rglob("*")) == list(there.iterdir()) == []
    nobody, locked, unknown = said["errors"]
    assert nobody.startswith("ConnectionError: wandb: no answer from")
    assert locked.startswith("PermissionError: wandb: no API key")
    assert unknown == "Wandb: mode = 'offlin' is none of offline, online, disabled"
    assert said["seconds"] < 10
