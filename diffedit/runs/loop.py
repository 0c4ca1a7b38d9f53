"""Edit every request of a benchmark into a run directory; go on where a killed run stopped."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from annotated_types import Ge, Gt

from diffedit.engine.sizes import AskedSizes, BatchSizes
from diffedit.io.checks import Count, Ratio, Seed, settings
from diffedit.runs.claim import STALE
from diffedit.runs.cut import Share
from diffedit.runs.edit import edit_runs
from diffedit.runs.held import AskedRun, RunFailedError, check_all_done, hold_run, prepare_run
from diffedit.runs.records import Verify
from diffedit.sampling.schedule import check_ratios
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Benchmark

__all__ = ["RunFailedError", "RunSettings", "run_benchmark"]


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
        shard_size: requests in a shard of a run, which one process edits; a run that is begun keeps its own. None for
            64, and fewer where several processes share a short run.
        share: the shards that this process takes first; then what nobody has taken.
        claim_timeout: seconds without a sign of life after which others take over the shard of a process.
    """

    ratios: tuple[Ratio, ...] = (0.3, 0.5, 0.7, 0.9)
    steps: Count = 50
    seed: Seed = 0
    on_error: Literal["skip", "stop"] = "skip"
    batch: BatchSizes | AskedSizes = BatchSizes()
    max_live: Count | None = None
    embedding_cache: Annotated[int, Ge(0)] = 512
    threads: Count = 2
    cpu_threads: Count | None = None
    progress: bool = True
    verify: Verify = "size"
    wait: bool = False
    cache: Path | None = None
    cache_gigabytes: Annotated[float, Gt(0)] = 20.0
    cache_edits: bool = True
    shard_size: Count | None = None
    share: Share = Share()
    claim_timeout: Annotated[float, Gt(0)] = STALE

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
    asked = AskedRun(benchmark, pipeline, root, settings or RunSettings(), config)
    with hold_run(prepare_run(asked, backbone)) as run, closing(edit_runs([run])) as ended:
        for _ in ended:
            if run.error is not None:
                raise run.error
    check_all_done(run)
    return run.table
