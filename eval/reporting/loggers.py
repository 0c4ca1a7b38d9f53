"""Loggers: scores and pictures for dashboards. Sinks that are fed once from the tables; nothing reads them back."""

import hashlib
import importlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable
from urllib.parse import unquote

import numpy as np
import pandas as pd
from annotated_types import Ge, Gt
from omegaconf import OmegaConf

from diffedit.io.checks import settings
from diffedit.io.files import write
from diffedit.io.images import open_image
from diffedit.types import Variant
from eval.scoring.files import PLACE

log = logging.getLogger(__name__)

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
OFFLINE = "use logger.mode=offline, then `wandb sync <folder>` from a machine with a network"


@runtime_checkable
class Logger(Protocol):
    """Shows what was scored elsewhere."""

    samples: int  # pictures of a run that it shows, at most

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        """Log every run of a table; returns the folders that were written now.

        Args:
            scores: as `eval.reporting.collect.collect` returns it; the column `run` has directories with a config.yaml.
            samples: by run, a few of its pictures (images/<variant>/<id>.png).
        """


@dataclass(frozen=True)
class NoLogger:
    """Logs nothing."""

    samples: ClassVar[int] = 0

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        return []


@dataclass(frozen=True)
class Tensorboard:
    """Event files: a log directory for each run, replaced at every call.

    Scalars are `<metric>`, `<metric>/low` and `<metric>/high`, which TensorBoard shows in one group. A step must be an
    integer there, so it is the strength (the encoding ratio) in percent. Pictures are `samples/<id>`, the config is a
    text.

    Attributes:
        samples: pictures of a run, at most.
        folder: log directories are <folder>/<benchmark>/<backbone>/<editor>/<name>; None: <run>/tensorboard.
    """

    samples: Annotated[int, Ge(0)] = 8
    folder: str | None = None

    def log(self, scores: pd.DataFrame, samples: Mapping[str, Sequence[Path]]) -> list[Path]:
        """Write the event files of every run; returns the log directories.

        Raises:
            ImportError: TensorBoard is not installed.
        """
        writer = import_module("torch.utils.tensorboard", "tensorboard").SummaryWriter
        folders = []
        for run, part in scores.groupby("run", sort=False):
            folder = Path(run) / "tensorboard"
            if self.folder is not None:
                folder = Path(self.folder, *read_place(part))
            for old in folder.glob(f"*tfevents*{SUFFIX}"):
                old.unlink()
            with writer(str(folder), filename_suffix=SUFFIX) as events:
                write_events(events, Path(run), part, samples.get(run, ())[: self.samples])
            folders.append(folder)
        return folders


def write_events(events: Any, root: Path, scores: pd.DataFrame, pictures: Sequence[Path]) -> None:
    """One run into a SummaryWriter."""
    if scores.strength.nunique() > len({to_percent(strength) for strength in scores.strength.dropna()}):
        log.warning("%s: TensorBoard counts strengths in percent, and some fall together", root)
    for strength, values in iterate_strengths(scores):
        for name, value in values.items():
            events.add_scalar(name, value, to_percent(strength))
    for path in pictures:
        with open_image(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        step = to_percent(read_variant(path.parent).strength)
        events.add_image(f"samples/{unquote(path.stem)}", pixels, step, dataformats="HWC")
    events.add_text("config", f"```yaml\n{(root / 'config.yaml').read_text()}\n```")


@settings
class Wandb:
    """Weights & Biases: a run there for each run directory, that is for each editor, benchmark and set of overrides.

    Curves have the strength (the encoding ratio) as their x axis: `<metric>`, `<metric>/low`, `<metric>/high`. The
    group is the benchmark and the job type the backbone. All files stay in <run>/wandb, also those that wandb would put
    into the home folder. The user's own settings of wandb (the server that `wandb login --host` noted) count only
    online.

    What was logged is not logged again: <run>/wandb/logged.json names it. Where scores, pictures, config or settings
    have changed, there is a new run, as wandb cannot resume one offline; the older one stays. A run's id is made from
    its content and its place (benchmark, backbone, editor, name): the same content, logged or synced from anywhere, is
    the same run on the server.

    Attributes:
        project: its name on the server.
        entity: user or team; None takes the default of the account.
        mode: `offline` writes folders for `wandb sync`; `online` sends at once; `disabled` does nothing.
        samples: pictures of a run, at most.
        timeout: seconds that the server has to answer, online.
    """

    project: str = "diffedit"
    entity: str | None = None
    mode: Literal["offline", "online", "disabled"] = "offline"
    samples: Annotated[int, Ge(0)] = 8
    timeout: Annotated[float, Gt(0)] = 4.0

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
        for run, part in scores.groupby("run", sort=False):
            root = Path(run)
            pictures = samples.get(run, ())[: self.samples]
            config = OmegaConf.to_container(OmegaConf.load(root / "config.yaml"))
            content = [read_place(part), list(iterate_strengths(part)), int(part.n.max()), config, hash_files(pictures)]
            run_id = hash_plain(content)
            key = hash_plain([run_id, self.project, self.entity, self.mode])
            if self.read_key(root / "wandb") == key:
                continue
            wandb = import_module("wandb", "wandb")
            with isolate_wandb(wandb, root, self.mode == "online"):
                if self.mode == "online":
                    check_login(wandb)
                folders.append(self.send(wandb, root, run_id, part, config, pictures))
            record = {"key": key, "id": run_id, "folder": folders[-1].name}
            write(root / "wandb" / MARKER, json.dumps(record, indent=1).encode())
        return folders

    def read_key(self, folder: Path) -> str | None:
        """The key of what was logged; None where its folder is gone before it was sent."""
        path = folder / MARKER
        if not path.is_file():
            return None
        record = json.loads(path.read_bytes())
        return record["key"] if self.mode == "online" or (folder / record["folder"]).is_dir() else None

    def send(
        self, wandb: Any, root: Path, run_id: str, scores: pd.DataFrame, config: Any, pictures: Sequence[Path]
    ) -> Path:
        """One run; returns its folder. It is finished also where something goes wrong."""
        with self.begin(wandb, root, run_id, scores, config) as run:
            axis = Variant.parse(scores.variant.iloc[0]).name
            run.define_metric(axis)
            for metric in dict.fromkeys(scores.metric):
                run.define_metric(metric, step_metric=axis)
                run.define_metric(f"{metric}/*", step_metric=axis)
            for strength, values in iterate_strengths(scores):
                run.log(values | {axis: strength})
            if pictures:
                captions = [f"{unquote(path.stem)}, {read_variant(path.parent)}" for path in pictures]
                images = [wandb.Image(str(path), caption=text) for path, text in zip(pictures, captions, strict=True)]
                run.log({"samples": images})
            run.summary["n"] = int(scores.n.max())
            return Path(run.dir).parent

    def begin(self, wandb: Any, root: Path, run_id: str, scores: pd.DataFrame, config: Any) -> Any:
        """A run of wandb; a ConnectionError that says what to do where its server gives none in time."""
        benchmark, backbone, editor, overrides = read_place(scores)
        title = editor if overrides == "default" else f"{editor} {overrides}"
        # the machine that logs, and its load, say nothing of the run
        quiet = {"silent": True, "console": "off", "x_disable_stats": True, "x_disable_meta": True}
        try:
            return wandb.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                id=run_id,
                config=config,
                name=title[:LONGEST],
                group=benchmark[:LONGEST],
                job_type=backbone[:LONGEST],
                dir=str(root),
                reinit="create_new",
                save_code=False,
                settings=wandb.Settings(init_timeout=self.timeout, **quiet),
            )
        except wandb.errors.CommError as error:
            reason = str(error).partition("\n")[0]
            advice = f"{OFFLINE}; or raise logger.timeout (seconds)"
            raise ConnectionError(
                f"wandb: no run from {wandb.setup().settings.base_url} ({reason}): {advice}"
            ) from error


@contextmanager
def isolate_wandb(wandb: Any, root: Path, online: bool) -> Iterator[None]:
    """Keep the files of wandb inside a run directory, and its messages to itself, for a while.

    wandb reads its variables when its service starts, so there is one service for each run directory. Where the
    program has a run of its own open, its service is left alone, and that has its logs where they were.
    """
    variables = {name: str((root / folder).resolve()) for name, folder in FOLDERS.items()}
    if online:
        del variables["WANDB_CONFIG_DIR"]  # wandb only reads there, and the user's own server may be noted there
    before = {name: os.environ.get(name) for name in (*variables, "WANDB_SILENT")}
    is_alone = wandb.run is None
    try:
        if is_alone:
            wandb.teardown()
        os.environ.update(variables | {"WANDB_SILENT": "true"})
        yield
    finally:
        for name in before:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
        if is_alone:
            wandb.teardown()


def check_login(wandb: Any) -> None:
    """Refuse at once what wandb would ask for: a key."""
    if not wandb.login(prompt=False, verify=False):
        advice = "run `wandb login` once or set WANDB_API_KEY; or use logger.mode=offline"
        raise PermissionError(f"wandb: no API key for {wandb.setup().settings.base_url}: {advice}")


def pick_samples(root: Path, count: int) -> list[Path]:
    """The pictures of the first requests of a run at its largest strength; fewer where there are fewer."""
    folders = [path for path in root.glob("images/*") if path.is_dir()]
    if not folders:
        return []
    strongest = max(folders, key=lambda folder: read_variant(folder).strength)
    return sorted(strongest.glob("*.png"), key=lambda path: unquote(path.stem))[:count]


def read_variant(folder: Path) -> Variant:
    """The variant whose pictures are in a folder of a run (`Variant.folder`)."""
    return Variant.parse(folder.name if "=" in folder.name else f"ratio={folder.name}")


def import_module(module: str, package: str) -> ModuleType:
    """A module that only its logger needs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'this logger needs {package}: pip install "diffedit[{package}]"; or use logger=none'
        ) from error


def read_place(scores: pd.DataFrame) -> list[str]:
    """Benchmark, backbone, editor and name of one run."""
    return [scores[column].iloc[0] for column in PLACE]


def iterate_strengths(scores: pd.DataFrame) -> Iterator[tuple[float, dict[str, float]]]:
    """(strength, scores with their intervals) of one run, from the smallest on, without what is not defined."""
    for strength, part in scores.groupby("strength"):
        values = {}
        for name, value, low, high in zip(part.metric, part.value, part.low, part.high, strict=True):
            values |= {name: value, f"{name}/low": low, f"{name}/high": high}
        yield float(strength), {name: float(value) for name, value in values.items() if pd.notna(value)}


def to_percent(strength: float) -> int:
    """The strength as a step."""
    return round(100 * strength)


def hash_files(paths: Sequence[Path]) -> list[list[str]]:
    """Folder, name and content of pictures."""
    return [[path.parent.name, path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in paths]


def hash_plain(content: Any) -> str:
    """A short name for some plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
