"""Cost as work grows: seconds, evaluations and peak memory over pictures, ratios, methods, steps, resolution.

Each point is a process of its own, forked from one that has only imported, so that its peak memory is its own. What is
fitted: seconds = a + b x (b is what one more costs), and the exponent p of seconds ~ x^p (1: as the work grows).
`memory` is the peak of whole runs with files on a model that costs next to nothing, over the number of requests.
"""

import resource
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from bench_parts.measure import Spread, measure_seconds
from bench_parts.ours import Ours, add_model_arguments, count_evaluations, find_weights, keep, load_scenes
from bench_parts.report import Report, Table
from diffedit.api.choose import make_editor
from diffedit.backbones.analytic import AnalyticBackbone
from diffedit.diffedit import DiffEdit
from diffedit.engine.sizes import BatchSizes
from diffedit.mask import ContrastMask
from diffedit.runs.loop import RunSettings, run_benchmark
from diffedit.sampling.noise import make_generator
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import EditRequest
from eval.benchmarks.base import BaseBenchmark

EXAMPLE = "python scripts/bench.py growth --what memory --requests 100 1000 10000"
TINY = {
    "weights": "tiny",
    "what": ["ratios", "memory"],
    "repeats": 1,
    "steps": 10,
    "pictures": [1, 2],
    "counts": [1, 2],
    "requests": [2, 4],
}
WHAT = ("pictures", "ratios", "methods", "steps", "resolution", "memory")
METHODS = ("diffedit", "diffedit_no_encode", "encode_decode", "sdedit", "blended_latent")
RATIO = 0.8
# What the process imports that all points are forked from. It does not find what lies beside this script.
PRELOADED = ["diffedit.testing", "diffedit.commands.run", "diffedit.api.choose", "diffedit.backbones.stable_diffusion"]
PRELOADED += ["diffedit.runs.loop", "eval.stilllife.benchmarks", "matplotlib.figure", "torch._dynamo"]


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--what", nargs="+", default=list(WHAT), choices=WHAT, help="which axes")
    parser.add_argument("--steps", type=int, default=20, help="N where it is not what grows (default %(default)s)")
    parser.add_argument(
        "--pictures", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="the smallest elsewhere: 4"
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 7, 10], help="of ratios")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="by name")
    parser.add_argument("--many-steps", type=int, nargs="+", default=[10, 20, 50, 100], help="N where it grows")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 96, 128, 192], help="resolutions, in pixels")
    parser.add_argument("--requests", type=int, nargs="+", default=[100, 1000, 10_000], help="of `memory`")


@dataclass(frozen=True)
class Point:
    """What one process edits.

    Attributes:
        x: where it lies on its axis.
        name: of it.
        weights: folder of the networks.
        overrides: settings of a run.
        method: an editor by name.
        pictures: how many scenes.
        ratios: of each.
        steps: N.
    """

    x: float
    name: str
    weights: str
    overrides: tuple[str, ...]
    method: str
    pictures: int
    ratios: tuple[float, ...]
    steps: int
    threads: int


def make_points(what: str, args: Namespace, weights: str) -> list[Point]:
    """The points of one axis; all else as at the start."""
    few = 4 if max(args.pictures) >= 4 else max(args.pictures)
    threads = torch.get_num_threads()
    base = Point(0, "", weights, tuple(args.set), "diffedit", few, (RATIO,), args.steps, threads)
    match what:
        case "pictures":
            return [replace(base, x=n, name=str(n), pictures=n) for n in args.pictures]
        case "ratios":
            return [replace(base, x=n, name=str(n), ratios=spread_ratios(n)) for n in args.counts]
        case "methods":
            return [replace(base, x=i, name=name, method=name) for i, name in enumerate(args.methods)]
        case "steps":
            return [replace(base, x=n, name=str(n), steps=n) for n in args.many_steps]
    return [
        replace(base, x=n * n, name=str(n), overrides=(*base.overrides, f"backbone.resolution={n}")) for n in args.sides
    ]


def spread_ratios(count: int) -> tuple[float, ...]:
    """So many encoding ratios, evenly spread, the last one 1: their mean, and so the cost of each, nearly constant."""
    return tuple(round((i + 1) / count, 4) for i in range(count)) if count > 1 else (RATIO,)


def edit_point(point: Point) -> dict[str, float]:
    """In a process of its own: edit, after one picture as a warm-up; seconds, evaluations, peak memory."""
    torch.set_num_threads(point.threads)
    ours = Ours.load(point.weights, point.overrides)
    requests, editor = load_scenes(point.pictures, ours.backbone.resolution), make_editor(point.method)
    ours.edit(editor, requests[:1], point.ratios[:1], point.steps)
    outcomes: list[Any] = []
    seconds = measure_seconds(lambda: outcomes.extend(ours.edit(editor, requests, point.ratios, point.steps)))
    return {"seconds": seconds, "evaluations": count_evaluations(outcomes), "peak_mb": read_peak()}


def read_peak() -> float:
    """Most memory that this process held, in MB; of the accelerator where there is one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


@dataclass(frozen=True)
class Noise(BaseBenchmark):
    """Requests whose pictures are noise, drawn when they are called."""

    count: int

    def requests(self, resolution: int):
        """As many."""
        for i in range(self.count):
            yield EditRequest(f"{i:06d}", partial(draw_noise, i, resolution), "pear", "apple")

    def __len__(self) -> int:
        return self.count


def draw_noise(i: int, resolution: int) -> torch.Tensor:
    """The picture of the i-th request."""
    return keep(torch.rand(3, resolution, resolution, generator=make_generator(0, str(i), "picture")))()


def edit_tiny(count: int, root: Path, steps: int = 2, ratios: Sequence[float] = (1.0,)) -> None:
    """A whole run of so many requests, of few steps on the exact model."""
    pipeline = EditPipeline(DiffEdit(mask=ContrastMask(num_noises=1)))
    settings = RunSettings(ratios=tuple(ratios), steps=steps, batch=BatchSizes(16, 4, 4, 8), progress=False)
    run_benchmark(Noise(count), pipeline, AnalyticBackbone(), root, settings)


def run_requests(count: int, threads: int) -> dict[str, float]:
    """In a process of its own: a whole run of so many requests, with all its files; two steps on the exact model."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        run = partial(edit_tiny, count, Path(folder) / "run")
        return {"seconds": measure_seconds(run), "evaluations": 8 * count, "peak_mb": read_peak()}


def measure(args: Namespace, report: Report) -> None:
    """Axis by axis; the points of one by turns."""
    axes: dict[str, Any] = {}
    report.notes = [
        f"{args.repeats} interleaved repeats, medians; each point in a process of its own",
        "more: seconds that one more costs (a + b x); p: the exponent of seconds ~ x^p",
    ]
    with find_weights(args.weights) as path, make_pool() as pool:
        for what in args.what:
            if what == "memory":
                tasks = [(n, str(n), partial(run_requests, n, torch.get_num_threads())) for n in args.requests]
            else:
                tasks = [(p.x, p.name, partial(edit_point, p)) for p in make_points(what, args, path)]
            axes[what] = measure_axis(what, tasks, args.repeats, pool)
            results = {"axes": axes}
            report.save(results, make_tables(axes), partial(draw, axes))


def make_pool() -> ProcessPoolExecutor:
    """Runs one task at a time, each in a process that is new and has imported already."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return ProcessPoolExecutor(1, context, max_tasks_per_child=1)


def measure_axis(
    what: str, tasks: Sequence[tuple[float, str, Any]], repeats: int, pool: ProcessPoolExecutor
) -> dict[str, Any]:
    """The points of one axis and what is fitted to them."""
    raw: list[list[dict[str, float]]] = [[] for _ in tasks]
    with tqdm(total=len(tasks) * repeats, desc=what, unit="point") as bar:
        for k in range(repeats):
            for i in range(len(tasks))[:: -1 if k % 2 else 1]:
                raw[i].append(pool.submit(tasks[i][2]).result())
                bar.update()
    points = []
    for (x, name, _), each in zip(tasks, raw, strict=True):
        seconds = [one["seconds"] for one in each]
        peaks = [one["peak_mb"] for one in each]
        row = {"x": x, "name": name, "seconds": {"raw": seconds, **vars(Spread.of(seconds))}}
        row |= {"evaluations": each[0]["evaluations"], "peak_mb": {"raw": peaks, **vars(Spread.of(peaks))}}
        points.append(row)
    return {"points": points} | ({} if what == "methods" else fit(points))


def fit(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Slope and exponent of the seconds, and how much the peak memory grew from the first point to the last."""
    grown = points[-1]["peak_mb"]["median"] / points[0]["peak_mb"]["median"] - 1
    if len(points) < 2:
        return {"slope": None, "exponent": None, "memory_growth": grown}
    x, y = (np.array(values, float) for values in zip(*((p["x"], p["seconds"]["median"]) for p in points), strict=True))
    slope = np.polyfit(x, y, 1)[0]
    exponent = np.polyfit(np.log(x), np.log(y), 1)[0]
    return {"slope": float(slope), "exponent": float(exponent), "memory_growth": grown}


def make_tables(axes: Mapping[str, Any]) -> list[Table]:
    """A table an axis."""
    tables = []
    for what, axis in axes.items():
        rows = [
            (
                point["name"],
                str(Spread(*(point["seconds"][k] for k in ("median", "low", "high")))),
                str(point["evaluations"]),
                f"{1000 * point['seconds']['median'] / point['evaluations']:.2f}",
                f"{point['peak_mb']['median']:.0f}",
            )
            for point in axis["points"]
        ]
        title = "Methods" if what == "methods" else describe_fit(what, axis)
        head = "requests" if what == "memory" else what
        tables.append(Table(title, (head, "seconds", "evaluations", "ms an evaluation", "peak, MB"), rows))
    return tables


def describe_fit(what: str, axis: Mapping[str, Any]) -> str:
    """The title of a table."""
    title = "Requests of a run" if what == "memory" else what.capitalize()
    grown = f"peak memory {axis['memory_growth']:+.1%} from first to last"
    if axis["slope"] is None:
        return f"{title}: {grown}"
    unit = "a pixel" if what == "resolution" else "more"
    return f"{title}: {axis['slope']:.3g} s {unit}, p = {axis['exponent']:.2f}; {grown}"


def draw(axes: Mapping[str, Any], figure: Figure) -> None:
    """A panel an axis: seconds, and memory for `memory`."""
    columns = min(3, len(axes))
    panels = list(figure.subplots(-(-len(axes) // columns), columns, squeeze=False).flat)
    for panel in panels[len(axes) :]:
        panel.set_visible(False)
    for panel, (what, axis) in zip(panels, axes.items(), strict=False):
        names = [point["name"] for point in axis["points"]]
        key = "peak_mb" if what == "memory" else "seconds"
        middle = [point[key]["median"] for point in axis["points"]]
        if what == "methods":
            panel.barh(names, middle, color="#4878a8")
            panel.invert_yaxis()
        else:
            panel.plot([point["x"] for point in axis["points"]], middle, marker="o", color="#4878a8")
            panel.set_ylim(0, 1.15 * max(middle))
        if what == "memory":
            panel.set_xscale("log")
        panel.set_title({"memory": "requests: peak, MB", "resolution": "pixels: s"}.get(what, f"{what}: s"), fontsize=9)
        panel.tick_params(labelsize=7)
