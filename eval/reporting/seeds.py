"""Runs that differ in their seed alone, as one method: its scores are means over seeds, its intervals cover them.

What is estimated is the mean over pictures (of the kind that the benchmark draws) and over seeds. A seed and a
request's id fix its noise together, so two pictures share no noise for having one seed: what the seed decides of a
picture is that picture's own. Then the mean of a picture over its seeds holds its part of both variances, and
resampling pictures with all their seeds gives intervals for both (Davison and Hinkley, 1997, section 3.8: the first
of two stages alone). Seeds resampled within pictures too would count the noise twice. Methods are paired: a resample
takes the same pictures of each, whatever seeds it has.

A distance of a set (FID, CSFID, KID) is taken seed by seed and averaged: its bias depends on n, so that of all seeds'
pictures in one would be another score than that of a single run, and than the row of real pictures.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from diffedit.runs.names import RUNTIME_KEYS
from eval.scoring.bootstrap import SHARES, Bootstrap, Estimate
from eval.scoring.finished_run import read_config
from eval.scoring.per_image import read_pseudo_values

log = logging.getLogger(__name__)

SEED = re.compile(r"(^|,)seed=[^,=]*(?=,|$)")  # in the name of a run
NOT_OF_A_METHOD = {"seed", "engine", "format", *RUNTIME_KEYS}  # of a config: how a run went, and which draws it took
NAN = float("nan")


def merge_seeds(scores: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The scores with one method for runs that differ in their seed alone, and whose every score is comparable.

    Args:
        scores: as `eval.reporting.collect.collect` returns them.
        resamples: of the bootstrap over images, of which merged scores have new intervals.
        seed: of that bootstrap.

    Returns:
        the same columns, and `seeds` (of the run or runs, a tuple; empty for `copy` and `real`) and `runs` (a tuple of
        their directories). Of merged runs `run` is the first of these, and `name` leaves out the seed.
    """
    scores = scores.assign(runs=[(run,) if run else () for run in scores.run])
    seeds = {run: read_config(Path(run)).get("seed", 0) for run in dict.fromkeys(scores.run) if run}
    scores = scores.assign(seeds=[(seeds[run],) if run else () for run in scores.run])
    parts = [scores]
    for runs in find_groups(scores, seeds):
        merged = merge(scores, runs, seeds, resamples, seed)
        place = scores.index[scores.run == runs[0]][0]
        parts.append(merged.set_axis([place] * len(merged)))
        parts[0] = parts[0][~parts[0].run.isin(runs)]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True) if len(parts) > 1 else scores


def find_groups(scores: pd.DataFrame, seeds: Mapping[str, int]) -> Iterator[list[str]]:
    """The runs of each method that has several seeds, by rising seed; the log names what is left out of them."""
    groups: dict[str, dict[int, str]] = {}
    for run, part in scores[scores.run != ""].groupby("run", sort=False):
        same = groups.setdefault(f"{name_method(Path(run))} {sorted(set(part.set))}", {})
        if seeds[run] in same:
            log.info("%s: not among the seeds of %s, which has seed=%d too", run, same[seeds[run]], seeds[run])
        same.setdefault(seeds[run], run)
    for same in groups.values():
        runs = [same[number] for number in sorted(same)]
        makers = scores[scores.run.isin(runs)].groupby("metric").made_by.nunique()
        if differing := list(makers.index[makers > 1]):
            log.warning("%s: seeds not merged: %s was measured in different ways", runs[0], ", ".join(differing))
        elif len(runs) > 1:
            yield runs


def name_method(root: Path) -> str:
    """Editor's folder and config of a run, without what differs between runs of one method."""
    config = {key: value for key, value in read_config(root).items() if key not in NOT_OF_A_METHOD}
    return json.dumps([root.resolve().parent.name, config], sort_keys=True)


def merge(
    scores: pd.DataFrame, runs: Sequence[str], seeds: Mapping[str, int], resamples: int, seed: int
) -> pd.DataFrame:
    """The rows of the first run, with means over all and their intervals; scores that not all have are left out."""
    parts = [scores[scores.run == run].set_index(["variant", "metric"]) for run in runs]
    shared = [key for key in parts[0].index if all(key in part.index for part in parts)]
    if missing := {metric for part in parts for _, metric in part.index.difference(shared)}:
        log.warning("%s: not scored for each seed, so left out: %s", runs[0], ", ".join(sorted(missing)))
    merged = parts[0].loc[shared].reset_index()[list(scores.columns)]
    values = np.mean([part.value.loc[shared].to_numpy(float) for part in parts], axis=0)
    merged = merged.assign(
        value=values,
        name=SEED.sub("", merged["name"].iloc[0]).strip(",") or "default",
        runs=[tuple(runs)] * len(merged),
        seeds=[tuple(seeds[run] for run in runs)] * len(merged),
    )
    for metric, rows in merged.groupby("metric"):
        merged.loc[rows.index, ["low", "high"]] = find_intervals(rows, metric, resamples, seed)
    return merged


def find_intervals(rows: pd.DataFrame, metric: str, resamples: int, seed: int) -> Float[ndarray, "rows 2"]:
    """The intervals of a merged score at each strength; NaN where a run has none."""
    if rows.low.isna().any():
        return np.full((len(rows), 2), NAN)
    table = read_mean_pseudo_values(next(rows.itertuples()), metric)
    bootstrap = Bootstrap.of_labels(list(table.index.get_level_values("label")), resamples, seed)
    estimates = [Estimate(row.value, table[row.strength].to_numpy(float)) for row in rows.itertuples()]
    return np.array([bootstrap.interval(estimate, metric in SHARES)[1:] for estimate in estimates])


def read_mean_pseudo_values(row: Any, metric: str) -> pd.DataFrame:
    """Each image's pseudo-values in a score, as `read_pseudo_values` has them; of merged runs the mean over seeds."""
    tables = [read_pseudo_values(Path(run), metric) for run in getattr(row, "runs", (row.run,))]
    if len(tables) == 1:
        return tables[0]
    return sum(table.reindex(tables[0].index) for table in tables) / len(tables)


def list_seeds(scores: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    """The seeds of each method (column `method`); none where nothing was merged, or of rows without a run."""
    if "seeds" not in scores:
        return dict.fromkeys(scores.method, ())
    return dict(zip(scores.method, scores.seeds, strict=True))


def describe_seeds(scores: pd.DataFrame) -> str:
    """What the intervals of a table's methods cover; "" where no method has several seeds.

    Args:
        scores: with a column `method`.
    """
    seeds = {method: numbers for method, numbers in list_seeds(scores).items() if numbers}
    several = [method for method, numbers in seeds.items() if len(numbers) > 1]
    if not several:
        return ""
    counts = sorted({len(seeds[method]) for method in several})
    text = f"means over {' or '.join(map(str, counts))} seeds, intervals cover pictures and seeds"
    single = [method for method in seeds if method not in several]
    return text + (f"; one seed, and pictures alone: {', '.join(single)}" if single else "")


def name_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """The columns `seeds` and `runs` as texts, for a file."""
    return scores.assign(
        seeds=[" ".join(map(str, numbers)) for numbers in scores.seeds], runs=scores.runs.map("; ".join)
    )
