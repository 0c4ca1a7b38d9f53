"""One run, from its checks to its manifest: prepared, held by this process, closed."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from diffedit.conditions import in_words_of
from diffedit.engine.queries import Outcome
from diffedit.engine.sizes import choose_sizes
from diffedit.engine.threads import set_threads
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
from diffedit.runs.log import RunLog
from diffedit.runs.requests import check_requests
from diffedit.sampling.noise import RequestNoise
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Benchmark, EditRequest, EditResult, Program

if TYPE_CHECKING:
    from diffedit.runs.loop import RunSettings

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


Make = Callable[..., Program[EditResult]]
"""A pipeline's program for one request, as `EditPipeline.__call__` or `take_over` makes it."""


@dataclass(frozen=True, eq=False)
class AskedRun:
    """What `run_benchmark` is given, but for the networks.

    Attributes:
        benchmark: the requests.
        pipeline: the method, with its stages.
        root: the run directory.
        settings: how.
        config: what identifies the run, as plain containers; None describes the objects themselves.
        log: where the run's own lines go, beside where all go.
    """

    benchmark: Benchmark
    pipeline: EditPipeline
    root: Path
    settings: "RunSettings"
    config: Mapping[str, Any] | None = None
    log: RunLog = field(default_factory=RunLog)


@dataclass(frozen=True, eq=False)
class PreparedRun(AskedRun):
    """A run that goes with its networks and with what there is of it on disk, where it is not touched yet.

    Its config has the hashes of all networks; of a run that is not begun, the sizes of a batch may be words.

    Attributes:
        backbone: the networks.
        is_begun: whether its directory holds some of it.
    """

    backbone: Backbone = field(kw_only=True)
    is_begun: bool = field(kw_only=True)

    @property
    def marks(self) -> tuple[str, bool, str]:
        """What identifies it beside its config: as `complete_config` takes it."""
        return self.benchmark.version, self.pipeline.editor.is_bound, self.pipeline.editor.strength_name

    def settle(self) -> "PreparedRun":
        """The same, with numbers for the sizes of a batch."""
        settings, config = settle_sizes(self.settings, self.config, self.backbone, self.root, len(self.benchmark))
        return replace(self, settings=settings, config=config)

    @property
    def size_keys(self) -> frozenset[str]:
        """Settings of its benchmark of which a larger value only adds requests; none, where that does not say."""
        return frozenset(getattr(self.benchmark, "size_keys", ()))

    def open_directory(self) -> RunDirectory:
        """Where it is saved; made where absent."""
        return RunDirectory(self.root, self.config, *self.marks, self.settings.verify, self.size_keys)

    def make_program(self, request: EditRequest, make: Make, ratios: Sequence[float]) -> Program[EditResult]:
        """What edits a request at these strengths."""
        schedule = self.backbone.schedule(self.settings.steps)
        noise = RequestNoise(self.settings.seed, request.id)
        return in_words_of(self.backbone, request, lambda one: make(self.pipeline, one, list(ratios), schedule, noise))


@dataclass(eq=False)
class HeldRun:
    """A run that this process is at.

    Attributes:
        prepared: what it is.
        claim: keeps others out.
        directory: where it is saved.
        todo: the requests that are not done, by id; None before `list_pending`.
        error: what ended it.
        table: its manifest, once it is closed.
    """

    prepared: PreparedRun
    claim: Claim
    directory: RunDirectory
    todo: set[str] | None = None
    error: Exception | None = None
    table: pd.DataFrame | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left of it, or an error ended it."""
        return self.error is not None or self.todo == set()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What goes wrong in this block ends this run, and no other; what is logged is said of it."""
        try:
            with self.prepared.log.own():
                yield
        except Exception as error:
            self.error = error

    def list_pending(self, where: str = "") -> None:
        """Look what is not done yet."""
        benchmark, resolution = self.prepared.benchmark, self.prepared.backbone.resolution
        self.todo = {request.id for request in self.directory.find_pending(benchmark.requests(resolution))}
        self.directory.extend()
        if len(self.todo) < len(benchmark):
            log.info("%s%d of %d requests are done already", where, len(benchmark) - len(self.todo), len(benchmark))

    def make_program(self, request: EditRequest, make: Make) -> Program[EditResult]:
        """What edits a request at the strengths that it lacks."""
        return self.prepared.make_program(request, make, self.directory.choose_missing(request.id))

    def take(self, request: EditRequest, outcome: Outcome) -> None:
        """Save what came of a request, as long as the claim is held; a RunFailedError where an error is to stop all."""
        self.claim.check()
        self.todo.discard(request.id)
        self.directory.save(request, outcome)
        if outcome.error is not None:
            log.debug("request %s failed", request.id, exc_info=outcome.error)
            if self.prepared.settings.on_error == "stop":
                raise RunFailedError(f"request {request.id}: {outcome.error} (on_error=stop)") from outcome.error


def prepare_run(asked: AskedRun, backbone: Backbone, weights: Mapping[str, str] | None = None) -> PreparedRun:
    """Check all that can be checked before a run is begun; errors are those of `run_benchmark`.

    Args:
        asked: the run.
        backbone: the networks.
        weights: the hashes of their parts, where they were taken just now.
    """
    benchmark, pipeline, root, settings = asked.benchmark, asked.pipeline, asked.root, asked.settings
    set_threads(settings.cpu_threads)
    config = dict(asked.config or describe_run(benchmark, pipeline, backbone, settings))
    trust_config(config.get("benchmark"))  # what this program edits, it may also read back
    config = identify_run(config, pipeline, weights or read_fingerprint(backbone))
    pipeline.check(backbone)
    backbone.schedule(settings.steps).start_levels(list(settings.ratios))  # on the levels that this model has
    is_begun = (root / "config.yaml").exists()
    run = PreparedRun(benchmark, pipeline, root, settings, config, asked.log, backbone=backbone, is_begun=is_begun)
    if is_begun:
        run = run.settle()
        refuse_other_config(root, complete_config(run.config, *run.marks), run.size_keys)  # whoever may be at it
    check_requests(benchmark, backbone.resolution, pipeline.editor.inputs)
    return run


@contextmanager
def hold_run(run: PreparedRun) -> Iterator[HeldRun]:
    """Keep other processes out of a run, from here to its manifest, which is made however the block ends."""
    identity = hash_config(complete_config(run.config, *run.marks))
    refuse = partial(refuse_other_claim, run.root, identity)
    with claim(run.root, run.settings.wait, {"config": identity}, refuse) as held:
        if not run.is_begun:  # by now it may be, by another; if not, sizes are measured while no other is at it
            run = run.settle()
        live = HeldRun(run, held, run.open_directory())
        try:
            yield live
        except BaseException:
            with suppress(OSError):  # what stopped the run is told, and not what that stops as well: a full disk
                close_run(live)
            raise
        close_run(live)


def identify_run(config: Mapping[str, Any], pipeline: EditPipeline, weights: Mapping[str, str]) -> dict[str, Any]:
    """A config with the hashes of all networks."""
    networks = {f"{name}_weights": hashes for name, hashes in pipeline.networks.items()}
    return {**config, "weights": dict(weights), **networks}


def settle_sizes(
    settings: "RunSettings", config: Mapping[str, Any], backbone: Backbone, root: Path, requests: int
) -> tuple["RunSettings", dict[str, Any]]:
    """Settings and config with numbers for the sizes of a batch: those of the run in `root`, where there is one."""
    path = root / "config.yaml"
    before = (read_run_config(path).get("engine") or {}).get("batch") or {} if path.exists() else None
    # What runs share is known by the sizes of calls, which may depend on nothing else then.
    batch = choose_sizes(settings.batch, backbone, requests if settings.cache is None else None, before)
    numbers = {name: size for name, size in vars(batch).items() if size is not None}
    return replace(settings, batch=batch), {**config, "engine": {**config.get("engine", {}), "batch": numbers}}


def close_run(run: HeldRun) -> None:
    """Wait for all writes, and log what came out."""
    with run.prepared.log.own():
        run.table = run.directory.close()
        if run.table is not None:  # a new one
            log_summary(run.table, len(run.prepared.benchmark), run.directory.root)


def check_all_done(run: HeldRun) -> None:
    """Refuse a closed run in which not every request of the benchmark is done and whole."""
    table, total, damage = run.table, len(run.prepared.benchmark), run.directory.damage
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
