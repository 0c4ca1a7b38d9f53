"""What it costs that a run is cut into shards, and how far two processes share it.

Two worker processes, of one thread each, edit one run at once; before and after, both call their bare networks at once,
so that what they take from each other is in both. Throughput: the time that two bare processes would take for the rows
that the edits ask, over the time of the run. Overhead: one process, the same run in small shards and in one. With
--requests, runs of so many tiny requests: peak memory, processor time a request, and seconds to merge the manifest and
to show how far the run is. With --scored, runs of so many at seven ratios are scored: peak memory.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from bench_parts.files import write_benchmark
from bench_parts.growth import Noise, edit_tiny, make_pool, read_peak
from bench_parts.measure import Spread, measure_seconds
from bench_parts.networks import KINDS, find_best, make_call, scan_rows, time_row
from bench_parts.ours import Ours, add_model_arguments, find_weights, load_scenes
from bench_parts.report import Report, Table
from diffedit.api.choose import make_editor
from diffedit.io.trust import trust
from diffedit.runs.cut import Share, list_shards
from diffedit.runs.loop import run_benchmark
from diffedit.runs.manifest import build_manifest, merge_manifest
from diffedit.stages.pipeline import EditPipeline
from eval.benchmarks.folder import FolderBenchmark
from eval.metrics.cost import Cost
from eval.metrics.lpips import Lpips
from eval.scoring.batch import Batch
from eval.scoring.metric import Metric
from eval.scoring.score import Settings, score

EXAMPLE = "python scripts/bench.py shards --pictures 48 --size 4"
TINY = {"weights": "tiny", "pictures": 4, "size": 1, "steps": 4, "repeats": 1, "rows": [1, 4], "bare_seconds": 0.02}
TINY |= {"requests": [2, 4]}
TARGET, MOST = 0.95, 1.03
WORKERS = 2
SCORED = 7  # ratios of runs that are scored
WARM_UP = 64  # requests before large runs


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    add_model_arguments(parser)
    parser.add_argument("--pictures", type=int, default=48, help="scenes of Still Life (default %(default)s)")
    parser.add_argument("--size", type=int, default=4, help="requests in a shard (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="N (default %(default)s)")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.9], help="encoding ratios")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 32], help="tried for the bare networks")
    parser.add_argument("--bare-seconds", type=float, default=3.0, help="of the bare UNet, before and after each run")
    parser.add_argument("--requests", type=int, nargs="+", default=[], help="of large runs: 1000 20000")
    parser.add_argument("--scored", type=int, nargs="+", default=[], help="requests of runs to score: 1430 14300")
    parser.add_argument("--only-large", action="store_true", help="nothing but --requests and --scored")


def measure(args: Namespace, report: Report) -> None:
    """Repeats of (bare, two workers, bare), and of (one shard, small shards); large runs."""
    report.notes = [
        f"diffedit, {args.pictures} pictures x {len(args.ratios)} ratios, {args.steps} steps, {args.repeats} repeats; "
        f"shards of {args.size}; two workers of one thread each",
        f"throughput: at least {TARGET} is wanted; overhead: at most {MOST}; paired by repeat, median [range]",
    ]
    results = {} if args.only_large else describe(*measure_sharing(args))
    if args.requests:
        with make_pool() as pool:
            results["large"] = [pool.submit(run_large, count).result() for count in tqdm(args.requests, "large")]
    if args.scored:
        with make_pool() as pool, tempfile.TemporaryDirectory() as folder:
            results["scored"] = [score_large(count, Path(folder) / str(count), pool) for count in args.scored]
    report.save(results, make_tables(results), partial(draw, results))


def measure_sharing(args: Namespace) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Seconds of (two workers, bare processes), and of (one shard, small shards), repeat by repeat."""
    with find_weights(args.weights) as path, tempfile.TemporaryDirectory() as name:
        folder, resolution = Path(name), Ours.load(path, args.set).backbone.resolution
        scenes = load_scenes(args.pictures, resolution)
        table = write_benchmark(scenes, folder / "pictures")
        few = write_benchmark(scenes[: WORKERS * args.size], folder / "few pictures")  # for a first round, not counted
        workers = [Worker(k, path, args) for k in range(WORKERS)]
        try:
            best = workers[0].ask("scan")
            tables = [few, *[table] * args.repeats]
            two = [measure_two(workers, one, folder / f"two {k}", best) for k, one in enumerate(tqdm(tables, "two"))]
        finally:
            for worker in workers:
                worker.close()
        sizes = {"one shard": args.pictures, "small shards": args.size}
        one = [measure_sizes(path, one, folder, args, sizes, k) for k, one in enumerate(tqdm(tables, "one"))]
    return two[1:], one[1:]


class Worker:
    """A process with the model, and what it is told to do with it."""

    def __init__(self, k: int, weights: str, args: Namespace) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, k, weights, args), daemon=True)
        self.process.start()

    def send(self, *words: Any) -> None:
        """Tell it what to do."""
        self.pipe.send(words)

    def receive(self) -> Any:
        """What came of it."""
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, *words: Any) -> Any:
        """Both."""
        self.send(*words)
        return self.receive()

    def close(self) -> None:
        """End it."""
        self.send("end")
        self.process.join(30)


def work(pipe: Connection, k: int, weights: str, args: Namespace) -> None:
    """The life of a worker."""
    torch.set_num_threads(1)
    ours = Ours.load(weights, [*args.set, "engine.cpu_threads=1"])
    while True:
        what, *words = pipe.recv()
        if what == "end":
            return
        try:
            if what == "scan":
                scanned = scan_rows(ours.backbone, KINDS, sorted(args.rows), 2, "best rows of the bare networks")
                pipe.send({kind: find_best(timings) for kind, timings in scanned.items()})
            elif what == "bare":
                pipe.send(time_bare(ours, words[0], args.bare_seconds))
            else:
                edit = partial(edit_run, ours, *map(Path, words), args, args.size, Share(k, WORKERS))
                pipe.send(measure_seconds(edit))
        except Exception as error:
            pipe.send(error)


def time_bare(ours: Ours, best: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Seconds a row of each bare network, one after the other."""
    calls = {kind: make_call(ours.backbone, kind, rows) for kind, rows in best.items()}
    return {
        kind: time_row(call, best[kind], seconds * (1 if kind == "predict" else 0.3)) for kind, call in calls.items()
    }


def edit_run(ours: Ours, table: Path, root: Path, args: Namespace, size: int, share: Share) -> None:
    """One run, or a part of it."""
    settings = replace(ours.settings, ratios=tuple(args.ratios), steps=args.steps)
    settings = replace(settings, shard_size=size, share=share, wait=True)
    run_benchmark(FolderBenchmark(str(table)), EditPipeline(make_editor("diffedit")), ours.backbone, root, settings)


def measure_two(workers: Sequence[Worker], table: Path, root: Path, best: Mapping[str, int]) -> dict[str, float]:
    """Seconds of a run by all workers, and of as many bare ones for the same rows."""

    def tell_all(*words: Any) -> list[Any]:
        for worker in workers:
            worker.send(*words)
        return [worker.receive() for worker in workers]

    before = tell_all("bare", best)
    wall = max(tell_all("run", str(table), str(root)))
    after = tell_all("bare", best)
    rows = count_rows(root)
    shutil.rmtree(root)
    each = {kind: sum(part[kind] for part in before + after) / len(before + after) for kind in best}
    return {"wall": wall, "bare": sum(rows[kind] * each[kind] for kind in rows) / len(workers)}


def count_rows(root: Path) -> dict[str, int]:
    """Rows that the edits of a run asked of each network; texts are few."""
    table = pd.read_parquet(root / "manifest.parquet")
    requests = table.drop_duplicates("id")
    predict = int(table.evaluations.sum() + requests.shared_evaluations.sum())
    return {"predict": predict, "encode": len(requests), "decode": len(table)}


def measure_sizes(
    weights: str, table: Path, folder: Path, args: Namespace, sizes: Mapping[str, int], k: int
) -> dict[str, float]:
    """Seconds of one run in shards of each size, in this process; in turn the one and the other first."""
    ours, found = Ours.load(weights, args.set), {}
    for name in list(sizes)[:: 1 if k % 2 else -1]:
        root = folder / "one"
        found[name] = measure_seconds(partial(edit_run, ours, table, root, args, sizes[name], Share()))
        shutil.rmtree(root)
    return found


def describe(two: Sequence[Mapping[str, float]], one: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Both ratios, repeat by repeat."""
    throughput = [part["bare"] / part["wall"] for part in two]
    overhead = [part["small shards"] / part["one shard"] for part in one]
    return {
        "throughput": {"raw": throughput, **vars(Spread.of(throughput)), "wanted": TARGET},
        "overhead": {"raw": overhead, **vars(Spread.of(overhead)), "wanted": MOST},
        "two": list(two),
        "one": list(one),
    }


def run_large(count: int) -> dict[str, float]:
    """In a process of its own: a whole run of so many tiny requests, its manifest merged again, a look at it."""
    with tempfile.TemporaryDirectory() as folder:
        edit_tiny(min(WARM_UP, count), Path(folder) / "first")  # what is loaded once is of no request
        began, root = time.process_time(), Path(folder) / "run"
        edit_tiny(count, root)
        found = {"requests": count, "cpu_ms": 1000 * (time.process_time() - began) / count, "peak_mb": read_peak()}
        asked = [f"{i:06d}" for i in range(count)]
        nothing = build_manifest([], (), 0)
        found["merge_s"] = measure_seconds(lambda: merge_manifest(list_shards(root), nothing, asked))
        command = [sys.executable, "-m", "diffedit", "status", str(root)]
        found["status_s"] = measure_seconds(lambda: subprocess.run(command, capture_output=True, check=True))
    return found


class Shades:
    """A network without weights: means of 4 x 4 pixels are its layer, and its features."""

    name, hash, resize, range, domain = "shades", "shades", "none", (0.0, 1.0), "anything"
    heads, smallest = None, 4

    def layers(self, images: Tensor) -> list[Tensor]:
        """One."""
        return [F.avg_pool2d(images, 4)]

    def prepare(self, picture: Tensor) -> Tensor:
        """In [0, 1]."""
        return picture.float() / 255

    def features(self, prepared: Tensor) -> Tensor:
        """As a row."""
        return F.avg_pool2d(prepared, 4).flatten(1)


class Change(Metric):
    """How far the features of an edit are from those of the input."""

    version: ClassVar = "change-1"
    higher_is_better: ClassVar = {"change": False}
    input_kind: ClassVar = "features"

    def __init__(self, network: Shades) -> None:
        self.networks = (network,)

    def per_image(self, batch: Batch) -> dict[str, Tensor]:
        """A number an image."""
        before, after = (batch.features(self.networks[0], role) for role in ("inputs", "edits"))
        return {"change": (after - before).square().mean(1)}


def score_large(count: int, root: Path, pool: Executor) -> dict[str, float]:
    """A run of so many requests at seven ratios, edited in one process and scored in another."""
    pool.submit(edit_tiny, count, root, SCORED, [(i + 1) / SCORED for i in range(SCORED)]).result()
    return {"edits": SCORED * count} | pool.submit(score_tiny, root).result()


def score_tiny(root: Path) -> dict[str, float]:
    """Score a run by metrics of either kind."""
    trust(Noise)
    metrics = {"lpips": Lpips(Shades()), "cost": Cost(), "change": Change(Shades())}
    before = read_peak()
    seconds = measure_seconds(partial(score, root, metrics, Settings(root.parent / f"cache of {root.name}")))
    return {"seconds": seconds, "before_mb": before, "peak_mb": read_peak()}


def make_scored_table(scored: Sequence[Mapping[str, float]]) -> Table:
    """A row a run."""
    rows = [
        (f"{one['edits']:,}", *(f"{one[key]:.0f}" for key in ("seconds", "before_mb", "peak_mb"))) for one in scored
    ]
    return Table("Scored runs", ("edits", "seconds", "MB before", "peak, MB"), rows)


def make_large_table(large: Sequence[Mapping[str, float]]) -> Table:
    """A row a run."""
    rows = [
        (f"{one['requests']:,}", *(f"{one[key]:.2f}" for key in ("cpu_ms", "peak_mb", "merge_s", "status_s")))
        for one in large
    ]
    return Table("Large runs", ("requests", "CPU, ms a request", "peak, MB", "merge, s", "status, s"), rows)


def make_tables(results: Mapping[str, Any]) -> list[Table]:
    """Both ratios, and the large runs."""
    large = [make_large_table(results["large"])] if "large" in results else []
    large += [make_scored_table(results["scored"])] if "scored" in results else []
    if "two" not in results:
        return large
    rows = [
        (title, str(Spread(*(results[name][key] for key in ("median", "low", "high")))), f"{results[name]['wanted']}")
        for title, name in (
            ("two workers, of the throughput of two bare processes", "throughput"),
            ("small shards, of the time of one", "overhead"),
        )
    ]
    return [Table("Shards", ("", "ratio", "wanted"), rows), *large]


def draw(results: Mapping[str, Any], figure: Figure) -> None:
    """Each repeat, and the memory of the large runs."""
    names = [name for name, key in (("sharing", "two"), ("large", "large"), ("scored", "scored")) if key in results]
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        if name != "sharing":
            unit = {"large": "requests", "scored": "edits"}[name]
            axes.plot([one[unit] for one in results[name]], [one["peak_mb"] for one in results[name]], "o-")
            axes.set(xlabel=unit, ylabel="peak, MB", ylim=(0, None), xscale="log")
            continue
        for part in ("throughput", "overhead"):
            axes.plot(results[part]["raw"], "o-", label=part)
            axes.axhline(results[part]["wanted"], color="0.7", lw=0.8)
        axes.set(xlabel="repeat", ylabel="ratio")
        axes.legend(frameon=False)
