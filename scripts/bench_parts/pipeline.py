"""Where the time of a run goes: reading, encoding, predicting, decoding, writing, scoring.

Pictures are PNG files, the run writes its directory, and `diffedit score`'s metrics follow. The networks run one after
another in the main thread; reading and writing have threads beside them, so their seconds need not add to the wall.
"""

import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from bench_parts.files import write_benchmark
from bench_parts.measure import Spread, measure_seconds
from bench_parts.networks import clock_modules, find_modules
from bench_parts.ours import Ours, add_model_arguments, find_weights, load_scenes
from bench_parts.report import Report, Table
from diffedit.api.choose import make_editor
from diffedit.io.compose import compose
from diffedit.io.images import ImageFile
from diffedit.runs.directory import RunDirectory
from diffedit.runs.loop import run_benchmark
from diffedit.stages.pipeline import EditPipeline
from eval.benchmarks.folder import FolderBenchmark
from eval.scoring.score import Settings, score

EXAMPLE = "python scripts/bench.py pipeline --pictures 32 --metrics lpips clip_score"
TINY = {"weights": "tiny", "pictures": 2, "steps": 10, "repeats": 1, "ratios": [0.8], "metrics": ["lpips"]}
# part: (its name in `seconds`, whether it lies beside the networks, in threads of its own)
PARTS = {
    "reading": ("read", True),
    "encoding": ("encode", False),
    "text": ("embed", False),
    "predicting": ("predict", False),
    "decoding": ("decode", False),
    "writing": ("write", True),
    "engine and the rest": ("rest", False),
    "scoring": ("score", False),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--pictures", type=int, default=16, help="scenes of Still Life (default %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="N (default %(default)s)")
    parser.add_argument("--editor", default="diffedit", help="the method (default %(default)s)")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.9], help="encoding ratios")
    parser.add_argument("--metrics", nargs="+", default=["lpips", "clip_score", "fid"], help="of diffedit score")


def measure(args: Namespace, report: Report) -> None:
    """Whole runs, each in a new directory, and their scores."""
    repeats: list[dict[str, float]] = []
    metrics = instantiate(compose("score", [f"metric=[{','.join(args.metrics)}]"]).metric, _convert_="all")
    with find_weights(args.weights) as path, tempfile.TemporaryDirectory() as folder:
        ours = Ours.load(path, args.set)
        table = write_benchmark(load_scenes(args.pictures, ours.backbone.resolution), Path(folder) / "pictures")
        for k in tqdm(range(args.repeats + 1), desc="runs", unit="run"):
            seconds = time_run(ours, table, args, Path(folder) / str(k))
            seconds["score"] = measure_seconds(
                partial(score, Path(folder) / str(k), metrics, Settings(Path(folder) / f"cache {k}"))
            )
            repeats += [seconds] * (k > 0)  # the first is the warm-up
    results = describe(repeats)
    report.notes = [
        f"{args.editor}, {args.pictures} pictures x {len(args.ratios)} ratios, {args.steps} steps, {args.repeats} "
        f"repeats; scored by {', '.join(args.metrics)}; median [range]",
        "share: of the run's wall time and the scoring; what lies beside the networks has threads of its own, and its "
        "seconds are those of all its threads",
    ]
    report.save(results, [make_table(results)], partial(draw, results))


def time_run(ours: Ours, table: Path, args: Namespace, root: Path) -> dict[str, float]:
    """Seconds of each part of one run; `wall` is the run's own."""
    settings = replace(ours.settings, ratios=tuple(args.ratios), steps=args.steps)
    pipeline = EditPipeline(make_editor(args.editor))
    run = partial(run_benchmark, FolderBenchmark(str(table)), pipeline, ours.backbone, root, settings)
    with ExitStack() as stack:
        seconds = stack.enter_context(clock_modules(find_modules(ours.backbone)))
        read = stack.enter_context(clock_method(ImageFile, "__call__"))
        written = stack.enter_context(clock_method(RunDirectory, "write_outcome"))
        wall = measure_seconds(run)
    inside = sum(seconds.values())
    return {**seconds, "read": sum(read), "write": sum(written), "rest": wall - inside, "wall": wall}


@contextmanager
def clock_method(owner: type, name: str) -> Iterator[list[float]]:
    """Seconds of each call of a method while the block runs, in whatever thread."""
    method: Callable[..., Any] = vars(owner)[name]
    spent: list[float] = []
    lock = threading.Lock()

    @wraps(method)
    def clocked(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            with lock:
                spent.append(time.perf_counter() - began)

    setattr(owner, name, clocked)
    try:
        yield spent
    finally:
        setattr(owner, name, method)


def describe(repeats: list[dict[str, float]]) -> dict[str, Any]:
    """Seconds and share of each part, over the repeats."""
    parts: dict[str, Any] = defaultdict(dict)
    for part, (name, beside) in PARTS.items():
        seconds = [each[name] for each in repeats]
        shares = [each[name] / (each["wall"] + each["score"]) for each in repeats]
        parts[part] = {"seconds": {"raw": seconds, **vars(Spread.of(seconds))}, "beside": beside}
        parts[part] |= {"share": {"raw": shares, **vars(Spread.of(shares))}}
    walls = [each["wall"] for each in repeats]
    return {"parts": dict(parts), "wall": {"raw": walls, **vars(Spread.of(walls))}}


def make_table(results: dict[str, Any]) -> Table:
    """A row a part."""
    rows = [
        (
            name,
            "beside" if part["beside"] else "in line",
            str(Spread(*(part["seconds"][k] for k in ("median", "low", "high")))),
            f"{part['share']['median']:.1%}",
        )
        for name, part in results["parts"].items()
    ]
    return Table("A run and its scores", ("part", "where", "seconds", "share"), rows)


def draw(results: dict[str, Any], figure: Figure) -> None:
    """Share of each part; what lies beside the networks is hatched."""
    axes = figure.subplots()
    names = list(results["parts"])
    shares = [100 * part["share"]["median"] for part in results["parts"].values()]
    bars = axes.barh(names, shares, color="#4878a8")
    for bar, part in zip(bars, results["parts"].values(), strict=True):
        if part["beside"]:
            bar.set(facecolor="white", edgecolor="#4878a8", hatch="///")
    axes.bar_label(bars, [f" {share:.1f} %" for share in shares], fontsize=9)
    axes.set_xlim(0, 1.15 * max(shares))
    axes.invert_yaxis()
    axes.set_xlabel("% of the run and its scores (hatched: beside the networks, in threads of their own)")
