"""Stable Diffusion 1.5's exact architecture with random weights, 512 x 512: ours, diffusers, and the floor.

Seconds a picture of a DiffEdit edit at r = 0.8 and of a ten-ratio sweep: ours eager and compiled, diffusers' pipeline
as documented (one picture at a time) and batched, with guided and unguided inversion, all in one process. The floor is
what our evaluations would take if the UNet's floating-point operations ran at the rate of a large matrix product,
measured on the same device in the same dtype. Results are written after each part; what no longer fits into --budget is
left out, and said. --tiny runs the same code with small shapes, also on a CPU.
"""

import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from bench_parts import sd15
from bench_parts.agreement import compare
from bench_parts.measure import Spread, Timing, measure_seconds, synchronize
from bench_parts.networks import RowCount, find_best, scan_rows
from bench_parts.ours import RATIOS, Ours, load_scenes
from bench_parts.peers import count_ours
from bench_parts.report import Report, Table
from bench_parts.theirs import Theirs
from diffedit.api.choose import make_editor
from diffedit.io.device import pick_device
from diffedit.testing import TinyPipeline
from diffedit.types import EditRequest

EXAMPLE = "python scripts/bench.py gpu --dtypes bfloat16 float16 --budget 540"
TINY = {
    "dtypes": ["float32"],
    "rows": [2, 8],
    "pictures": 1,
    "repeats": 1,
    "steps": 10,
    "matrix": 256,
    "formats": ["contiguous"],
    "no_compile": True,
    "sweep": 4,
}
JOBS = {"edit": "an edit, r = 0.8", "sweep": "a sweep of ratios"}
EAGER, COMPILED = "ours, eager", "ours, compiled"
THEIRS = ("documented", "batched", "unguided")


def add_arguments(parser: ArgumentParser) -> None:
    """Beside what all sub-commands have."""
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16"], help="of all networks")
    parser.add_argument("--pictures", type=int, default=4, help="of a call of ours, and of a batch of theirs")
    parser.add_argument("--sweep", type=int, default=10, choices=[4, 10], help="ratios of one (default %(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="N (default %(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 32, 64], help="tried for our batch size")
    parser.add_argument("--formats", nargs="+", default=["contiguous", "channels_last"], help="tried for our UNet")
    parser.add_argument("--their-format", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--compile", default="default", metavar="MODE", help="of torch.compile (default %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="ours eager only")
    parser.add_argument("--budget", type=float, default=540, help="seconds in all (default %(default)s)")
    parser.add_argument("--matrix", type=int, default=8192, help="side of the product that the rate is measured on")
    parser.add_argument("--device", default="auto", help="cuda where there is one (default %(default)s)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of `diffedit run`, for ours"
    )


@dataclass(frozen=True)
class Budget:
    """What is left of the time.

    Attributes:
        ends: when it is over, on the clock of `time.perf_counter`.
        notes: where it is said what was left out.
    """

    ends: float
    notes: list[str]

    def allows(self, what: str, seconds: float) -> bool:
        """Whether something that takes so long still fits; it is noted where it does not."""
        if time.perf_counter() + seconds <= self.ends:
            return True
        self.notes.append(f"left out, the budget was over: {what}")
        return False


def choose_jobs(args: Namespace) -> dict[str, tuple[float, ...]]:
    """The ratios of each job."""
    return {"edit": RATIOS[1], "sweep": RATIOS[args.sweep]}


@dataclass(frozen=True)
class Bench:
    """What all parts have in common: the weights and where they run, what is asked for, and where figures go."""

    path: str
    device: torch.device
    args: Namespace
    results: dict[str, Any]
    budget: Budget
    save: Callable[[], None]


def measure(args: Namespace, report: Report) -> None:
    """Networks and floor of each dtype, eager sides of each, compiled sides of each."""
    device = pick_device(args.device)
    if device.type == "cpu" and not args.tiny:
        raise ValueError("--device: there is no CUDA device here; --tiny tries the code on a CPU")
    budget = Budget(time.perf_counter() + args.budget, [])
    results: dict[str, Any] = {"bare": [], "sides": [], "agreement": {}, "rows": []}

    def save() -> None:
        report.notes = [*list_notes(args, results), *budget.notes]
        report.save(results, make_tables(results), partial(draw, results["sides"]))

    with tempfile.TemporaryDirectory() as folder:
        path = str(write_weights(Path(folder), device, args))
        settings = {}
        for dtype in args.dtypes:
            if budget.allows(f"{dtype}: the bare UNet", 20 * (not args.tiny)):
                settings[dtype] = measure_bare(path, dtype, device, args, results)
                save()
        bench = Bench(path, device, args, results, budget, save)
        for dtype, how in settings.items():
            measure_eager(bench, dtype, how)
        for dtype, how in settings.items():
            if not args.no_compile and budget.allows(f"{dtype}: compiled", 60 * (not args.tiny)):
                measure_compiled(bench, dtype, how)


def write_weights(folder: Path, device: torch.device, args: Namespace) -> Path:
    """The pipeline that all sides load."""
    return TinyPipeline(tokens=77).write(folder) if args.tiny else sd15.write(folder, device, torch.bfloat16)


def measure_bare(path: str, dtype: str, device: torch.device, args: Namespace, results: dict[str, Any]) -> list[str]:
    """Rows a second of the UNet and the floor; returns the fastest settings of ours."""
    best: tuple[float, list[str]] = (0.0, [])
    for form in args.formats:
        how = [f"backbone.dtype={dtype}", f"backbone.vae_dtype={dtype}", f"backbone.memory_format={form}"]
        how += [f"backbone.device={device.type}", *args.set]
        backbone = Ours.load(path, how).backbone
        found = scan_rows(backbone, ["predict"], args.rows, args.repeats, f"{dtype}, {form}: bare UNet")["predict"]
        rows = find_best(found)
        rate = rows / found[rows].spread.median
        config = dict(backbone.unet.config)
        latent, tokens = backbone.unet.config.sample_size, backbone.text_encoder.config.max_position_embeddings
        row = {"dtype": dtype, "format": form, "best_rows": rows, "rows_a_second": rate}
        row |= {"seconds": {n: timing.describe() for n, timing in found.items()}}
        row |= {"flops_a_row": sd15.count_flops(config, latent, tokens)}
        row |= {"matmul_flops": measure_matmul(args.matrix, getattr(torch, dtype), device)}
        results["bare"].append(row | {"share_of_matmul": rate * row["flops_a_row"] / row["matmul_flops"]})
        best = max(best, (rate, [*how, *fit_rows(rows, args.pictures)]))
        del backbone
    return best[1]


def fit_rows(rows: int, pictures: int) -> list[str]:
    """Settings of so many rows a call, fewer where a picture asks few: an inversion asks one row a step."""
    return [f"engine.batch.predict={rows}", f"+engine.batch.requests={pictures}"]


def measure_matmul(side: int, dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product: the best of several, after a warm-up."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = [measure_seconds(lambda: one @ other) for _ in range(12)]
    return 2 * side**3 / min(seconds[2:])


def make_requests(count: int, resolution: int) -> list[EditRequest]:
    """Rendered pictures under short texts, which the spelling tokenizer takes."""
    texts = {"source": "a bowl of apples", "target": "a bowl of pears"}
    return [replace(request, **texts) for request in load_scenes(count, resolution)]


def measure_eager(bench: Bench, dtype: str, how: Sequence[str]) -> None:
    """Ours and theirs, by turns."""
    args, results = bench.args, bench.results
    ours = Ours.load(bench.path, how)
    theirs = Theirs(bench.path, bench.device, getattr(torch, dtype), args.their_format, args.steps)
    requests = make_requests(args.pictures, ours.backbone.resolution)
    results["agreement"][dtype] = compare(ours, theirs, "diffedit", requests[0], 0.8)
    count = RowCount({"predict": ours.backbone.denoiser})
    for job, ratios in choose_jobs(args).items():
        calls = {
            EAGER: (partial(edit_ours, ours, requests, ratios, args.steps, count), len(requests)),
            "documented": (partial(theirs.edit_as_documented, requests[:1], ratios), 1),
        }
        for name, is_guided in (("batched", True), ("unguided", False)):
            batched = partial(theirs.edit_batched, requests, ratios, len(requests), is_guided, False)
            calls[name] = batched, len(requests)
        cold = calls if job == "edit" else ()
        sides = measure_job(dtype, job, calls, cold, ours, args, results, bench.budget)
        results["sides"] += sides
        for side in (side for side in sides if side["side"] == EAGER):
            asked = side["evaluations"] * len(requests)
            results["rows"].append({"dtype": dtype, "job": job, "asked": asked, "called": count.rows["predict"]})
        bench.save()
    count.close()


def edit_ours(
    ours: Ours, requests: Sequence[EditRequest], ratios: Sequence[float], steps: int, count: RowCount | None = None
) -> None:
    """DiffEdit as a run does it; rows are counted anew."""
    if count is not None:
        count.take()
    ours.edit(make_editor("diffedit"), requests, ratios, steps)


def measure_compiled(bench: Bench, dtype: str, how: Sequence[str]) -> None:
    """Ours compiled and eager, by turns; an error of the compiler is noted, and costs nothing else."""
    args, results, budget = bench.args, bench.results, bench.budget
    eager, compiled = Ours.load(bench.path, how), Ours.load(bench.path, [*how, f"backbone.compile={args.compile}"])
    requests = make_requests(args.pictures, eager.backbone.resolution)
    for job, ratios in choose_jobs(args).items():
        calls = {
            f"{name}{again}": (partial(edit_ours, ours, requests, ratios, args.steps), len(requests))
            for name, ours, again in ((EAGER, eager, " again"), (COMPILED, compiled, ""))
        }
        # Calls of a sweep have other sizes than those of one edit, and each size is compiled when it is first met.
        cold = calls if job == "edit" else [COMPILED]
        try:
            results["sides"] += measure_job(dtype, job, calls, cold, eager, args, results, budget)
        except Exception as error:
            budget.notes.append(f"{dtype}: compiled: {type(error).__name__}: {str(error).splitlines()[0]}")
            return
        finally:
            bench.save()


def measure_job(
    dtype: str,
    job: str,
    calls: Mapping[str, tuple[Callable[[], object], int]],
    cold: Collection[str],
    ours: Ours,
    args: Namespace,
    results: Mapping[str, Any],
    budget: Budget,
) -> list[dict[str, Any]]:
    """Seconds a picture of each side, times the floor, and times ours of the same round.

    `cold` names the calls that are warmed up: they meet something for the first time.
    """
    bare_calls = {name: call for name, (call, _) in calls.items()}
    timings = run_rounds(f"{dtype}, {job}", bare_calls, args.repeats, budget, cold)
    levels = ours.backbone.schedule(args.steps).start_levels(list(choose_jobs(args)[job]))
    bare = max((row for row in results["bare"] if row["dtype"] == dtype), key=lambda row: row["rows_a_second"])
    floor = count_ours(levels) * bare["flops_a_row"] / bare["matmul_flops"]
    first = next(iter(calls))
    described = []
    for name, (_, pictures) in calls.items():
        each = Timing([seconds / pictures for seconds in timings[name].seconds])
        if not each.seconds:
            continue
        row = {"dtype": dtype, "job": job, "side": name, "seconds_a_picture": each.describe()}
        row |= {"evaluations": count_ours(levels), "floor_seconds": floor, "times_floor": each.spread.median / floor}
        other = [seconds / calls[first][1] for seconds in timings[first].seconds]
        times = [one / two for one, two in zip(each.seconds, other, strict=False)]
        described.append(row | {"times_ours": {"raw": times, **vars(Spread.of(times))} if times else None})
    return described


def run_rounds(
    title: str,
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    budget: Budget,
    cold: Collection[str],
) -> dict[str, Timing]:
    """A warm-up of the cold calls, and interleaved rounds of all, as far as the budget goes."""
    timings: dict[str, Timing] = {name: Timing() for name in calls}
    last: dict[str, float] = dict.fromkeys(calls, 0.0)
    with tqdm(total=len(calls) * repeats + len(cold), desc=title, unit="call") as bar:
        for k in range(repeats + 1):
            for name in calls if k else cold:
                # Nothing is known before the warm-up; that of a compiled network takes much longer than a call.
                if not budget.allows(f"{title}, {name}, round {k}", last[name]):
                    continue
                bar.set_postfix_str(name, refresh=False)
                last[name] = measure_seconds(calls[name])
                timings[name].seconds.extend([last[name]] * (k > 0))
                bar.update()
    synchronize()
    return timings


def list_notes(args: Namespace, results: Mapping[str, Any]) -> list[str]:
    """What has to be known beside the tables."""
    notes = [
        f"{args.pictures} pictures in a call of ours and in a batch of theirs (documented: one), {args.steps} steps, "
        f"{args.repeats} repeats, a sweep of {args.sweep} ratios; random weights; median [range]",
        "floor: our evaluations x operations of the UNet / measured rate of a matrix product",
        "times ours: seconds a picture over those of ours, eager, in the same round",
    ]
    notes += [
        f"{row['dtype']}, {JOBS[row['job']]}: {row['called']:,} rows of our UNet for {row['asked']:,} asked; the first "
        "call of each size is made twice"
        for row in results["rows"]
    ]
    for dtype, found in results["agreement"].items():
        words = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        notes.append(f"{dtype}: largest differences between both sides told the same: {words}")
    return notes


def make_tables(results: Mapping[str, Any]) -> list[Table]:
    """The bare UNet; then a row a side."""
    bare = [
        (
            f"{row['dtype']}, {row['format']}",
            str(row["best_rows"]),
            f"{row['rows_a_second']:.1f}",
            f"{row['flops_a_row'] / 1e9:.1f}",
            f"{row['matmul_flops'] / 1e12:.2f}",
            f"{row['share_of_matmul']:.0%}",
        )
        for row in results["bare"]
    ]
    header = ("dtype, format", "rows a call", "rows a second", "GFLOP a row", "product, TFLOP/s", "share")
    tables = [Table("Bare UNet at its best rows a call, and a large matrix product", header, bare)]
    rows = [
        (
            f"{row['dtype']}, {row['job']}, {row['side']}",
            str(Spread(*(row["seconds_a_picture"][k] for k in ("median", "low", "high")))),
            f"{row['times_floor']:.2f}",
            "" if not row["times_ours"] else str(Spread(*(row["times_ours"][k] for k in ("median", "low", "high")))),
        )
        for row in results["sides"]
    ]
    if rows:
        tables.append(Table("DiffEdit", ("side", "seconds a picture", "times the floor", "times ours"), rows))
    return tables


def draw(sides: Sequence[Mapping[str, Any]], figure: Figure) -> None:
    """Times the floor: a panel a job."""
    for axes, job in zip(figure.subplots(1, len(JOBS)), JOBS, strict=True):
        shown = [row for row in sides if row["job"] == job]
        names = [f"{row['dtype']}\n{row['side']}" for row in shown]
        bars = axes.barh(range(len(shown)), [row["times_floor"] for row in shown], color="#4878a8")
        axes.bar_label(bars, [f" {row['times_floor']:.1f}" for row in shown], fontsize=8)
        axes.set_yticks(range(len(shown)), names, fontsize=7)
        axes.axvline(1, color="0.2", lw=1)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_title(JOBS[job], fontsize=10)
    figure.supxlabel("seconds a picture / the floor", fontsize=9)
