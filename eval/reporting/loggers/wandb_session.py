"""A run of wandb while it is open: where its files lie, and what was sent of it before, so that it is resumed.

A run is begun with `resume="allow"`. Online, wandb asks the server where it stands and goes on from there. Offline,
each call opens another folder, `offline-run-<time>-<id>`, of the same id, and `wandb sync` asks the server as `init`
would: what is in the folder is appended (tried with 0.31, whose `sync` has no `--append` any more). So in either mode
only that is logged which the run does not have yet.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diffedit.io.files import write

log = logging.getLogger(__name__)

Thing = tuple[str, Callable[..., Any]]  # what tells its content; what makes it, given the module

MARKER = "logged.json"
FOLDERS = {
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_DATA_DIR": "wandb/data",
    "WANDB_ARTIFACT_DIR": "wandb/artifacts",
    "WANDB_CONFIG_DIR": "wandb/config",
    "WANDB_DIR": ".",
}
OFFLINE = "use logger.mode=offline, then `wandb sync <folder>` from a machine with a network"


@dataclass
class Note:
    """What was logged from a folder, as <folder>/wandb/logged.json has it.

    Attributes:
        id: of the run of wandb.
        place: where the folder lay: a copy of it elsewhere is another run.
        where: project and entity.
        key: names all that was to be logged; None: that call did not come to its end.
        offline: folders of wandb with a part of it, below <folder>/wandb.
        sent: of each thing that was logged, its value, or what tells its content.
    """

    id: str
    place: list[str]
    where: list[str | None]
    key: str | None = None
    offline: list[str] = field(default_factory=list)
    sent: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, place: list[str]) -> "Note | None":
        """That of a folder; None where there is none, of another place, or of another release."""
        path = root / "wandb" / MARKER
        try:
            note = cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s: not read (%s): all is logged again", path, error)
            return None
        return note if note.place == place else None

    def write(self, root: Path) -> None:
        """Keep it."""
        write(root / "wandb" / MARKER, json.dumps(asdict(self), indent=1).encode())

    def is_whole(self, root: Path) -> bool:
        """Whether what was logged is still to be had: a folder may be gone before it was sent."""
        return all((root / "wandb" / name).is_dir() for name in self.offline)

    def refuse_unsent(self, root: Path) -> None:
        """Refuse to go on online where a part lies in folders: sent later, it would stand behind what is newer."""
        folders = [root / "wandb" / name for name in self.offline]
        unsent = [str(folder) for folder in folders if folder.is_dir() and not any(folder.glob("*.wandb.synced"))]
        if unsent:
            raise ValueError(
                f"logger.mode = online: {unsent[0]} of the same run was logged offline and is not sent: "
                f"`wandb sync '{unsent[0]}'` first, or remove that folder"
            )


class Point(NamedTuple):
    """A place on the x axis of curves."""

    axis: str
    place: float


@dataclass(frozen=True)
class Content:
    """What is to be in a run of wandb.

    Attributes:
        points: scores by name, at each point of the axis.
        things: tables, charts and the like, by name.
        summary: numbers of the whole run.
        artifacts: files, by what they are noted as; made of the module and the run's id.
    """

    points: Mapping[Point, Mapping[str, float]]
    things: Mapping[str, Thing]
    summary: Mapping[str, float]
    artifacts: Mapping[str, Thing] = field(default_factory=dict)

    def is_in(self, sent: Mapping[str, Any]) -> bool:
        """Whether all of it was sent."""
        stamps = {key: stamp for key, (stamp, _) in [*self.things.items(), *self.artifacts.items()]}
        for point, values in self.points.items():
            stamps |= {name_value(point, key): value for key, value in values.items()}
        return all(sent.get(key) == stamp for key, stamp in stamps.items())


def name_value(point: Point, key: str) -> str:
    """What a score is noted as."""
    return f"{key} at {point.axis}={point.place!r}"


class Session:
    """A run of wandb that is open: what is sent is noted, and not sent again."""

    def __init__(self, wandb: Any, run: Any, sent: dict[str, Any]) -> None:
        self.wandb, self.run, self.sent = wandb, run, sent

    @property
    def folder(self) -> Path:
        """Of this run, or part of a run."""
        return Path(self.run.dir).parent

    def send(self, content: Content) -> None:
        """Send what the run does not have: points one by one, then the rest."""
        for axis in dict.fromkeys(point.axis for point in content.points):
            self.define_axis(axis, dict.fromkeys(key for values in content.points.values() for key in values))
        for point, values in content.points.items():
            self.send_point(point, values)
        new = self.find_new(content.things)
        if new:
            self.run.log({key: make(self.wandb) for key, (_, make) in new.items()})
            self.note(new)
        for key, thing in self.find_new(content.artifacts).items():
            self.run.log_artifact(thing[1](self.wandb, self.run.id))
            self.note({key: thing})
        last = list(content.points.values())[-1] if content.points else {}  # resumed, another may have been sent last
        self.run.summary.update({**last, **content.summary})

    def define_axis(self, axis: str, names: Iterable[str]) -> None:
        """What is on the x axis of scores, and of what stands below their names."""
        self.run.define_metric(axis)
        for name in names:
            if "/" not in name:
                self.run.define_metric(name, step_metric=axis)
                self.run.define_metric(f"{name}/*", step_metric=axis)

    def send_point(self, point: Point, values: Mapping[str, float]) -> None:
        """Those scores at a point that are new."""
        new = {key: value for key, value in values.items() if self.sent.get(name_value(point, key)) != value}
        if new:
            self.run.log(new | {point.axis: point.place})
            self.sent.update({name_value(point, key): value for key, value in new.items()})

    def find_new(self, things: Mapping[str, Thing]) -> dict[str, Thing]:
        """Those that were not sent as they are."""
        return {key: thing for key, thing in things.items() if self.sent.get(key) != thing[0]}

    def note(self, things: Mapping[str, Thing]) -> None:
        """That these are sent."""
        self.sent.update({key: stamp for key, (stamp, _) in things.items()})


@contextmanager
def open_session(
    wandb: Any, root: Path, note: Note, mode: str, timeout: float, about: Mapping[str, Any]
) -> Iterator[Session]:
    """A run of wandb, new or resumed; it is finished, and what was sent is noted, also where something goes wrong.

    Args:
        wandb: the module.
        root: below which the files of wandb lie.
        note: of the run, with what was sent of it; its key is kept where all has gone well.
        mode: `online` or `offline`.
        timeout: seconds that the server has to answer.
        about: what `wandb.init` is told beside that.

    Raises:
        PermissionError: `online`, and no API key is configured.
        ConnectionError: `online`, and no server answers.
    """
    key, note.key = note.key, None
    with isolate_wandb(wandb, root, mode == "online"):
        if mode == "online":
            check_login(wandb)
        run = begin(wandb, root, note, mode, timeout, about)
        if mode == "offline":
            note.offline.append(Path(run.dir).parent.name)
        elif not run.resumed:  # the server has no such run, or none any more
            note.sent.clear()
        try:
            with run:
                yield Session(wandb, run, note.sent)
            note.key = key
        finally:
            note.write(root)


def begin(wandb: Any, root: Path, note: Note, mode: str, timeout: float, about: Mapping[str, Any]) -> Any:
    """A run of wandb; a ConnectionError that says what to do where its server gives none in time."""
    # the machine that logs, and its load, say nothing of the run
    quiet = {"silent": True, "console": "off", "x_disable_stats": True, "x_disable_meta": True}
    project, entity = note.where
    try:
        return wandb.init(
            project=project,
            entity=entity,
            mode=mode,
            id=note.id,
            resume="allow",
            dir=str(root),
            reinit="create_new",
            save_code=False,
            settings=wandb.Settings(init_timeout=timeout, **quiet),
            **about,
        )
    except wandb.errors.CommError as error:
        reason = str(error).partition("\n")[0]
        advice = f"{OFFLINE}; or raise logger.timeout (seconds)"
        raise ConnectionError(f"wandb: no run from {wandb.setup().settings.base_url} ({reason}): {advice}") from error


@contextmanager
def isolate_wandb(wandb: Any, root: Path, online: bool) -> Iterator[None]:
    """Keep the files of wandb inside a folder, and its messages to itself, for a while.

    wandb reads its variables when its service starts, so there is one service for each folder. Where the program has a
    run of its own open, its service is left alone, and that has its logs where they were.
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
