"""What a run would cost, before it is made: evaluations by what they are for, what the cache saves, shards, time, disk.

All within seconds (`BUDGET`), whatever the benchmark: of many requests as many are looked at as there is time for, and
where an earlier run of the same networks tells how fast they are, none is called for that.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text
from tqdm.auto import tqdm

from diffedit.engine.sizes import AskedSizes
from diffedit.runs.cut import ONE, Cut, Tasks, choose_size, list_shards, read_cut, read_summary_once, stamp
from diffedit.runs.describe import read_fingerprint
from diffedit.runs.directory import RunDirectory
from diffedit.runs.earlier import EarlierRun, Rate, choose_earlier, find_own_device, find_rate, find_sizes, read_newest
from diffedit.runs.edit import choose_makers
from diffedit.runs.held import AskedRun, Make, PreparedRun, prepare_run
from diffedit.runs.loop import RunSettings
from diffedit.runs.planner import Deadline, Planner
from diffedit.runs.shared import share_work
from diffedit.runs.space import Pending, Space, estimate_space
from diffedit.runs.together import Tell, group_by, name_engine
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Benchmark, EditRequest, EditResult, Program

BUDGET = 8.0  # seconds that a plan takes, once the networks are loaded
FOR_EARLIER, FOR_CALLS = 1.5, 2.5  # of these, to look for earlier runs, and to time calls of networks
LOOKED_AT = 256  # requests whose programs are run, at most; those of more are estimated from them
LOOKED_INTO = 1024  # requests of a run that is begun whose files are looked at; of more, shards say what is done


class Shards(NamedTuple):
    """How runs are cut.

    Attributes:
        size: requests in a shard.
        total: how many there are.
        done: of these.
    """

    size: int = 1
    total: int = 0
    done: int = 0

    def add(self, other: "Shards") -> "Shards":
        """Those of two runs."""
        return Shards(max(self.size, other.size), self.total + other.total, self.done + other.done)


class Left(NamedTuple):
    """What a run has not done.

    Attributes:
        pending: its requests.
        shards: how it is cut.
    """

    pending: list[Pending]
    shards: Shards


@dataclass
class Plan:
    """What a run is going to ask of the networks, and of the disk.

    Attributes:
        requests: to be edited.
        looked_at: of these, spread evenly.
        made: evaluations by purpose.
        recalled: evaluations that the cache saves, by purpose.
        pictures: for the autoencoder, by direction.
        seconds: of one process; None where nothing tells how fast the networks are.
        rate: of an earlier run, by which they were reckoned; None for that of a short measurement.
        shards: how it is cut.
        tasks: who is to edit.
        space: what is written; None where nothing is.
    """

    requests: int
    looked_at: int
    made: Counter[str] = field(default_factory=Counter)
    recalled: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    seconds: float | None = 0.0
    rate: Rate | None = None
    shards: Shards = Shards()
    tasks: Tasks = ONE
    space: Space | None = None

    def scale(self) -> "Plan":
        """For all requests, from those that were looked at."""
        factor = self.requests / self.looked_at if self.looked_at else 0
        made, recalled, pictures = (
            Counter({key: round(count * factor) for key, count in part.items()})
            for part in (self.made, self.recalled, self.pictures)
        )
        return replace(self, made=made, recalled=recalled, pictures=pictures)

    def table(self) -> Group:
        """For a terminal: a row a purpose; below it pictures, shards, time, tasks, disk."""
        estimated = "" if self.looked_at == self.requests else f", estimated from {self.looked_at}"
        table = Table(title=f"{self.requests:,} requests to edit{estimated}", title_justify="left")
        table.add_column("evaluations for")
        table.add_column("to make", justify="right")
        table.add_column("not made again", justify="right")
        for purpose in sorted(self.made | self.recalled):
            table.add_row(purpose, f"{self.made[purpose]:,}", f"{self.recalled[purpose]:,}")
        table.add_row("all", f"{self.made.total():,}", f"{self.recalled.total():,}", style="bold")
        return Group(table, *(Text(line) for line in self.describe()))

    def describe(self) -> Iterator[str]:
        """What stands below the table, a line each."""
        parts = [f"{count:,} {name}" for name, count in sorted(self.pictures.items())]
        yield f"pictures: {', '.join(parts) or 'none'}"
        size, total, done = self.shards
        yield f"shards: {total:,} of {size:,} requests, {done:,} of them done"
        yield f"time: {self.describe_time()}"
        if self.tasks != ONE:
            yield self.describe_tasks()
        if self.space is not None:
            yield self.space.describe()

    def describe_time(self) -> str:
        """Of one process, and where it comes from."""
        if self.seconds is None:
            return (
                "not known: there is no earlier run of this backbone, and its networks are too large to be measured "
                "here: edit a few requests where the run is to go (benchmark.size=8), then plan again"
            )
        told = f"about {describe_seconds(self.seconds)}"
        if self.rate is None:
            return f"{told} at this device's rate, of a few calls"
        return f"{told} at {self.rate.seconds:.3g} s an evaluation, as in {self.rate.run} on {self.rate.device}"

    def describe_tasks(self) -> str:
        """What each of several processes does."""
        size, total, done = self.shards
        left = total - done
        count = max(min(self.tasks.count, left), 1)
        each = -(-left // count)
        shards = f"{each:,} shard" + "s" * (each != 1)
        line = f"{self.tasks.count} tasks: {shards} ({min(each * size, self.requests):,} requests) each at most"
        if self.seconds is None or not left:
            return line
        seconds = self.seconds * each / left
        turns = -(-count // (self.tasks.at_once or count))
        device = "this device" if self.rate is None else "that run"
        line += f", about {describe_seconds(seconds)} a task"
        line += f" and {describe_seconds(seconds * turns)} in all, {self.tasks.at_once} at once" if turns > 1 else ""
        return f"{line}, beside loading, if each is as fast as {device}"


def plan_benchmark(
    benchmark: Benchmark,
    pipeline: EditPipeline,
    backbone: Backbone,
    root: Path,
    settings: RunSettings,
    config: Mapping[str, Any],
    tasks: Tasks = ONE,
) -> Plan:
    """What `run_benchmark` with the same arguments would cost, and raise; nothing is edited, and no run is begun."""
    weights = read_fingerprint(backbone)  # which takes as long as loading the networks does
    deadline = Deadline(BUDGET)
    run = settle_soon(prepare_run(AskedRun(benchmark, pipeline, root, settings, config), backbone, weights))
    run.warn()
    return plan_runs({run: find_left(run, tasks)}, tasks, deadline)


def plan_together(asked: Sequence[AskedRun], backbone: Backbone, tell: Tell, tasks: Tasks = ONE) -> Iterator[Plan]:
    """What `edit_together` with the same arguments would cost, an engine at a time; runs that are refused are told."""
    weights = read_fingerprint(backbone)
    deadline, left = Deadline(BUDGET), {}
    for one in asked:
        try:
            run = settle_soon(prepare_run(one, backbone, weights))
            left[run] = find_left(run, tasks)
            run.warn()
        except Exception as error:
            tell(one, error)
    groups = group_by(left, lambda run: (name_engine(run.settings), run.settings.batch))
    for i, runs in enumerate(groups):
        share = Deadline(deadline.left() / (len(groups) - i))
        yield plan_runs({run: left[run] for run in runs}, tasks, share)


def settle_soon(run: PreparedRun) -> PreparedRun:
    """The run with numbers for the sizes of a batch; none is measured, but where what is shared is known by them."""
    asked = run.settings.batch
    if isinstance(asked, AskedSizes) and not run.is_begun and run.settings.cache is None:
        words = {name: "default" for name, size in vars(asked).items() if size == "auto"}
        run = replace(run, settings=replace(run.settings, batch=replace(asked, **words)))
    return run.settle()


def plan_runs(left: Mapping[PreparedRun, Left], tasks: Tasks, deadline: Deadline) -> Plan:
    """What `edit_runs` would spend on what is left of runs, whose batches are settled; shared work counts once."""
    first, *others = left
    earlier = look_back(left, deadline)
    rate = find_rate(earlier[first], find_own_device(), tasks.is_here)
    shared = share_work(first.backbone, first.settings, bool(others))
    makers = zip(left, choose_makers(list(left), shared), strict=True)
    programs = [(left[run].pending, partial(make_pending, run, make)) for run, make in makers]
    planner = Planner(first.backbone, first.settings.batch, shared)
    plan = look_at_programs(programs, planner, deadline, 0.0 if rate else FOR_CALLS, first.settings.progress)
    if shared is not None:
        shared.close()
    plan.rate, plan.tasks = rate, tasks
    plan.seconds = rate.seconds * plan.made.total() if rate else planner.measure(plan, deadline)
    for part in left.values():
        plan.shards = part.shards if plan.shards.total == 0 else plan.shards.add(part.shards)
    pending = {run: part.pending for run, part in left.items()}
    sizes = {run: find_sizes(earlier[run]) for run in left}
    shards = {run: part.shards.total - part.shards.done for run, part in left.items()}
    places = planner.count_pixels(), planner.count_places()
    plan.space = estimate_space(pending, sizes, places, shards) if plan.requests else None
    return plan


def make_pending(run: PreparedRun, make: Make, pending: Pending) -> Program[EditResult]:
    """What edits a request at the strengths that it lacks."""
    request, ratios = pending
    return run.make_program(request, make, ratios)


def look_back(runs: Iterable[PreparedRun], deadline: Deadline) -> dict[PreparedRun, list[EarlierRun]]:
    """Of each run the earlier ones of its networks, below the folder where its own lies."""
    soon = Deadline(min(FOR_EARLIER, deadline.left()))
    folders = {run: Path(str(run.config.get("runs") or run.root.parent)) for run in runs}
    weights = next(iter(folders)).config["weights"]  # of all: they have one backbone
    newest = {folder: read_newest(folder, weights, soon) for folder in dict.fromkeys(folders.values())}
    return {run: choose_earlier(newest[folder], run.config) for run, folder in folders.items()}


# ---------------------------------------------------------------------------------------------------- what is not done


def find_left(run: PreparedRun, tasks: Tasks) -> Left:
    """The requests that a run has not done, at which strengths, and its shards."""
    requests = list(run.benchmark.requests(run.backbone.resolution))
    size = choose_size(run.settings.shard_size, len(requests), max(run.settings.share.of, tasks.count))
    if not run.is_begun:
        pending: list[Pending] = [(request, run.settings.ratios) for request in requests]
        return Left(pending, Shards(size, -(-len(requests) // size)))
    directory = run.open_directory()
    cut = read_cut(run.root) or Cut(size, len(requests), "")
    sure = find_sure(directory, cut, requests)
    unsure = (request for i, request in enumerate(requests) if i // cut.size not in sure)
    missing = {request.id for request in directory.find_pending(unsure)}
    pending, open_shards = [], set()
    for i, request in enumerate(requests):
        if request.id in missing:
            pending.append((request, directory.choose_missing(request.id)))
            open_shards.add(i // cut.size)
    total = -(-len(requests) // cut.size)
    return Left(pending, Shards(cut.size, total, total - len(open_shards)))


def find_sure(directory: RunDirectory, cut: Cut, requests: Sequence[EditRequest]) -> set[int]:
    """The shards of a large run whose files say that all of them is done, and whose pictures are not looked at.

    None where the run is small, or asks for other requests or more strengths than before.
    """
    ids = (request.id for request in requests)
    if len(requests) <= LOOKED_INTO or directory.extended or Cut.of(ids, cut.size) != cut:
        return set()
    sure = set()
    for path in list_shards(directory.root):
        try:
            summary = read_summary_once(path, stamp(path))
            whole = not summary["failed"] and summary["edits"] == summary["done"] * len(directory.variants)
        except (OSError, KeyError, TypeError):
            continue
        if whole:
            sure.add(int(path.stem))
    loose = {path.name for path in (directory.root / "records").glob("*.json")}
    if loose:
        sure -= {
            i // cut.size for i, one in enumerate(requests) if directory.path("records", one.id, "json").name in loose
        }
    return sure


# ------------------------------------------------------------------------------------------------------------ programs


Programs = tuple[Sequence[Pending], Callable[[Pending], Program[EditResult]]]
"""The requests of a run, and what makes the program of one."""


def look_at_programs(
    runs: Sequence[Programs], planner: Planner, deadline: Deadline, spared: float = 0.0, progress: bool = True
) -> Plan:
    """What the programs of runs would ask; each is made and looked at by itself, those of a picture in turn.

    Args:
        runs: all their requests.
        planner: looks at them.
        deadline: of the plan.
        spared: seconds before it after which no more are looked at.
        progress: show a bar.
    """
    counts = [len(pending) for pending, _ in runs]
    places = spread_evenly(max(counts), max(LOOKED_AT // len(runs), 1))
    plan = Plan(sum(counts), 0)
    for i in tqdm(order_coarsely(places), "planning", unit="request", disable=not progress):
        if plan.looked_at and deadline.left() < spared:
            break
        for pending, make in runs:
            if i < len(pending):
                planner.look(make(pending[i]), plan)
                plan.looked_at += 1
    return plan.scale()


def spread_evenly(count: int, most: int) -> list[int]:
    """At most so many places among `count`, first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count // 2]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def order_coarsely(places: Sequence[int]) -> list[int]:
    """The same places, so that the first few of them, however many, are spread evenly too."""
    order = sorted(range(len(places)), key=lambda i: f"{i:032b}"[::-1])
    return [places[i] for i in order]


def describe_seconds(seconds: float) -> str:
    """In the unit that one thinks in."""
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.0f} seconds"
