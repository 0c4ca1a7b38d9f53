"""A share of what runs are scored by, measured ahead: `diffedit score shard=k/N`, as tasks of a launcher start it.

What takes long is kept where whoever scores the runs finds it: tables of parts beside a run, features in the cache.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from diffedit.runs.cut import Share
from eval.scoring.finished_run import FinishedRun, IncompleteRunError
from eval.scoring.metric import Metric
from eval.scoring.parts import Parts, mark_measured
from eval.scoring.per_image import measure_features
from eval.scoring.run_features import RunFeatures, read_all_noted_inputs
from eval.scoring.score import EXPLAINED, Settings, hash_inputs, make_references, read_past_scores

log = logging.getLogger("score")


def measure_runs(roots: Sequence[Path], metrics: Mapping[str, Metric], settings: Settings, share: Share) -> list[Path]:
    """Measure a share of each run; returns those that could be looked at: others are named in the log."""
    looked_at = []
    for root in roots:
        try:
            measure_share(root, metrics, settings, share)
            looked_at.append(root)
        except Exception as error:  # of this run alone: the others are measured
            log.error("%s: not measured: %s", root, error if isinstance(error, EXPLAINED) else repr(error))
            log.debug("", exc_info=True)
    return looked_at


@torch.no_grad()
def measure_share(root: Path, metrics: Mapping[str, Metric], settings: Settings, share: Share) -> None:
    """Measure a share of the parts of a run by the metrics that it has no scores of."""
    run = FinishedRun(root, settings.resolution)
    metrics = pick_unscored(run, metrics, settings)
    if not metrics:
        log.info("%s: all there", root)
        return
    of_pictures = {name: metric for name, metric in metrics.items() if metric.input_kind == "pictures"}
    of_features = [metric for metric in metrics.values() if metric.input_kind == "features"]
    parts = Parts(run, settings.batch, partial(hash_inputs, settings=settings))
    references, known = make_references(run, settings), read_all_noted_inputs(run)
    count = 0
    with parts.show_progress(share) as bar:
        for number, part in parts.iterate(share):
            parts.measure_part(number, part.requests, of_pictures, bar)
            batches = RunFeatures(part, settings.store, number, known).batches(references)
            for metric in of_features:
                if metric.undefined_reason(batches[part.variants[0]]) is None:
                    for _ in measure_features(part, metric, batches):
                        pass  # the store has the features now
            mark_measured(root, number)
            count += 1
    log.info("%s: %d of %d parts are measured, those of share %d/%d", root, count, len(parts), share.k, share.of)


def pick_unscored(run: FinishedRun, metrics: Mapping[str, Metric], settings: Settings) -> dict[str, Metric]:
    """Those of which a run has no scores, or scores of something else."""
    past = {name: read_past_scores(run.root, name).get("key") for name in metrics}
    if any(past.values()):
        try:
            run.check()
        except IncompleteRunError:  # it was whole, and is no more
            return dict(metrics)
    return {
        name: metric
        for name, metric in metrics.items()
        if past[name] is None or past[name] != hash_inputs(run, metric, settings)
    }
