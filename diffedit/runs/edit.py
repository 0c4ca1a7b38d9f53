"""Edit what runs have not done: of one run, or of several beside each other, in one engine."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from diffedit.engine.engine import Engine, LiveProgram
from diffedit.engine.prefetch import prefetch_requests
from diffedit.engine.queries import Outcome, route_queries
from diffedit.engine.shared import SharedWork
from diffedit.engine.threads import RateWatch, warn_of_load
from diffedit.io.device import find_device
from diffedit.runs.held import HeldRun, Make, PreparedRun
from diffedit.runs.shared import log_evaluations, share_work
from diffedit.runs.stop import stop
from diffedit.runs.take_over import can_take_over, identify_method, take_over
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import EditRequest, EditResult, Program, Query

log = logging.getLogger("run")


class RunEndedError(RuntimeError):
    """A program's run has ended before it."""


def edit_runs(runs: Sequence[HeldRun]) -> Iterator[HeldRun]:
    """Edit what runs have not done; yield each as it ends: with all done, or with an error, which ends it alone.

    Several have one backbone, and equal settings of the engine and the cache. Their programs are called in turn: those
    of a picture meet, and make once what they share, in memory where there is no cache on disk. A result is the same to
    the bit as that of the run by itself, since it depends on nothing that is beside it.
    """
    first = runs[0].prepared
    watch = RateWatch() if find_device(first.backbone).type == "cpu" else None
    shared = share_work(first.backbone, first.settings, len(runs) > 1)
    options = first.settings.max_live, first.settings.embedding_cache, first.settings.progress
    engine = Engine(first.backbone, first.settings.batch, *options, shared=shared, watch=watch, check=stop.check)
    ended: set[HeldRun] = set()

    def note_ended() -> Iterator[HeldRun]:
        for run in runs:
            if run not in ended and run.has_ended():
                ended.add(run)
                yield run

    try:
        total = 0
        for run in runs:
            with run.alone():
                total += run.list_pending(f"{run.directory.root}: " if len(runs) > 1 else "")
        if any(run.wanted for run in runs) and watch:
            warn_of_load()
        while len(ended) < len(runs):
            for run, request, outcome in edit_pending(runs, engine, total):
                if run not in ended:
                    with run.alone():
                        run.take(request, outcome)
                yield from note_ended()
                if len(ended) == len(runs):
                    return
            yield from note_ended()
            for run in runs:
                if run not in ended:
                    with run.alone():
                        run.want_more(engine.max_live)
            yield from note_ended()
    finally:
        log_evaluations(engine)
        if engine.rows:
            log.info(engine.describe_padding())
        if shared is not None:
            shared.close()


def edit_pending(runs: Sequence[HeldRun], engine: Engine, total: int) -> Iterator[tuple[HeldRun, EditRequest, Outcome]]:
    """What comes of each request that runs have not done and can take, as it comes; `total` of them are expected."""
    makers = dict(zip(runs, choose_makers([run.prepared for run in runs], engine.shared), strict=True))
    live: dict[str, tuple[HeldRun, EditRequest]] = {}

    def programs() -> Iterator[tuple[str, Program[EditResult]]]:
        for run, request in draw_requests(runs, engine.max_live):
            name = f"{runs.index(run)} {request.id}"
            live[name] = run, request
            program = run.make_program(request, makers[run])
            yield name, program if len(runs) == 1 else stop_with(run, program)

    edits = {len(run.prepared.settings.ratios) for run in runs}
    counted = (edits.pop(), "edit") if len(edits) == 1 else (1, "request")
    for outcome in engine.run(programs(), total, *counted):
        yield *live.pop(outcome.id), outcome


def stop_with(run: HeldRun, program: Program[EditResult]) -> Program[EditResult]:
    """The same program, which asks nothing more once its run has ended."""

    def ask(query: Query) -> Program[Any]:
        if run.error is not None:
            raise RunEndedError(f"{run.directory.root} has ended")
        return (yield query)

    return route_queries(program, ask)


def draw_requests(runs: Sequence[HeldRun], depth: int) -> Iterator[tuple[HeldRun, EditRequest]]:
    """What is to be edited, benchmarks and the runs of one in turn; their pictures are opened ahead, once for all."""
    groups = group_by_requests(runs)
    # A shard is claimed as its first picture is opened: not many ahead of what is edited.
    ahead = max(min(depth // len(runs), 2 * runs[0].prepared.settings.threads), 1)
    streams = [(group, open_ahead(group, ahead)) for group in groups]
    while streams:
        for stream in tuple(streams):
            group, requests = stream
            try:
                request = next(requests, None)
            except Exception as error:
                if len(group) == len(runs):
                    raise
                request = None
                for run in group:
                    run.error = run.error or error
            if request is None:
                streams.remove(stream)
            else:
                yield from ((run, request) for run in group if wants(run, request))


def group_by_requests(runs: Sequence[HeldRun]) -> list[list[HeldRun]]:
    """Runs of equal benchmarks, cut alike, together."""
    groups: list[list[HeldRun]] = []
    for run in runs:
        for group in groups:
            first = group[0]
            if run.cut.size == first.cut.size and run.prepared.benchmark == first.prepared.benchmark:
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def open_ahead(group: Sequence[HeldRun], depth: int) -> Iterator[EditRequest]:
    """The requests of a benchmark that some of these runs want, their pictures opened."""
    inputs = {name for run in group for name in run.prepared.pipeline.editor.inputs}
    threads = group[0].prepared.settings.threads
    return prefetch_requests(take_shards(group), inputs, threads, depth, len(group))


def take_shards(group: Sequence[HeldRun]) -> Iterator[EditRequest]:
    """The requests of the shards that some of these runs, of one benchmark and cut, want and can take."""

    def take(numbers: set[int]) -> Iterator[EditRequest]:
        for number, requests in group[0].draw_shards(numbers):
            for run in group:
                if run.error is None and number in run.wanted:
                    with run.alone():
                        run.take_shard(number, requests)
            yield from (request for request in requests if any(wants(run, request) for run in group))

    yield from take({number for run in group for number in run.wanted})
    for run in group:
        run.wanted, run.is_drawn = set(), True


def wants(run: HeldRun, request: EditRequest) -> bool:
    """Whether a run is to edit a request."""
    return run.error is None and request.id in run.todo


def choose_makers(runs: Sequence[PreparedRun], shared: SharedWork[LiveProgram] | None) -> list[Make]:
    """Of each run: `take_over`, where its edits may be there already or another wants them; or the method as it is."""

    def identify(run: PreparedRun) -> tuple[Any, ...] | None:
        is_asked = shared is not None and run.settings.cache_edits and can_take_over(run.pipeline)
        return (identify_method(run.pipeline), run.settings.seed, run.settings.steps) if is_asked else None

    methods = [identify(run) for run in runs]
    count = Counter(methods)
    return [
        take_over if method and (run.settings.cache or count[method] > 1) else EditPipeline.__call__
        for run, method in zip(runs, methods, strict=True)
    ]
