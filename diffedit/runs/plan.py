"""What a run would cost, before it is made: evaluations by what they are for, what the cache saves, and the time.

The programs are run with the answers left out: each gets zeros of the right shape, so that nothing is evaluated but the
texts, whose conditions are part of what work is shared by.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from tqdm.auto import tqdm

from diffedit.engine.engine import BatchSizes, LiveProgram
from diffedit.engine.queries import call_network
from diffedit.engine.shared import SharedWork, share_encoding
from diffedit.runs.edit import choose_makers
from diffedit.runs.held import AskedRun, PreparedRun, prepare_run
from diffedit.runs.loop import RunSettings
from diffedit.runs.shared import share_work
from diffedit.runs.take_over import Count, add_cost
from diffedit.runs.together import Tell, group_by, name_engine
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import (
    Backbone,
    Benchmark,
    Credit,
    Custom,
    CustomBatch,
    Decode,
    EditRequest,
    EditResult,
    Embed,
    Encode,
    Keep,
    Level,
    Predict,
    Prediction,
    Program,
    Query,
    Recall,
)

Pending = tuple[EditRequest, Sequence[float]]
"""A request, and the strengths that it is to be edited at."""

LOOKED_AT = 256  # requests whose programs are run; those of more are estimated from them
REPEATS = 3  # of a call that is timed


@dataclass
class Plan:
    """What a run is going to ask of the networks.

    Attributes:
        requests: to be edited.
        looked_at: of these, spread evenly.
        made: evaluations by purpose.
        recalled: evaluations that the cache saves, by purpose.
        pictures: for the autoencoder, by direction.
        seconds: that the calls take, at the rate of a short measurement.
    """

    requests: int
    looked_at: int
    made: Counter[str] = field(default_factory=Counter)
    recalled: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def scale(self) -> "Plan":
        """For all requests, from those that were looked at."""
        factor = self.requests / self.looked_at if self.looked_at else 0
        made, recalled, pictures = (
            Counter({key: round(count * factor) for key, count in part.items()})
            for part in (self.made, self.recalled, self.pictures)
        )
        return Plan(self.requests, self.looked_at, made, recalled, pictures)

    def table(self) -> Table:
        """For a terminal: a row a purpose."""
        estimated = "" if self.looked_at == self.requests else f", estimated from {self.looked_at}"
        table = Table(title=f"{self.requests} requests to edit{estimated}", title_justify="left")
        table.add_column("evaluations for")
        table.add_column("to make", justify="right")
        table.add_column("not made again", justify="right")
        for purpose in sorted(self.made | self.recalled):
            table.add_row(purpose, f"{self.made[purpose]:,}", f"{self.recalled[purpose]:,}")
        table.add_row("all", f"{self.made.total():,}", f"{self.recalled.total():,}", style="bold")
        parts = [f"{count:,} pictures {name}" for name, count in sorted(self.pictures.items())]
        table.caption = f"{', '.join(parts)}; about {describe_seconds(self.seconds)} at this device's rate"
        table.caption_justify = "left"
        return table


def plan_benchmark(
    benchmark: Benchmark,
    pipeline: EditPipeline,
    backbone: Backbone,
    root: Path,
    settings: RunSettings,
    config: Mapping[str, Any],
) -> Plan:
    """What `run_benchmark` with the same arguments would cost, and raise; nothing is edited, and no run is begun."""
    run = prepare_run(AskedRun(benchmark, pipeline, root, settings, config), backbone).settle()
    return plan_runs({run: list_pending(run)})


def plan_runs(pending: Mapping[PreparedRun, Sequence[Pending]]) -> Plan:
    """What `edit_runs` would spend on requests of these runs, whose batches are settled; shared work counts once."""
    runs = list(pending)
    first = runs[0]
    shared = share_work(first.backbone, first.settings, len(runs) > 1)
    makers = choose_makers(runs, shared)
    programs = [
        [partial(run.make_program, request, make, ratios) for request, ratios in pending[run]]
        for run, make in zip(runs, makers, strict=True)
    ]
    planner = Planner(first.backbone, first.settings.batch, shared)
    plan = plan_programs(programs, planner, first.settings.progress)
    if shared is not None:
        shared.close()
    return plan


def plan_together(asked: Sequence[AskedRun], backbone: Backbone, tell: Tell) -> Iterator[Plan]:
    """What `edit_together` with the same arguments would cost, an engine at a time; runs that are refused are told."""
    pending: dict[PreparedRun, list[Pending]] = {}
    for one in asked:
        try:
            run = prepare_run(one, backbone).settle()
            pending[run] = list_pending(run)
        except Exception as error:
            tell(one, error)
    for runs in group_by(pending, lambda run: (name_engine(run.settings), run.settings.batch)):
        yield plan_runs({run: pending[run] for run in runs})


def list_pending(run: PreparedRun) -> list[Pending]:
    """The requests that a run has not done, and at which strengths."""
    requests = run.benchmark.requests(run.backbone.resolution)
    if not run.is_begun:
        return [(request, run.settings.ratios) for request in requests]
    directory = run.open_directory()
    return [(request, directory.choose_missing(request.id)) for request in directory.find_pending(requests)]


def plan_programs(
    programs: Sequence[Sequence[Callable[[], Program[EditResult]]]], planner: "Planner", progress: bool = True
) -> Plan:
    """What these programs, by run, would ask; each is made and looked at by itself, those of a picture in turn."""
    places = spread_evenly(max(map(len, programs)), max(LOOKED_AT // len(programs), 1))
    chosen = [run[i] for i in places for run in programs if i < len(run)]
    plan = Plan(sum(map(len, programs)), len(chosen))
    for make in tqdm(chosen, "planning", unit="request", disable=not progress):
        planner.look(make(), plan)
    plan = plan.scale()
    plan.seconds = planner.measure(plan)
    return plan


def spread_evenly(count: int, most: int) -> list[int]:
    """At most so many places among `count`, first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count // 2]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


class Planner:
    """Answers queries without evaluating anything but texts.

    Args:
        backbone: the networks.
        batch: rows of a call.
        shared: what earlier runs left; None where nothing is shared.
    """

    def __init__(self, backbone: Backbone, batch: BatchSizes, shared: SharedWork[LiveProgram] | None) -> None:
        self.backbone, self.batch, self.shared = backbone, batch, shared
        self.conds: dict[str, Any] = {}
        self.planned: dict[str, Sequence[Any]] = {}  # lists that a program before would have made
        self.examples: dict[str, Any] = {}  # of a method's own functions, an answer each
        self.latent: Tensor | None = None

    @torch.no_grad()
    def look(self, program: Program[EditResult], plan: Plan) -> None:
        """Run one program to its end; a ValueError where it asks what cannot be left out."""
        program = share_encoding(program) if self.shared is not None else program
        answer, count = None, Counter()
        while True:
            try:
                query = program.send(answer)
            except StopIteration:
                break
            if isinstance(query, Custom):  # a ranking, a fit of the decoder: what comes after all evaluations
                program.close()
                break
            answer = self.answer(query, count, plan)
        for (purpose, _), evaluations in count.items():
            plan.made[purpose] += evaluations

    def answer(self, query: Query, count: Count, plan: Plan) -> Any:
        """Zeros for the answer of a network; what is known for a `Recall`."""
        match query:
            case Recall():
                return self.recall(query)
            case Keep():
                if self.shared is not None and (name := self.shared.name(query.recall)) is not None:
                    self.planned[name] = [query.items[-1]] * len(query.items)  # nobody looks at what is in it
            case Credit():
                plan.recalled[query.purpose] += sum(query.evaluations.values())
            case Embed():
                return [self.embed(text) for text in query.texts]
            case Encode():
                plan.pictures["to encode"] += 1
                return self.make_latent(query)
            case Decode():
                plan.pictures["to decode"] += len(query.latents)
                return query.latents.new_zeros(
                    len(query.latents), 3, self.backbone.resolution, self.backbone.resolution
                )
            case Predict():
                add_cost(query, count)
                return Prediction(torch.zeros_like(query.x), torch.zeros_like(query.x))
            case CustomBatch():
                add_cost(query, count)
                return [self.ask_once(query)] * len(query.rows)
        return None

    def recall(self, query: Recall) -> Sequence[Any]:
        """What is in the cache, or would be by then."""
        if self.shared is None or (name := self.shared.name(query)) is None:
            return []
        return self.planned.get(name) or self.shared.look_up(name, query)

    def ask_once(self, query: CustomBatch) -> Any:
        """An answer of a method's own function: that to the first row, for all that follow."""
        name = getattr(query.fn, "__qualname__", repr(query.fn))
        if name not in self.examples:
            self.examples[name] = call_network(self.backbone, query.fn, query.rows[:1])[0]
        return self.examples[name]

    def embed(self, text: str) -> Any:
        """The condition of a text, as the engine asks for it."""
        if text not in self.conds:
            known = self.shared.find_text(text) if self.shared is not None else None
            rows = [(text,)] * self.batch.embed
            self.conds[text] = call_network(self.backbone, Embed, rows)[0] if known is None else known
        return self.conds[text]

    def make_latent(self, query: Encode) -> Tensor:
        """Noise of the picture's own, so that no two pictures are taken for one, in the shape of a latent."""
        if self.latent is None:
            self.latent = call_network(self.backbone, Encode, [(query.image, False)])[0]
        seed = int(query.image.double().sum().item() * 1e6) % 2**31
        draw = torch.Generator().manual_seed(seed)
        shape = (1 + query.spread, *self.latent.shape[1:])
        return torch.randn(shape, generator=draw).to(self.latent)

    def measure(self, plan: Plan) -> float:
        """Seconds of all calls, from the time of a few of each kind."""
        if self.latent is None:
            return 0.0
        text, level = next(iter(self.conds.values())), Level(0.8, 0.6, 500)
        image = torch.zeros(3, self.backbone.resolution, self.backbone.resolution)
        work = {
            Predict: (plan.made.total(), (self.latent[0], level, text), self.batch.predict),
            Encode: (plan.pictures["to encode"], (image, False), self.batch.encode),
            Decode: (plan.pictures["to decode"], (self.latent[0],), self.batch.decode),
        }
        return sum(rows / size * time_call(self.backbone, kind, row, size) for kind, (rows, row, size) in work.items())


def time_call(backbone: Backbone, kind: Any, row: tuple[Any, ...], size: int) -> float:
    """Seconds of one call of this size: the least of a few, after one that is not counted."""
    return min(list(time_calls(backbone, kind, [row] * size))[1:])


def time_calls(backbone: Backbone, kind: Any, rows: Sequence[tuple[Any, ...]]) -> Iterator[float]:
    """Seconds of each of some calls; a GPU has finished."""
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        call_network(backbone, kind, rows)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        yield time.perf_counter() - began


def describe_seconds(seconds: float) -> str:
    """In the unit that one thinks in."""
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.0f} seconds"
