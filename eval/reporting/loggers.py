"""Loggers: figures and pictures for dashboards. Sinks that are fed once from the tables; nothing reads them back."""

import hashlib
import importlib
import json
import logging
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.error import HTTPError, URLError
from urllib.parse import unquote
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from PIL import Image

from diffedit.io.checks import check_choices
from diffedit.io.files import write

log = logging.getLogger(__name__)

PATIENCE = 4.0  # seconds that the server has for an answer; wandb itself waits 102 s
LONGEST = 128  # characters of a name or group that the server takes
MARKER = "logged.json"
SUFFIX = ".diffedit"  # of our event files: a folder may hold others
FOLDERS = {
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_DATA_DIR": "wandb/data",
    "WANDB_ARTIFACT_DIR": "wandb/artifacts",
    "WANDB_CONFIG_DIR": "wandb/config",
    "WANDB_DIR": ".",
}


@runtime_checkable
class Logger(Protocol):
    """Shows what was scored elsewhere."""

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        """Log every run of a table; returns the folders that were written now.

        Args:
            scores: as `eval.reporting.collect.collect` returns it; the column `run` has directories with a config.yaml.
            samples: by run, a few of its pictures (images/<ratio>/<id>.png).
        """


@dataclass(frozen=True)
class NoLogger:
    """Logs nothing."""

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        """Nothing."""
        return []


@dataclass(frozen=True)
class Tensorboard:
    """Event files: a log directory for each run, replaced at every call.

    Scalars are `<metric>`, `<metric>/low` and `<metric>/high`, which TensorBoard shows in one group. A step must be an
    integer there, so it is the encoding ratio in percent. Pictures are `samples/<id>`, the config is a text.

    Attributes:
        samples: pictures of a run, at most.
        folder: log directories are <folder>/<benchmark>/<backbone>/<editor>/<name>; None: <run>/tensorboard.
    """

    samples: int = 8
    folder: str | None = None

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        """Write the event files of every run; returns the log directories.

        Raises:
            ImportError: TensorBoard is not installed.
        """
        writer = imported("torch.utils.tensorboard", "tensorboard").SummaryWriter
        folders = []
        for run, own in scores.groupby("run", sort=False):
            folder = Path(run) / "tensorboard"
            if self.folder is not None:
                folder = Path(self.folder, *place(own))
            for old in folder.glob(f"*tfevents*{SUFFIX}"):
                old.unlink()
            with writer(str(folder), filename_suffix=SUFFIX) as events:
                fill(events, Path(run), own, samples.get(run, ())[: self.samples])
            folders.append(folder)
        return folders


def fill(events: Any, root: Path, own: pd.DataFrame, files: Sequence[Path]) -> None:
    """One run into a SummaryWriter."""
    if own.ratio.nunique() > len({percent(ratio) for ratio in own.ratio}):
        log.warning("%s: TensorBoard counts ratios in percent, and some fall together", root)
    for ratio, figures in steps(own):
        for name, value in figures.items():
            events.add_scalar(name, value, percent(ratio))
    for path in files:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        events.add_image(f"samples/{unquote(path.stem)}", pixels, percent(float(path.parent.name)), dataformats="HWC")
    events.add_text("config", f"```yaml\n{(root / 'config.yaml').read_text()}\n```")


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases: a run there for each run directory, that is for each editor, benchmark and set of overrides.

    Curves have the encoding ratio as their x axis: `<metric>`, `<metric>/low`, `<metric>/high`. The group is the
    benchmark and the job type the backbone. All files stay in <run>/wandb, also those that wandb would put into the
    home folder. The user's own settings of wandb (the server that `wandb login --host` noted) count only online.

    What was logged is not logged again: <run>/wandb/logged.json names it. Where figures, pictures, config or settings
    have changed, there is a new run, as wandb cannot resume one offline; the older one stays. A run's id is made from
    its content and its place (benchmark, backbone, editor, name): the same content, logged or synced from anywhere, is
    the same run on the server.

    Attributes:
        project: its name on the server.
        entity: user or team; None takes the default of the account.
        mode: `offline` writes folders for `wandb sync`; `online` sends at once; `disabled` does nothing.
        samples: pictures of a run, at most.
    """

    project: str = "diffedit"
    entity: str | None = None
    mode: Literal["offline", "online", "disabled"] = "offline"
    samples: int = 8

    def __post_init__(self) -> None:
        check_choices(self)

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        """Log the runs that have changed; returns their folders, those to sync.

        Raises:
            ImportError: wandb is not installed.
            ConnectionError: `online`, and no server answers.
            PermissionError: `online`, and no API key is configured.
        """
        if self.mode == "disabled":
            return []
        folders = []
        for run, own in scores.groupby("run", sort=False):
            root, files = Path(run), samples.get(run, ())[: self.samples]
            config = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
            name = digest([place(own), list(steps(own)), int(own.n.max()), config, hashes(files)])
            key = digest([name, self.project, self.entity, self.mode])
            if self.logged(root / "wandb") == key:
                continue
            wandb = imported("wandb", "wandb")
            with surroundings(wandb, root, self.mode == "online"):
                if self.mode == "online":
                    check_online(wandb)
                folders.append(self.send(wandb, root, name, own, config, files))
            said = {"key": key, "id": name, "folder": folders[-1].name}
            write(root / "wandb" / MARKER, json.dumps(said, indent=1).encode())
        return folders

    def logged(self, folder: Path) -> str | None:
        """The key of what was logged; None where its folder is gone before it was sent."""
        path = folder / MARKER
        if not path.is_file():
            return None
        said = json.loads(path.read_bytes())
        return said["key"] if self.mode == "online" or (folder / said["folder"]).is_dir() else None

    def send(self, wandb: Any, root: Path, name: str, own: pd.DataFrame, config: Any, files: Sequence[Path]) -> Path:
        """One run; returns its folder. It is finished also where something goes wrong."""
        benchmark, backbone, editor, overrides = place(own)
        shown = editor if overrides == "default" else f"{editor} {overrides}"
        about = {"project": self.project, "entity": self.entity, "mode": self.mode, "id": name, "config": config}
        about |= {"name": shown[:LONGEST], "group": benchmark[:LONGEST], "job_type": backbone[:LONGEST]}
        # the machine that logs, and its load, say nothing of the run
        quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
        with wandb.init(**about, dir=str(root), reinit="create_new", save_code=False, settings=quiet) as run:
            run.define_metric("ratio")
            for metric in dict.fromkeys(own.metric):
                run.define_metric(metric, step_metric="ratio")
                run.define_metric(f"{metric}/*", step_metric="ratio")
            for ratio, figures in steps(own):
                run.log(figures | {"ratio": ratio})
            if files:
                said = [f"{unquote(path.stem)}, ratio {path.parent.name}" for path in files]
                pictures = [wandb.Image(str(path), caption=text) for path, text in zip(files, said, strict=True)]
                run.log({"samples": pictures})
            run.summary["n"] = int(own.n.max())
            return Path(run.dir).parent


@contextmanager
def surroundings(wandb: Any, root: Path, online: bool) -> Iterator[None]:
    """Keep the files of wandb inside a run directory, and its messages to itself, for a while.

    wandb reads its variables when its service starts, so there is one service for each run directory. Where the
    program has a run of its own open, its service is left alone, and that has its logs where they were.
    """
    paths = {name: str((root / folder).resolve()) for name, folder in FOLDERS.items()}
    if online:
        del paths["WANDB_CONFIG_DIR"]  # wandb only reads there, and the user's own server may be noted there
    before = {name: os.environ.get(name) for name in (*paths, "WANDB_SILENT")}
    alone = wandb.run is None
    try:
        if alone:
            wandb.teardown()
        os.environ.update(paths | {"WANDB_SILENT": "true"})
        yield
    finally:
        for name in before:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
        if alone:
            wandb.teardown()


def check_online(wandb: Any) -> None:
    """Refuse at once what wandb would wait or ask for: no network, no key."""
    url = wandb.setup().settings.base_url
    if not answers(url):
        advice = "use logger.mode=offline, then `wandb sync <folder>` from a machine with a network"
        raise ConnectionError(f"wandb: no answer from {url}: {advice}")
    if not wandb.login(prompt=False, verify=False):
        advice = "run `wandb login` once or set WANDB_API_KEY; or use logger.mode=offline"
        raise PermissionError(f"wandb: no API key for {url}: {advice}")


def answers(url: str, seconds: float = PATIENCE) -> bool:
    """Whether a server answers, through the proxy where one is set; whatever it says will do."""
    found = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=seconds):
                found.append(True)
        except HTTPError:
            found.append(True)
        except URLError as error:
            found.append(isinstance(error.reason, ssl.SSLError))  # certificates are for wandb to judge
        except (OSError, HTTPException):
            found.append(False)

    thread = Thread(target=ask, daemon=True)  # the look-up of a name takes no time limit
    thread.start()
    thread.join(seconds)
    return found == [True]


def samples_of(root: Path, count: int) -> list[Path]:
    """The pictures of the first requests of a run at its largest ratio; fewer where there are fewer."""
    ratios = sorted((path for path in root.glob("images/*") if path.is_dir()), key=lambda path: float(path.name))
    return sorted(ratios[-1].glob("*.png"), key=lambda path: unquote(path.stem))[:count] if ratios else []


def imported(module: str, package: str) -> ModuleType:
    """A module that only its logger needs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"this logger needs {package}: pip install {package}; or use logger=none") from error


def place(own: pd.DataFrame) -> tuple[str, str, str, str]:
    """Benchmark, backbone, editor and name of one run."""
    first = own.iloc[0]
    return first.benchmark, first.backbone, first.editor, first["name"]


def steps(own: pd.DataFrame) -> Iterator[tuple[float, dict[str, float]]]:
    """(ratio, figures with their intervals) of one run, from the smallest ratio on, without what is not defined."""
    for ratio, part in own.groupby("ratio"):
        figures = {}
        for name, value, low, high in zip(part.metric, part.value, part.low, part.high, strict=True):
            figures |= {name: value, f"{name}/low": low, f"{name}/high": high}
        yield float(ratio), {name: float(value) for name, value in figures.items() if pd.notna(value)}


def percent(ratio: float) -> int:
    """The ratio as a step."""
    return round(100 * ratio)


def hashes(files: Sequence[Path]) -> list[list[str]]:
    """Ratio, name and content of pictures."""
    return [[path.parent.name, path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]


def digest(told: Any) -> str:
    """A short name for some plain data."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
