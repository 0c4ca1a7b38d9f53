"""TensorBoard: event files of scores, pictures, the config, and HParams."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
from annotated_types import Ge

from diffedit.io.images import open_image
from diffedit.runs.directory import flatten, is_below
from diffedit.runs.names import RUNTIME_KEYS
from diffedit.types import Variant
from eval.reporting.loggers.logger import import_module, iterate_strengths, read_place
from eval.scoring.files import PLACE
from eval.scoring.finished_run import read_config

log = logging.getLogger(__name__)

SUFFIX = ".diffedit"  # of our event files: a folder may hold others


@dataclass(frozen=True)
class Tensorboard:
    """Event files: a log directory for each run, replaced at every call.

    Scalars are `<metric>`, `<metric>/low` and `<metric>/high`, which TensorBoard shows in one group. A step must be an
    integer there, so it is the strength (the encoding ratio) in percent. Pictures are `samples/<id>`, the config is a
    text. HParams has a row for each run: the settings that decide a result, and each metric at each strength as
    `ratio=0.5/<metric>`.

    Attributes:
        samples: pictures of a run, at most.
        folder: log directories are <folder>/<benchmark>/<backbone>/<editor>/<name>; None: <run>/tensorboard.
    """

    samples: Annotated[int, Ge(0)] = 8
    folder: str | None = None

    def log(self, scores: pd.DataFrame) -> list[Path]:
        """Write the event files of every run; returns the log directories.

        Raises:
            ImportError: TensorBoard is not installed.
        """
        writer = import_module("torch.utils.tensorboard", "tensorboard").SummaryWriter
        folders = []
        for run, part in scores.groupby("run", sort=False):
            root, place = Path(run), read_place(part)
            folder = root / "tensorboard" if self.folder is None else Path(self.folder, *place)
            for old in folder.glob(f"*tfevents*{SUFFIX}"):
                old.unlink()
            with writer(str(folder), filename_suffix=SUFFIX) as events:
                write_events(events, root, part, pick_samples(root, self.samples))
                write_hparams(events, place, read_config(root), part)
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


def write_hparams(events: Any, place: Sequence[str], config: Mapping[str, Any], scores: pd.DataFrame) -> None:
    """A row of HParams, into the same event file.

    `SummaryWriter.add_hparams` would open another log directory, and write there which settings and metrics there are:
    TensorBoard believes the first run that says so, and shows no others. Where none does, it joins those of all runs.
    """
    make = import_module("tensorboard.plugins.hparams.summary_v2", "tensorboard").hparams_pb  # .api needs TensorFlow
    _, _, end = import_module("torch.utils.tensorboard.summary", "tensorboard").hparams({}, {})
    for variant, metric, value in zip(scores.variant, scores.metric, scores.value, strict=True):
        if pd.notna(value):
            events.add_scalar(f"{variant}/{metric}", value)
    events.file_writer.add_summary(make(list_hparams(place, config), trial_id="/".join(place)))
    events.file_writer.add_summary(end)  # its status: a success


def list_hparams(place: Sequence[str], config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Where a run lies, and the settings that decide its result; those alone that are one value, as a column has it."""
    deciding = {key: value for key, value in flatten(config).items() if not is_below(key, RUNTIME_KEYS)}
    settings = dict(zip(PLACE, place, strict=True)) | deciding
    return {key: value for key, value in settings.items() if isinstance(value, bool | int | float | str)}


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


def to_percent(strength: float) -> int:
    """The strength as a step."""
    return round(100 * strength)
