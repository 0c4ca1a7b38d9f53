"""Weights & Biases: a run there for each run directory, and for each report."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from eval.reporting.loggers.wandb_session import Note, Session, open_session
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
        table = PictureTable(run, self.samples)
        content = [list(iterate_strengths(scores)), int(scores.n.max()), table.stamp]
        identity = {key: value for key, value in flatten(run.config).items() if not is_below(key, NO_IDENTITY)}
        return self.send(run.root, place, identity, content, about, partial(self.fill, scores=scores, table=table))

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
        fill = partial(self.fill_page, path=path, mode=self.mode)
        return self.send(root, ["report", *sorted(names)], "report", hash_page(path), about, fill)

    def describe(self, tags: Sequence[str], config: Mapping[str, Any], **about: str) -> dict[str, Any]:
        """What `wandb.init` is told of a run: as set, else as given, cut to what the server takes."""
        texts = {key: getattr(self, key) or make_text(text)[:LONGEST] for key, text in about.items()}
        own = dict.fromkeys(make_text(tag)[:LONGEST_TAG] for tag in tags if tag)
        return texts | {"tags": list(own if self.tags is None else self.tags), "notes": self.notes, "config": config}

    def send(
        self,
        root: Path,
        place: list[str],
        identity: Any,
        content: Any,
        about: Mapping[str, Any],
        fill: Callable[[Any, Session], None],
    ) -> list[Path]:
        """Fill a run of wandb, unless all of it was logged; returns its folder.

        Args:
            root: below which the files of wandb lie.
            place: names what is logged.
            identity: what beside it makes it another run of wandb.
            content: tells what is logged.
            about: what `wandb.init` is told.
            fill: is given the module and the session.
        """
        note, where = Note.read(root, place), [self.project, self.entity]
        key = hash_plain([content, about, self.x, self.y, self.chart])
        if note is None or note.where != where or not note.is_whole(root):
            note = Note(note.id if note else hash_plain([place, identity]), place, where)
        if self.mode == "online":
            note.refuse_unsent(root)
        if note.key == key:
            return []
        wandb, note.key = import_module("wandb", "wandb"), key
        with open_session(wandb, root, note, self.mode, self.timeout, about) as session:
            fill(wandb, session)
            folder = Path(session.run.dir).parent
        return [folder]

    def fill(self, wandb: Any, session: Session, scores: pd.DataFrame, table: PictureTable) -> None:
        """The scores of one run, its charts and its table of pictures."""
        points = list(iterate_strengths(scores))
        session.run.define_metric(table.axis)
        for metric in dict.fromkeys(scores.metric):
            session.run.define_metric(metric, step_metric=table.axis)
            session.run.define_metric(f"{metric}/*", step_metric=table.axis)
        for strength, values in points:
            session.send_point({table.axis: strength}, values)
        things = {name: (hash_plain([rows, self.chart]), make) for name, rows, make in self.draw_charts(wandb, scores)}
        if table.requests:
            things["edits"] = table.stamp, partial(table.build, wandb)
        session.send(things)
        last = points[-1][1] if points else {}  # a resumed run may have logged another one last
        session.run.summary.update(last | {"n": int(scores.n.max())})

    def draw_charts(self, wandb: Any, scores: pd.DataFrame) -> Iterator[tuple[str, list[list[float]], Any]]:
        """(name, rows, what makes it) of a chart for each pair of metrics that has a curve."""
        points = dict(iterate_strengths(scores))
        for x, y in ((x, y) for x in self.x for y in self.y if x != y):
            columns = [x, y, f"{y}/low", f"{y}/high"]
            both = {strength: values for strength, values in points.items() if x in values and y in values}
            rows = [[strength, *(values.get(name) for name in columns)] for strength, values in both.items()]
            if len(rows) > 1:
                yield f"curves/{y} over {x}", rows, partial(self.draw_chart, wandb, x, y, rows)

    def draw_chart(self, wandb: Any, x: str, y: str, rows: list[list[float]]) -> Any:
        """One chart."""
        table = wandb.Table(columns=["strength", x, y, "low", "high"], data=rows)
        fields = {"x": x, "y": y, "stroke": None, "low": "low", "high": "high"}
        return wandb.plot_table(self.chart, table, fields, {"title": f"{y} over {x}"})

    @staticmethod
    def fill_page(wandb: Any, session: Session, path: Path, mode: str) -> None:
        """The files of a page as an artifact."""
        stamp = hash_page(path)
        if path.name != "index.html":
            session.send({"report": (stamp, lambda: wandb.Html(str(path), inject=False))})
        if session.sent.get("artifact") != stamp:
            artifact = wandb.Artifact(f"report-{session.run.id}", type="report")
            # offline a page may be written again before it is sent: a copy is sent then
            policy = "immutable" if mode == "online" else "mutable"
            for name, file in list_page(path).items():
                artifact.add_file(str(file), name=name, policy=policy, skip_cache=True)
            session.run.log_artifact(artifact)
            session.sent["artifact"] = stamp


def make_text(text: str) -> str:
    """A text that can be sent: a path may hold bytes that are none."""
    return text.encode("utf-8", "replace").decode()
