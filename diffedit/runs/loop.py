"""Edit every request of a benchmark into a run directory; go on where a killed run stopped."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from annotated_types import Ge, Gt

from diffedit.engine.engine import Engine, LiveProgram
from diffedit.engine.prefetch import prefetch_requests
from diffedit.engine.shared import SharedWork
from diffedit.engine.sizes import AskedSizes, BatchSizes, choose_sizes
from diffedit.engine.threads import RateWatch, set_threads, warn_of_load
from diffedit.io.checks import settings
from diffedit.io.device import find_device
from diffedit.io.trust import trust_config
from diffedit.runs.claim import Claim, claim
from diffedit.runs.describe import describe_run, read_fingerprint
from diffedit.runs.directory import (
    RunDirectory,
    complete_config,
    hash_config,
    read_run_config,
    refuse_other_claim,
    refuse_other_config,
)
from diffedit.runs.records import Verify
from diffedit.runs.requests import check_requests
from diffedit.runs.shared import log_evaluations, share_work
from diffedit.runs.take_over import can_take_over, take_over
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import check_ratios
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Benchmark, EditRequest, EditResult, Program

log = logging.getLogger("run")

FLAGS = {
    "empty": "nothing is edited",
    "no contrast": "the noises agree by less than editor.mask.floor, nothing is edited",
    "full": "everything is",
    "nearly full": "more than 95 % of the places are edited",
    "lost": "too thin for the latent grid, nothing is edited: editor.mask.downsample=any",
}


class RunFailedError(RuntimeError):
    """Some request failed; what was edited is saved."""

    exit_code = 1


@settings
class RunSettings:
    """What a run is asked for beside benchmark, method and model.

    Attributes:
        ratios: strengths of the method: encoding ratios r in (0, 1].
        steps: N, DDIM steps of the whole schedule.
        seed: with a request's id, it fixes every draw.
        on_error: `skip` goes on and raises at the end; `stop` raises at the first request that fails.
        batch: rows in a network call; with words among them, a run that goes on has those that it was begun with.
        max_live: most requests under way at once; None for the smallest number that keeps batches full.
        embedding_cache: embedded texts to remember.
        threads: that open pictures ahead of the networks.
        cpu_threads: of torch, on which last bits depend; None for its own number, but no more than the cores that this
            process may use.
        progress: show a bar.
        verify: how closely a resume looks at what is done: `size` of every file, `content` too, or `none` but that it
            is there.
        wait: for another process that is at the same run, instead of a BusyError.
        cache: folder of what runs share: encodings, inversions, contrast maps, embedded texts, edits; None for none.
        cache_gigabytes: that it may hold; what was used least recently is removed.
        cache_edits: whether edits are taken over that an earlier run made of the same inputs.
    """

    ratios: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    steps: Annotated[int, Ge(1)] = 50
    seed: int = 0
    on_error: Literal["skip", "stop"] = "skip"
    batch: BatchSizes | AskedSizes = BatchSizes()
    max_live: Annotated[int, Ge(1)] | None = None
    embedding_cache: Annotated[int, Ge(0)] = 512
    threads: Annotated[int, Ge(1)] = 2
    cpu_threads: Annotated[int, Ge(1)] | None = None
    progress: bool = True
    verify: Verify = "size"
    wait: bool = False
    cache: Path | None = None
    cache_gigabytes: Annotated[float, Gt(0)] = 20.0
    cache_edits: bool = True

    def __post_init__(self) -> None:
        check_ratios(self.ratios, self.steps)


def run_benchmark(
    benchmark: Benchmark,
    pipeline: EditPipeline,
    backbone: Backbone,
    root: Path,
    settings: RunSettings | None = None,
    config: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Edit what is not done yet, each request saved as it ends; returns the manifest, a row per request and strength.

    Args:
        benchmark: the requests.
        pipeline: the method, with its stages.
        backbone: the networks.
        root: the run directory.
        settings: how.
        config: what identifies the run, as plain containers; None describes the objects themselves.

    Raises:
        BusyError: another process edits into the directory.
        ValueError: two requests cannot be told apart by their files, or none has what the editor takes.
        ConfigChangedError: the directory holds a run of something else.
        RunFailedError: some request failed (after all others are done, unless `on_error` is `stop`), or what was
            edited is no longer there.
    """
    settings = settings or RunSettings()
    set_threads(settings.cpu_threads)
    config = dict(config or describe_run(benchmark, pipeline, backbone, settings))
    trust_config(config.get("benchmark"))  # what this program edits, it may also read back
    config = identify_run(config, pipeline, backbone)
    pipeline.check(backbone)
    backbone.schedule(settings.steps).start_levels(list(settings.ratios))  # on the levels that this model has
    editor = pipeline.editor
    marks = benchmark.version, editor.is_bound, editor.strength_name
    if is_begun := (root / "config.yaml").exists():
        settings, config = settle_sizes(settings, config, backbone, root, len(benchmark))
        refuse_other_config(root, complete_config(config, *marks))  # whoever may be at it
    check_requests(benchmark, backbone.resolution, editor.inputs)
    identity = hash_config(complete_config(config, *marks))
    refuse = partial(refuse_other_claim, root, identity)
    with claim(root, settings.wait, {"config": identity}, refuse) as held:
        if not is_begun:  # by now it may be, by another; if not, sizes are measured while no other is at it
            settings, config = settle_sizes(settings, config, backbone, root, len(benchmark))
        run = RunDirectory(root, config, *marks, settings.verify)
        try:
            edit_pending(run, benchmark, pipeline, backbone, settings, held)
        except BaseException:
            with suppress(OSError):  # what stopped the run is told, and not what that stops as well: a full disk
                close_run(run, len(benchmark))
            raise
        table = close_run(run, len(benchmark))
    check_all_done(table, len(benchmark), run.damage)
    return table


def identify_run(config: Mapping[str, Any], pipeline: EditPipeline, backbone: Backbone) -> dict[str, Any]:
    """A config with the hashes of all networks."""
    networks = {f"{name}_weights": hashes for name, hashes in pipeline.networks.items()}
    return {**config, "weights": read_fingerprint(backbone), **networks}


def choose_maker(
    pipeline: EditPipeline, settings: RunSettings, shared: SharedWork[LiveProgram] | None
) -> Callable[..., Program[EditResult]]:
    """Whether edits of earlier runs are taken over: `take_over`, or the method as it is."""
    is_asked = shared is not None and settings.cache_edits
    return take_over if is_asked and can_take_over(pipeline) else EditPipeline.__call__


def settle_sizes(
    settings: RunSettings, config: Mapping[str, Any], backbone: Backbone, root: Path, requests: int
) -> tuple[RunSettings, dict[str, Any]]:
    """Settings and config with numbers for the sizes of a batch: those of the run in `root`, where there is one."""
    path = root / "config.yaml"
    before = (read_run_config(path).get("engine") or {}).get("batch") or {} if path.exists() else None
    # What runs share is known by the sizes of calls, which may depend on nothing else then.
    batch = choose_sizes(settings.batch, backbone, requests if settings.cache is None else None, before)
    numbers = {name: size for name, size in vars(batch).items() if size is not None}
    return replace(settings, batch=batch), {**config, "engine": {**config.get("engine", {}), "batch": numbers}}


def close_run(run: RunDirectory, total: int) -> pd.DataFrame | None:
    """Wait for all writes, and log what came out; returns the manifest, None where there is no new one."""
    table = run.close()
    if table is not None:
        log_summary(table, total, run.root)
    return table


def check_all_done(table: pd.DataFrame, total: int, damage: Mapping[str, Sequence[str]]) -> None:
    """Refuse a manifest in which not every request of the benchmark is done, whatever became of the others.

    Args:
        table: the manifest.
        total: requests of the benchmark.
        damage: what is not whole of the files of those that are done.
    """
    done = table.id[table.status == "done"].nunique()
    failed = table.id[table.status == "failed"].nunique()
    if failed:
        raise RunFailedError(
            f"{failed} of {total} requests failed; they are listed above and in the manifest "
            "(hydra.verbose=run shows where each went wrong)"
        )
    if done < total:
        raise RunFailedError(
            f"{done} of {total} requests are done: the records of the others are gone, though they were edited; was "
            "something removed? The same command makes them again"
        )
    if damage:
        faults = [fault for faults in damage.values() for fault in faults]
        named = "; ".join(faults[:5] + [f"and {len(faults) - 5} more"] * (len(faults) > 5))
        raise RunFailedError(
            f"{len(damage)} of {total} requests have lost files since they were edited: {named}. The same command "
            "makes them again"
        )


def edit_pending(
    run: RunDirectory,
    benchmark: Benchmark,
    pipeline: EditPipeline,
    backbone: Backbone,
    settings: RunSettings,
    held: Claim,
) -> None:
    """Edit the requests that a run has not done, as long as its claim is held."""
    schedule, ratios = backbone.schedule(settings.steps), list(settings.ratios)
    watch = RateWatch() if find_device(backbone).type == "cpu" else None
    shared = share_work(backbone, settings)
    make = choose_maker(pipeline, settings, shared)
    options = settings.max_live, settings.embedding_cache, settings.progress
    engine = Engine(backbone, settings.batch, *options, shared=shared, watch=watch)
    todo = {request.id for request in run.find_pending(benchmark.requests(backbone.resolution))}
    if len(todo) < len(benchmark):
        log.info("%d of %d requests are done already", len(benchmark) - len(todo), len(benchmark))
    if todo and watch:
        warn_of_load()
    live: dict[str, EditRequest] = {}

    def programs() -> Iterator[tuple[str, Program[EditResult]]]:
        pending = (request for request in benchmark.requests(backbone.resolution) if request.id in todo)
        for request in prefetch_requests(pending, pipeline.editor.inputs, settings.threads, engine.max_live):
            live[request.id] = request
            noise = RequestNoise(settings.seed, request.id)
            yield request.id, make(pipeline, request, ratios, schedule, noise)

    try:
        for outcome in engine.run(programs(), len(todo), len(ratios)):
            held.check()
            run.save(live.pop(outcome.id), outcome)
            if outcome.error is not None:
                log.debug("request %s failed", outcome.id, exc_info=outcome.error)
                if settings.on_error == "stop":
                    raise RunFailedError(f"request {outcome.id}: {outcome.error} (on_error=stop)") from outcome.error
    finally:
        log_evaluations(engine)
        if engine.rows:
            log.info(engine.describe_padding())
        if shared is not None:
            shared.close()


def log_summary(table: pd.DataFrame, total: int, root: Path) -> None:
    """Log what came out: how much, at what cost, the masks worth a look, the failed requests by name."""
    requests, edits = table.drop_duplicates("id"), table[table.status == "done"]
    done, failed = (requests[requests.status == status] for status in ("done", "failed"))
    log.info("%s: %d of %d requests done, %d edits", root, len(done), total, len(edits))
    if len(edits):
        evaluations = int(edits.evaluations.sum() + done.shared_evaluations.sum())
        log.info("%d network evaluations, %.1f an edit", evaluations, evaluations / len(edits))
    for flag, advice in FLAGS.items() if "mask_flag" in done else ():
        flagged = done[done.mask_flag == flag]
        if ids := list(flagged.id):
            named = ", ".join(ids[:5] + ["..."] * (len(ids) > 5))
            rules = sorted(set(flagged.get("mask_rule", pd.Series(dtype=object)).dropna()))
            log.warning("masks: %d %s (%s): %s%s", len(ids), flag, advice, named, "".join(f"; by {r}" for r in rules))
    for row in failed.itertuples():
        log.error("failed: %s: %s", row.id, row.error)
