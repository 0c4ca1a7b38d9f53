"""Weights & Biases: a run there for each run directory, and for each report."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from annotated_types import Ge, Gt, Len

from diffedit.io.checks import settings
from diffedit.runs.directory import flatten, is_below
from diffedit.runs.names import RUNTIME_KEYS
from eval.reporting.loggers.logger import hash_plain, import_module, iterate_strengths, read_place
from eval.reporting.loggers.wandb_session import Content, Note, Point, Thing, open_session
from eval.reporting.loggers.wandb_table import PictureTable
from eval.reporting.report.files import hash_page, list_page
from eval.scoring.files import PLACE, name_place
from eval.scoring.finished_run import FinishedRun

LONGEST = 128  # characters of a name, group or job type that the server takes
LONGEST_TAG = 64
NO_PROJECT = "/\\#?%:"  # characters that a project's name may not have
# Of a config, what decides no result, or grows with a run
NO_IDENTITY = (
    *RUNTIME_KEYS,
    "engine.batch",
    "format",
    "ratios",
    *(f"benchmark.{key}" for key in ("size", "per_class", "limit")),
)

Text = Annotated[str, Len(1, LONGEST)]
Tag = Annotated[str, Len(1, LONGEST_TAG)]


@settings
class Wandb:
    """Weights & Biases: a run there for each run directory, that is for each editor, benchmark and set of overrides.

    Curves have the strength (the encoding ratio) as their x axis: `<metric>`, `<metric>/low`, `<metric>/high`; the
    trade-off of two metrics is a custom chart. The table `edits` has a row for each request and strength. All files
    stay in <run>/wandb, also those that wandb would put into the home folder. The user's own settings of wandb (the
    server that `wandb login --host` noted) count only online.

    A run directory stays the same run of wandb: its id is made from its place (benchmark, backbone, editor, name) and
    its config, and <run>/wandb/logged.json keeps it where the run grows. What was logged is not logged again; where
    something has changed, that alone is logged into the same run, offline in another folder of its id.

    Attributes:
        project: its name on the server.
        entity: user or team; None takes the default of the account.
        mode: `offline` writes folders for `wandb sync`; `online` sends at once; `disabled` does nothing.
        group: None: the `experiment` of the run, else its benchmark.
        job_type: None: `edit`; of a page, `report`.
        name: None: the editor, and what was overridden.
        tags: None: benchmark, backbone, editor, experiment, and `bound` for a floor or ceiling.
        notes: a sentence on the run.
        samples: requests in the table, evenly chosen.
        x: metrics on the x axis of the charts.
        y: ... and on the y axis; a chart for each pair that is scored.
        chart: Vega-Lite preset of the charts; it is given the fields x, y, stroke, low, high.
        timeout: seconds that the server has to answer, online.
    """

    project: Text = "diffedit"
    entity: str | None = None
    mode: Literal["offline", "online", "disabled"] = "offline"
    group: Text | None = None
    job_type: Text | None = None
    name: Text | None = None
    tags: tuple[Tag, ...] | None = None
    notes: str | None = None
    samples: Annotated[int, Ge(0)] = 8
    x: tuple[str, ...] = ("lpips",)
    y: tuple[str, ...] = ("accuracy", "clip_score", "csfid", "fid")
    chart: str = "wandb/line/v0"
    timeout: Annotated[float, Gt(0)] = 4.0

    def __post_init__(self) -> None:
        if set(self.project) & set(NO_PROJECT):
            raise ValueError(f"Wandb: project = {self.project!r}: a name without {' '.join(NO_PROJECT)}")

    def log(self, scores: pd.DataFrame) -> list[Path]:
        """Log the runs that have changed; returns their folders, those to sync.

        Raises:
            ImportError: wandb is not installed.
            ConnectionError: `online`, and no server answers.
            PermissionError: `online`, and no API key is configured.
        """
        if self.mode == "disabled":
            return []
        return [
            folder
            for root, part in scores.groupby("run", sort=False)
            for folder in self.log_run(FinishedRun(Path(root)), part)
        ]

    def log_run(self, run: FinishedRun, scores: pd.DataFrame) -> list[Path]:
        """Log one run, if it has changed."""
        place = read_place(scores)
        benchmark, backbone, editor, overrides = place
        found = re.search(r"(?:^|,)experiment=([^,]+)", overrides)
        experiment = [found[1]] if found else []
        bound = ["bound"] if run.config["is_bound"] else []
        about = self.describe(
            name=editor if overrides == "default" else f"{editor} {overrides}",
            group=[*experiment, benchmark][0],
            job_type="edit",
            tags=[benchmark, backbone, editor, *experiment, *bound],
            config=run.config | {"place": dict(zip(PLACE, place, strict=True))},
        )
        things = dict(self.draw_charts(scores))
        if (table := PictureTable(run, self.samples)).requests:
            things["edits"] = table.stamp, table.build
        points = {Point(table.axis, strength): values for strength, values in iterate_strengths(scores)}
        identity = {key: value for key, value in flatten(run.config).items() if not is_below(key, NO_IDENTITY)}
        content = Content(points, things, {"n": int(scores.n.max())})
        return self.send(run.root, place, identity, content, about)

    def log_page(self, path: Path, roots: Sequence[Path], settings: dict[str, Any]) -> list[Path]:
        """Log a page as an artifact; one that is a single file can be looked at on the server, too.

        Raises:
            As `log`.
        """
        if self.mode == "disabled":
            return []
        places = [name_place(root) for root in roots]
        names = ["/".join(place.values()) for place in places]
        kinds = [sorted({place[kind] for place in places}) for kind in ("benchmark", "backbone", "editor")]
        about = self.describe(
            name=f"report of {len(roots)} runs",
            group=kinds[0][0] if len(kinds[0]) == 1 else "reports",
            job_type="report",
            tags=["report", *chain(*kinds)],
            config={"runs": names, "report": settings},
        )
        root = path.parent if path.name == "index.html" else path.with_suffix("")
        stamp = hash_page(path)
        shown = {} if path.name == "index.html" else {"report": (stamp, partial(show_page, path=path))}
        # offline a page may be written again before it is sent: a copy is sent then
        policy = "immutable" if self.mode == "online" else "mutable"
        content = Content({}, shown, {}, {"page": (stamp, partial(make_artifact, path=path, policy=policy))})
        return self.send(root, ["report", *sorted(names)], "report", content, about)

    def describe(self, tags: Sequence[str], config: Mapping[str, Any], **about: str) -> dict[str, Any]:
        """What `wandb.init` is told of a run: as set, else as given, cut to what the server takes."""
        texts = {key: getattr(self, key) or make_text(text)[:LONGEST] for key, text in about.items()}
        own = dict.fromkeys(make_text(tag)[:LONGEST_TAG] for tag in tags if tag)
        return texts | {"tags": list(own if self.tags is None else self.tags), "notes": self.notes, "config": config}

    def send(
        self, root: Path, place: list[str], identity: Any, content: Content, about: Mapping[str, Any]
    ) -> list[Path]:
        """Send to a run of wandb what it does not have; returns its folder, none where it has all.

        Args:
            root: below which the files of wandb lie.
            place: names what is logged.
            identity: what beside it makes it another run of wandb.
            content: what is to be there.
            about: what `wandb.init` is told.
        """
        note, where, key = Note.read(root, place), [self.project, self.entity], hash_plain(about)
        if note is None or note.where != where or not note.is_whole(root):
            note = Note(note.id if note else hash_plain([place, identity]), place, where)
        if self.mode == "online":
            note.refuse_unsent(root)
        if note.key == key and content.is_in(note.sent):
            return []
        wandb, note.key = import_module("wandb", "wandb"), key
        with open_session(wandb, root, note, self.mode, self.timeout, about) as session:
            session.send(content)
        return [session.folder]

    def draw_charts(self, scores: pd.DataFrame) -> Iterator[tuple[str, Thing]]:
        """(name, chart) of each pair of metrics that has a curve."""
        points = dict(iterate_strengths(scores))
        for x, y in ((x, y) for x in self.x for y in self.y if x != y):
            columns = [x, y, f"{y}/low", f"{y}/high"]
            both = {strength: values for strength, values in points.items() if x in values and y in values}
            rows = [[strength, *(values.get(name) for name in columns)] for strength, values in both.items()]
            if len(rows) > 1:
                make = partial(draw_chart, preset=self.chart, x=x, y=y, rows=rows)
                yield f"curves/{y} over {x}", (hash_plain([rows, self.chart]), make)


def draw_chart(wandb: Any, preset: str, x: str, y: str, rows: list[list[float | None]]) -> Any:
    """A custom chart."""
    table = wandb.Table(columns=["strength", x, y, "low", "high"], data=rows)
    fields = {"x": x, "y": y, "stroke": None, "low": "low", "high": "high"}
    return wandb.plot_table(preset, table, fields, {"title": f"{y} over {x}"})


def show_page(wandb: Any, path: Path) -> Any:
    """A page of one file, to be looked at."""
    return wandb.Html(str(path), inject=False)


def make_artifact(wandb: Any, run_id: str, path: Path, policy: str) -> Any:
    """The files of a page as an artifact."""
    artifact = wandb.Artifact(f"report-{run_id}", type="report")
    for name, file in list_page(path).items():
        artifact.add_file(str(file), name=name, policy=policy, skip_cache=True)
    return artifact


def make_text(text: str) -> str:
    """A text that can be sent: a path may hold bytes that are none."""
    return text.encode("utf-8", "replace").decode()
