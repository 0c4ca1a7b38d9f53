"""Wall time of a DiffEdit run over the time that its bare networks need for the same rows.

The bare time is that of the UNet, the autoencoder and the text encoder called alone, each at the rows a call that suit
it best, for as many rows as the edits ask (no padding); it is measured right before and after each run, in the same
process. With --files the pictures are read from PNG files and a whole run directory is written.
"""

import shutil
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm.auto import tqdm

from bench_parts.files import write_benchmark
from bench_parts.measure import Spread, Timing, measure_seconds
from bench_parts.networks import KINDS, WORDS, RowCount, find_best, find_modules, make_call, scan_rows, time_row
from bench_parts.ours import RATIOS, Ours, add_model_arguments, find_weights, load_scenes
from bench_parts.report import Report, Table
from diffedit.api.choose import make_editor
from diffedit.runs.loop import run_benchmark
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Editor, EditRequest
from eval.benchmarks.folder import FolderBenchmark

EXAMPLE = "python scripts/bench.py engine --files --set engine.batch.predict=32 --repeats 5"
TINY = {"weights": "tiny", "pictures": 2, "steps": 10, "repeats": 1, "ratios": 1, "rows": [1, 8], "bare_seconds": 0.02}
TARGET = 1.08


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--pictures", type=int, default=8, help="scenes of Still Life (default %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="N (default %(default)s)")
    parser.add_argument("--ratios", type=int, default=10, choices=list(RATIOS), help="how many (default %(default)s)")
    parser.add_argument("--editor", default="diffedit", help="the method (default %(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="tried for the bare networks")
    parser.add_argument("--bare-seconds", type=float, default=2.0, help="of the bare UNet, before and after each run")
    parser.add_argument("--files", action="store_true", help="also a run that reads pictures and writes a directory")


def measure(args: Namespace, report: Report) -> None:
    """Repeats of (bare networks, each kind of run, bare networks)."""
    with find_weights(args.weights) as path, tempfile.TemporaryDirectory() as folder:
        ours = Ours.load(path, args.set)
        requests, editor = load_scenes(args.pictures, ours.backbone.resolution), make_editor(args.editor)
        runs: dict[str, Callable[[], object]] = {
            "in memory": partial(ours.edit, editor, requests, RATIOS[args.ratios], args.steps)
        }
        if args.files:
            table = write_benchmark(requests, Path(folder) / "pictures")
            runs["with files"] = partial(run_with_files, ours, editor, table, args, Path(folder) / "run")
        scanned = scan_rows(ours.backbone, KINDS, sorted(args.rows), 2, "best rows of the bare networks")
        best = {kind: find_best(timings) for kind, timings in scanned.items()}
        asked = count_asked(ours, editor, requests, args)
        counter = RowCount(find_modules(ours.backbone))
        found = measure_runs(ours, runs, best, counter, args)
        counter.close()
    results = describe(found, asked, best)
    called = found["called"]["in memory"]
    results["padded_share"] = called["predict"] / asked["predict"] - 1
    report.notes = list_notes(args, ours, results)
    report.save(results, make_tables(results), partial(draw, results))


def run_with_files(ours: Ours, editor: Editor, table: Path, args: Namespace, root: Path) -> None:
    """A whole run of the pictures of a table, in a directory that is new."""
    shutil.rmtree(root, ignore_errors=True)
    settings = replace(ours.settings, ratios=RATIOS[args.ratios], steps=args.steps)
    run_benchmark(FolderBenchmark(str(table)), EditPipeline(editor), ours.backbone, root, settings)


def count_asked(ours: Ours, editor: Editor, requests: Sequence[EditRequest], args: Namespace) -> dict[str, int]:
    """Rows that the edits ask of each network: without padding, equal texts once."""
    outcomes = ours.edit(editor, requests, RATIOS[args.ratios], args.steps)
    texts = {""} | {text for request in requests for text in (request.target, request.source)}
    edits = sum(len(outcome.result.edits) for outcome in outcomes)
    evaluations = sum(outcome.evaluations.total() for outcome in outcomes)
    return {"predict": evaluations, "encode": len(requests), "decode": edits, "embed": len(texts)}


def measure_runs(
    ours: Ours, runs: dict[str, Callable[[], object]], best: dict[str, int], counter: RowCount, args: Namespace
) -> dict[str, Any]:
    """Wall seconds of each run, and the seconds a row of each bare network around it, repeat by repeat."""
    calls = {kind: make_call(ours.backbone, kind, rows) for kind, rows in best.items()}

    def time_bare() -> dict[str, float]:
        return {
            kind: time_row(call, best[kind], args.bare_seconds * (1 if kind == "predict" else 0.2))
            for kind, call in calls.items()
        }

    walls = {name: Timing() for name in runs}
    bare: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    called: dict[str, dict[str, int]] = {}
    with tqdm(total=len(runs) * (args.repeats + 1), desc="runs", unit="run") as bar:
        for k in range(args.repeats + 1):
            before = time_bare()
            for name, run in runs.items():
                counter.take()
                seconds = measure_seconds(run)
                called[name] = counter.take()
                after = time_bare()
                if k:  # the first is the warm-up
                    walls[name].seconds.append(seconds)
                    bare[name].append({kind: (before[kind] + after[kind]) / 2 for kind in calls})
                before = after
                bar.update()
    return {"walls": walls, "bare": bare, "called": called}


def describe(found: dict[str, Any], asked: dict[str, int], best: dict[str, int]) -> dict[str, Any]:
    """Wall over bare, for each kind of run."""
    runs = []
    for name, wall in found["walls"].items():
        parts = [{kind: asked[kind] * each[kind] for kind in KINDS} for each in found["bare"][name]]
        bare = Timing([sum(part.values()) for part in parts])
        ratio = [one / other for one, other in zip(wall.seconds, bare.seconds, strict=True)]
        row = {"run": name, "wall": wall.describe(), "bare": bare.describe()}
        row |= {"bare_parts": {kind: Spread.of([part[kind] for part in parts]).median for kind in KINDS}}
        runs.append(
            row | {"wall_over_bare": {"raw": ratio, **vars(Spread.of(ratio))}, "rows_called": found["called"][name]}
        )
    return {"runs": runs, "rows_asked": asked, "best_rows": best, "target": TARGET}


def list_notes(args: Namespace, ours: Ours, results: dict[str, Any]) -> list[str]:
    """What has to be known beside the table."""
    rows = ", ".join(f"{WORDS[kind]} {count}" for kind, count in results["rows_asked"].items())
    best = ", ".join(f"{WORDS[kind]} {count}" for kind, count in results["best_rows"].items())
    return [
        f"{args.editor}, {args.pictures} pictures x {args.ratios} ratios, {args.steps} steps, {args.repeats} repeats",
        f"rows that the edits ask: {rows}; the bare networks at their best rows a call: {best}",
        f"rows a call of the engine: {ours.choose_sizes(args.pictures).describe()}; padded and repeated rows of the "
        f"UNet: {results['padded_share']:.1%} of those asked",
        f"wall / bare: paired by repeat, median [range]; at most {TARGET} is wanted",
    ]


def make_tables(results: dict[str, Any]) -> list[Table]:
    """A row a kind of run."""
    rows = [
        (
            run["run"],
            f"{run['wall']['median']:.2f}",
            *(f"{run['bare_parts'][kind]:.2f}" for kind in KINDS),
            str(Spread(*(run["wall_over_bare"][k] for k in ("median", "low", "high")))),
        )
        for run in results["runs"]
    ]
    header = ("run", "wall, s", *(f"{WORDS[kind]}, s" for kind in KINDS), "wall / bare")
    return [Table("Wall time over bare networks", header, rows)]


def draw(results: dict[str, Any], figure: Figure) -> None:
    """The bare parts on top of each other, beside the wall."""
    axes = figure.subplots()
    for i, run in enumerate(results["runs"]):
        left = 0.0
        for kind, colour in zip(KINDS, ("#4878a8", "#8fb3d1", "#c9d9e8", "0.7"), strict=True):
            part = run["bare_parts"][kind]
            axes.barh(f"{run['run']}: bare", part, left=left, color=colour, label=WORDS[kind] if not i else None)
            left += part
        ratio = run["wall_over_bare"]["median"]
        axes.barh(f"{run['run']}: wall", run["wall"]["median"], color="#d08c4a")
        axes.annotate(f" {ratio:.2f} x", (run["wall"]["median"], f"{run['run']}: wall"), va="center", fontsize=9)
    axes.set_xlim(0, 1.15 * max(run["wall"]["median"] for run in results["runs"]))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=4)
