"""One run, from its checks to its manifest: prepared, held by this process, closed."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from diffedit.conditions import in_words_of
from diffedit.engine.queries import Outcome
from diffedit.engine.sizes import choose_sizes
from diffedit.engine.threads import set_threads
from diffedit.io.trust import trust_config
from diffedit.runs.claim import (
    BEAT,
    SHARDS,
    BusyError,
    Claim,
    LostClaimError,
    claim,
    describe_self,
    is_live,
    list_at_work,
    name_holder,
    read_holder,
)
from diffedit.runs.cut import (
    Cut,
    choose_size,
    get_claim_path,
    get_shard_path,
    list_shards,
    make_presence_path,
    read_summary,
)
from diffedit.runs.describe import describe_run, read_fingerprint
from diffedit.runs.directory import (
    RunDirectory,
    complete_config,
    hash_config,
    read_run_config,
    read_time,
    refuse_other_claim,
    refuse_other_config,
)
from diffedit.runs.log import RunLog
from diffedit.runs.requests import check_requests, iterate_requests
from diffedit.runs.shapes import describe_sizes, fit_benchmark, is_square, note_size
from diffedit.runs.stop import StopRequested, stop
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import open_schedule
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
    "cut away": "outside what is shown of their pictures, nothing is edited: benchmark.resize.policy",
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

    def warn(self) -> None:
        """Log what a user should know before the first request, or of a plan.

        The log of a run is a file of its directory, which has to be there.
        """
        self.pipeline.warn(open_schedule(self.backbone, self.settings.steps))

    def open_directory(self) -> RunDirectory:
        """Where it is saved; made where absent."""
        return RunDirectory(self.root, self.config, *self.marks, self.settings.verify, self.size_keys)

    def make_program(self, request: EditRequest, make: Make, ratios: Sequence[float]) -> Program[EditResult]:
        """What edits a request at these strengths."""
        schedule = self.backbone.schedule(self.settings.steps)
        noise = RequestNoise(self.settings.seed, request.id)
        return in_words_of(self.backbone, request, lambda one: make(self.pipeline, one, list(ratios), schedule, noise))


@dataclass(eq=False)
class HeldShard:
    """A shard that this process is at.

    Attributes:
        number: of the shard.
        ids: of all its requests, in order.
        left: those that are to be edited, and not saved yet.
        claim: keeps others out.
        note: what its file will say of it.
    """

    number: int
    ids: Sequence[str]
    left: set[str]
    claim: Claim
    note: Mapping[str, Any]


@dataclass(eq=False)
class HeldRun:
    """A run that this process is at, alone or beside others: whoever claims a shard edits it.

    Attributes:
        prepared: what it is.
        directory: where it is saved.
        cut: its shards.
        presence: says that a process has opened the run, so that nobody asks for other requests beside it.
        written: when the files of shards were written that were there when the run was opened, by number.
        wanted: the numbers of those that are to be taken.
        looks: what was found of shards before they were taken, by number: a stamp of their records, and what is not
            done.
        todo: of requests in shards that were taken, those whose outcome has not come yet, by id.
        held: the shards that were taken, by the ids of what is to be edited of them.
        taken: the numbers of shards that this process has or had.
        busy: the numbers of shards that others are at.
        is_drawn: whether all that is wanted was taken, or is busy.
        error: what ended it.
        table: its manifest, once it is closed.
    """

    prepared: PreparedRun
    directory: RunDirectory
    cut: Cut
    presence: Claim
    written: Mapping[int, int]
    wanted: set[int] = field(default_factory=set)
    looks: dict[int, tuple[int, set[str]]] = field(default_factory=dict)
    todo: set[str] = field(default_factory=set)
    held: dict[str, HeldShard] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    is_drawn: bool = False
    error: Exception | None = None
    table: pd.DataFrame | None = None

    def has_ended(self) -> bool:
        """Whether nothing is left of it, or an error ended it."""
        if self.error is None and self.is_drawn and not self.todo:
            with self.alone():
                self.directory.writer.wait()  # only then it is known that no claim was lost
        is_idle = self.is_drawn and not self.todo and not self.busy
        return self.error is not None or (is_idle and not self.list_left())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What goes wrong in this block ends this run, and no other; what is logged is said of it."""
        try:
            with self.prepared.log.own():
                yield
        except Exception as error:
            self.error = error

    # ------------------------------------------------------------------------------------------------------- shards

    def draw_shards(self, numbers: set[int]) -> Iterator[tuple[int, list[EditRequest]]]:
        """Some shards with their requests, in the benchmark's order."""
        requests = self.prepared.benchmark.requests(self.prepared.backbone.resolution)
        for number in range(max(numbers, default=-1) + 1):
            stop.check()
            part = list(islice(requests, self.cut.size))
            if number in numbers:
                yield number, part

    def list_pending(self, where: str = "") -> int:
        """Look what is not done yet of this process's share of the shards; returns how many requests."""
        own = {number for number in range(self.cut.shards) if self.prepared.settings.share.has(number)}
        total = pending = 0
        for number, requests in self.draw_shards(own):
            left = self.look(number, requests)
            total, pending = total + len(requests), pending + len(left)
            if left or not self.directory.is_packed(number, requests):
                self.wanted.add(number)
        self.directory.warn_of_kept()
        if pending < total:
            log.info("%s%d of %d requests are done already", where, total - pending, total)
        return pending

    def look(self, number: int, requests: Sequence[EditRequest]) -> set[str]:
        """What is not done of a shard, by id; a second look is taken where somebody wrote a record since the first."""
        stamp = self.directory.stamp_shard(number, requests)
        if number not in self.looks or self.looks[number][0] != stamp:
            self.directory.packed.forget(number)
            self.looks[number] = stamp, {request.id for request in self.directory.find_pending(requests)}
        return self.looks[number][1]

    def list_left(self) -> set[int]:
        """The shards outside of this process's share that nobody has edited to their end."""
        own = self.prepared.settings.share
        numbers = {number for number in range(self.cut.shards) if not own.has(number)}
        return {number for number in numbers - self.taken - self.busy if not self.is_done(number)}

    def is_done(self, number: int) -> bool:
        """Whether a shard's file says that all of it is done; one that was written since this start is not judged."""
        path = get_shard_path(self.directory.root, number)
        if not path.exists():
            return False
        if self.written.get(number) != read_time(path):
            return True  # by another process just now: what failed there is not tried by each of the others as well
        try:
            summary = read_summary(path)
            return not summary["failed"] and summary["edits"] == summary["done"] * len(self.directory.variants)
        except (OSError, KeyError, TypeError):
            return False

    def take_shard(self, number: int, requests: Sequence[EditRequest]) -> None:
        """Claim a shard, and look what is to be edited of it; where another process is at it, it is busy."""
        root = self.directory.root
        work = {"config": hash_config(self.directory.config), "shard": number, "of": self.cut.shards}
        claim = Claim(get_claim_path(root, number), work, self.prepared.settings.claim_timeout)
        with self.directory.there(claim.path):
            claim.path.parent.mkdir(exist_ok=True)
            is_ours = claim.take()
        if not is_ours:
            self.busy.add(number)
            return
        self.taken.add(number)
        try:
            left = set(self.look(number, requests))
        except BaseException:
            claim.release()
            raise
        self.looks.pop(number)
        note = describe_self() | {"shard": number, "since": time.time()}
        shard = HeldShard(number, [request.id for request in requests], left, claim, note)
        if left:
            self.todo |= left
            self.held |= dict.fromkeys(left, shard)
        elif self.directory.is_packed(number, requests):  # another did it meanwhile
            claim.release()
        else:
            self.end_shard(shard)

    def make_program(self, request: EditRequest, make: Make) -> Program[EditResult]:
        """What edits a request at the strengths that it lacks."""
        return self.prepared.make_program(request, make, self.directory.choose_missing(request.id))

    def take(self, request: EditRequest, outcome: Outcome) -> None:
        """Save what came of a request; a RunFailedError where an error is to stop all."""
        self.todo.discard(request.id)
        self.directory.writer.submit(self.save, self.held[request.id], request, outcome)
        if outcome.error is not None:
            log.debug("request %s failed", request.id, exc_info=outcome.error)
            if self.prepared.settings.on_error == "stop":
                raise RunFailedError(f"request {request.id}: {outcome.error} (on_error=stop)") from outcome.error

    def save(self, shard: HeldShard, request: EditRequest, outcome: Outcome) -> None:
        """Write what came of a request, as long as its shard is ours; after the last of a shard, end it."""
        record = self.directory.path("records", request.id, "json")
        if not is_square(self.prepared.benchmark):
            outcome = note_size(request, outcome)
        with suppress(LostClaimError), self.directory.there(record):  # whoever has the shard now writes it
            shard.claim.check()
            self.directory.write_outcome(request, outcome, partial(self.check, shard))
        with self.directory.lock:
            del self.held[request.id]
            shard.left.discard(request.id)
            is_last = not shard.left
        if is_last:
            self.end_shard(shard)

    def check(self, shard: HeldShard) -> None:
        """Look whether the run is still there, and a shard of it still ours: what raises where not is said of both."""
        self.directory.check_there()
        shard.claim.check()

    def end_shard(self, shard: HeldShard) -> None:
        """Put the records of a shard into its file, and give it back."""
        try:
            with self.directory.there(get_shard_path(self.directory.root, shard.number)):
                shard.claim.check()
                self.directory.pack(shard.number, shard.ids, {**shard.note, "ended": time.time()})
        except LostClaimError as error:
            log.warning("%s", error)
            self.busy.add(shard.number)
        finally:
            shard.claim.release()

    def give_back(self) -> None:
        """Release the claims of all shards that were not edited to their end, and that of the process."""
        with self.directory.lock:
            shards = {id(shard): shard for shard in self.held.values()}
        for shard in shards.values():
            shard.claim.release()
        self.presence.release()

    def drop_left_claims(self) -> None:
        """Remove those of processes that died between the end of a shard and giving it back: nobody takes it again."""
        root = self.directory.root
        for path in root.glob(SHARDS):
            if path.stem.isdecimal() and get_shard_path(root, int(path.stem)).exists() and not is_live(path):
                claim = Claim(path, {"shard": int(path.stem)}, self.prepared.settings.claim_timeout)
                if claim.take():
                    claim.release()

    def want_more(self, requests: int) -> None:
        """Want what is left outside of this process's share, no more than so many requests; or wait for others.

        Only now that its own share is done: who claims ahead of its work leaves nothing to those whose share it is.
        Each begins at another place of what is left, so that few go for the same.
        """
        left, share = sorted(self.list_left()), self.prepared.settings.share
        if not left:
            self.wait_for_others()
            return
        first = share.k * len(left) // share.of
        self.wanted = set([*left[first:], *left[:first]][: -(-requests // self.cut.size)])
        self.is_drawn = False

    def wait_for_others(self) -> None:
        """Want again the shards that others were at and have left.

        Raises:
            BusyError: there is none yet, and the run is not to wait for them.
        """
        root, is_told = self.directory.root, False
        while True:
            left = {number for number in self.busy if not is_live(get_claim_path(root, number))}
            if left:
                self.busy -= left
                self.wanted, self.is_drawn = left, False
                return
            holder = read_holder(get_claim_path(root, min(self.busy))) or {}
            if not self.prepared.settings.wait:
                shards = (
                    f"{len(self.busy)} of {self.cut.shards} shards are not done, and " if self.cut.shards > 1 else ""
                )
                raise BusyError(
                    f"{root}: {shards}{name_holder(holder)} is at it: wait for it (wait=true), or take another name=..."
                )
            if not is_told:
                log.info("%s: waiting for %s", root, name_holder(holder))
                is_told = True
            stop.check()
            time.sleep(min(random.uniform(1.0, 3.0), BEAT))


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
    benchmark, config = fit_benchmark(benchmark, config, backbone)
    config = identify_run(config, pipeline, weights or read_fingerprint(backbone))
    pipeline.check(backbone)
    pipeline.check_levels(backbone.schedule(settings.steps), list(settings.ratios))  # those that this model has
    is_begun = (root / "config.yaml").exists()
    run = PreparedRun(benchmark, pipeline, root, settings, config, asked.log, backbone=backbone, is_begun=is_begun)
    if is_begun:
        run = run.settle()
        refuse_other_config(root, complete_config(run.config, *run.marks), run.size_keys)  # whoever may be at it
    check_requests(benchmark, backbone.resolution, pipeline.editor.inputs)
    return run


@contextmanager
def hold_run(run: PreparedRun) -> Iterator[HeldRun]:
    """Open a run, from here to its manifest, which is made however the block ends, if nobody else is at the run."""
    identity = hash_config(complete_config(run.config, *run.marks))
    refuse = partial(refuse_other_claim, run.root, identity)
    ids = [request.id for request in iterate_requests(run.benchmark, run.backbone.resolution)]
    with stop.defer():
        with claim(run.root, run.settings.wait, {"config": identity, "is_short": True}, refuse):
            if not run.is_begun:  # by now it may be, by another; if not, sizes are measured while no other is at it
                run = run.settle()
            live = open_run(run, ids)
        try:
            run.warn()
            yield live
        except BaseException as error:
            with suppress(Exception):  # what stopped the run is told, and not what that stops as well: a full disk
                close_run(live, isinstance(error, StopRequested))
            raise
        close_run(live)


def open_run(run: PreparedRun, ids: Sequence[str]) -> HeldRun:
    """The run with its directory, cut into shards of its requests, whose ids these are."""
    directory = run.open_directory()

    def refuse_company() -> None:
        for path in list_at_work(run.root):
            raise BusyError(
                f"{run.root}: {name_holder(read_holder(path) or {})} is at it, and this start asks for other "
                "requests or ratios: wait for its end"
            )

    size = choose_size(run.settings.shard_size, len(ids), run.settings.share.of)
    cut = directory.cut(ids, size, refuse_company)
    directory.extend()
    presence = Claim(
        make_presence_path(run.root), {"config": hash_config(directory.config)}, run.settings.claim_timeout
    )
    if not presence.take():
        raise BusyError(f"{presence.path}: another process has this name")
    written = {int(path.stem): read_time(path) for path in list_shards(run.root)}
    return HeldRun(run, directory, cut, presence, written)


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


def close_run(run: HeldRun, is_stopped: bool = False) -> None:
    """Wait for all writes, give back what is held, and log what came out, unless others go on or time is short."""
    with run.prepared.log.own():
        try:
            run.directory.writer.close()
        finally:
            run.give_back()
        if is_stopped or (isinstance(run.error, BusyError) and any(list_at_work(run.directory.root))):  # who goes on
            return
        run.table = run.directory.close()
        run.drop_left_claims()
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
    if lacking := done * len(run.directory.variants) - (table.status == "done").sum():
        raise RunFailedError(f"{lacking} edits of {total} requests are not there. The same command makes them")
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
    if sizes := describe_sizes(done):
        log.info("sizes: %s", sizes)
    for flag, advice in FLAGS.items() if "mask_flag" in done else ():
        flagged = done[done.mask_flag == flag]
        if ids := list(flagged.id):
            named = ", ".join(ids[:5] + ["..."] * (len(ids) > 5))
            rules = sorted(set(flagged.get("mask_rule", pd.Series(dtype=object)).dropna()))
            log.warning("masks: %d %s (%s): %s%s", len(ids), flag, advice, named, "".join(f"; by {r}" for r in rules))
    for row in failed.itertuples():
        log.error("failed: %s: %s", row.id, row.error)
