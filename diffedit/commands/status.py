"""`diffedit status`: how far runs are, what failed and why, who is at them, and how long it takes them yet."""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from os.path import commonpath
from typing import Any

from diffedit.commands.launch import tell
from diffedit.io.files import describe_size
from diffedit.runs.find import find_runs
from diffedit.runs.status import RunStatus, read_status
from diffedit.runs.workers import Worker

WIDTH = 100  # of a file or a pipe
EVERY = 10.0  # seconds between two looks
LINES = 8  # that are shown of one kind
logging.getLogger("run").addHandler(logging.NullHandler())  # what is damaged is told in the table
STYLES = {"damaged": "red", "failed": "red", "done": "green"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 1 where something failed or is damaged, 3 where not all is done, else 0."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.watch is not None and not 0 < options.watch <= 86400:
        parser.error("--watch: seconds are wanted, from above 0 to 86400")
    while True:
        try:
            runs = [read_status(root) for root in find_runs(options.runs)]
        except OSError as error:
            return tell(error, "diffedit status")
        if options.json:
            indent = 1 if options.watch is None else None
            print(json.dumps([describe(run) for run in runs], indent=indent, ensure_ascii=False), flush=True)
        else:
            show(runs, options.watch is not None)
        if options.watch is None or all(run.is_complete for run in runs):
            return choose_code(runs)
        time.sleep(options.watch)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "diffedit status",
        description="Show how far runs are: what is done, failed and why, or missing; who is at it, how fast, and how\n"
        "long yet; what it takes on disk. It reads what lies in the run directories, and asks no queue.",
        epilog="examples:\n  diffedit status\n  diffedit status runs/imagenet /scratch/runs --watch 30\n"
        '  diffedit status "runs/*/sd15" --json\n\n'
        "exit codes:\n  0  all is done\n  1  some requests failed, or a file is damaged\n"
        "  3  some are missing, or a process is at it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", metavar="FOLDER", default=["runs"], help="of runs, at any depth (runs)")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=EVERY,
        help=f"look again until nothing is missing ({EVERY:g})",
    )
    parser.add_argument("--json", action="store_true", help="for programs; with --watch a line a look")
    return parser


def choose_code(runs: Sequence[RunStatus]) -> int:
    """The exit code of several runs: what failed or is damaged goes before what is missing."""
    codes = {run.exit_code for run in runs}
    return 1 if 1 in codes else max(codes)


def describe(run: RunStatus) -> dict[str, Any]:
    """A status for programs: sizes in bytes, spans and times in seconds, None for what is not known."""
    return asdict(run) | {"missing": run.missing, "state": run.state, "is_complete": run.is_complete}


# ----------------------------------------------------------------------------------------------------------------- show


def show(runs: Sequence[RunStatus], is_watched: bool) -> None:
    """Print a table, a line a run, and below it what there is to say of each; where it is watched, over the last."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    if is_watched and console.is_terminal:
        console.clear()
    folder, names = split_names([run.run for run in runs])
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title=folder or None, title_justify="left")
    table.add_column("run", overflow="fold")
    for name in ("state", "shards", "done", "failed", "missing", "an hour", "left", "disk"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for run, name in zip(runs, names, strict=True):
        table.add_row(Text(name), Text(run.state, STYLES.get(run.state, "")), *map(Text, list_cells(run)))
    console.print(table)
    for run, name in zip(runs, names, strict=True):
        if lines := list(explain(run)):
            console.print(Text(f"\n{name}", "bold"))
            console.print(*(Text(f"  {line}") for line in lines), sep="\n")


def split_names(names: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all lie in, and how each is called there."""
    try:
        folder = commonpath([name.rpartition("/")[0] for name in names])
    except ValueError:  # some are relative
        folder = ""
    return folder, [name.removeprefix(f"{folder}/") if folder else name for name in names]


def list_cells(run: RunStatus) -> list[str]:
    """The numbers of a line: shards, done, failed, missing, an hour, left, disk."""
    rate = "" if not run.workers else "?" if run.an_hour is None else f"{run.an_hour:,.0f}"
    left = "" if not run.workers else "?" if run.seconds_left is None else describe_span(run.seconds_left)
    counts = [count_of(run.shards_done, run.shards), count_of(run.done, run.requests)]
    counts += [f"{run.failed:,}", "?" if run.missing is None else f"{run.missing:,}"]
    return [*counts, rate, left, ("≥ " if run.is_least else "") + describe_size(run.bytes)]


def explain(run: RunStatus) -> Iterator[str]:
    """What there is to say of a run beside its numbers, a line each."""
    yield from shorten([f"damaged: {line}" for line in run.damage])
    yield from shorten([f"at work: {describe_worker(worker)}" for worker in run.workers])
    reasons = sorted(run.failures.items(), key=lambda pair: -pair[1].count)
    yield from shorten([f"failed: {each.count:,} {reason}, as {each.example}" for reason, each in reasons])
    if run.archive is not None:
        yield f"pictures: in {run.archive}"
    yield from run.notes


def shorten(lines: Sequence[str]) -> Sequence[str]:
    """The first of many lines, and how many more there are."""
    return lines if len(lines) <= LINES else [*lines[:LINES], f"and {len(lines) - LINES} more (--json has them all)"]


def describe_worker(worker: Worker) -> str:
    """Who is at a run, at what of it, since when, how fast."""
    since = "?" if worker.since is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(worker.since))
    shards = ", ".join(map(str, sorted(worker.shards)[:4])) + ", ..." * (len(worker.shards) > 4)
    what = f"shard{'s' * (len(worker.shards) > 1)} {shards}" if worker.shards else "the whole run"
    rate = "" if worker.an_hour is None else f", {worker.an_hour:,.0f} requests an hour"
    return f"{worker.node}, process {worker.process or '?'}, {what} since {since}{rate}"


def count_of(part: int, total: int | None) -> str:
    """So many of so many."""
    return f"{part:,}/{'?' if total is None else f'{total:,}'}"


def describe_span(seconds: float) -> str:
    """Seconds in the two units that matter."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "< 1 min"
    if minutes < 60:
        return f"{minutes} min"
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // 1440} d {minutes // 60 % 24} h"
    )
