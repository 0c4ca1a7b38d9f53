"""Two reports of the same runs, at other commits, by other weights or on other machines: how they differ."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.reporting.findings import name_editor
from eval.reporting.report.sets import RunSet
from eval.scoring import holm
from eval.scoring.bootstrap import Bootstrap, estimate_mean
from eval.scoring.files import iterate_scores, name_place
from eval.scoring.per_image import read_pseudo_values

SIDES = ("A", "B")
SIGNIFICANT = 0.05


def mark_sides(frame: pd.DataFrame, sides: Mapping[str, str]) -> pd.DataFrame:
    """Runs or scores with the report that each run is of in its name, so that tables and curves tell them apart."""
    if frame.empty or not sides:
        return frame
    marks = frame.run.map(lambda run: f",report={sides[run]}" if run in sides else "")
    return frame.assign(name=frame.name + marks)


def find_pairs(shown: RunSet, sides: Mapping[str, str]) -> list[tuple[int, int]]:
    """Places of the runs that belong together: of the same editor and name, else the only ones of an editor."""
    pairs, left = [], {side: [k for k, run in enumerate(shown.runs) if sides[str(run.root)] == side] for side in SIDES}
    for keys in (("editor", "name"), ("editor",)):
        named = {
            side: [tuple(name_place(shown.runs[k].root)[key] for key in keys) for k in left[side]] for side in SIDES
        }
        for k, name in zip(tuple(left["A"]), named["A"], strict=True):
            if [names.count(name) for names in named.values()] == [1, 1]:
                other = left["B"][named["B"].index(name)]
                pairs.append((k, other))
        taken = {k for pair in pairs for k in pair}
        left = {side: [k for k in places if k not in taken] for side, places in left.items()}
    return pairs


def compare_pairs(
    shown: RunSet, pairs: Sequence[tuple[int, int]], resamples: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """(rows of what differs, what is certain and large first; what is not compared, in words).

    A row: label, first and second (places of the runs), strength, metric, a, b, difference (b - a) with low and high of
    its paired interval, p after Holm's correction over all rows, n, and identical (edits with the same bytes).
    """
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for pair in pairs:
        rows += compare_pair(shown, pair, resamples, seed, problems)
    corrected = holm.correct(np.array([row["p"] for row in rows], float))
    for row, p in zip(rows, corrected, strict=True):
        row["p"] = float(p)
    rows.sort(key=lambda row: (row["p"] > SIGNIFICANT, row["p"], -abs(row["difference"])))
    return rows, problems


def compare_pair(
    shown: RunSet, pair: tuple[int, int], resamples: int, seed: int, problems: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows of two runs, picture by picture; p is not corrected yet."""
    one, other = (shown.runs[k] for k in pair)
    made = [read_makers(run.root) for run in (one, other)]
    for metric in [metric for metric in made[0] if metric in made[1]]:
        if made[0][metric] != made[1][metric]:
            problems.append(f"{other.root}: {metric} was measured in another way than in {one.root}: score both again")
            continue
        try:
            tables = [read_pseudo_values(run.root, metric) for run in (one, other)]
        except (OSError, ValueError, KeyError):  # a score of the set as a whole has none; damage is told of elsewhere
            continue
        ids = tables[0].index.intersection(tables[1].index)
        if ids.empty:
            continue
        bootstrap = Bootstrap.of_labels(list(ids.get_level_values("label")), resamples, seed)
        for strength in tables[0].columns.intersection(tables[1].columns):
            values = [table.loc[ids, strength].to_numpy(float) for table in tables]
            if not all(np.isfinite(column).all() for column in values):
                continue
            told = {
                "label": name_pair(shown.methods[pair[1]]),
                "first": pair[0],
                "second": pair[1],
                "strength": float(strength),
                "metric": metric,
                "n": len(ids),
            }
            yield told | describe_difference(*values, bootstrap) | {"identical": count_identical(shown, pair, strength)}


def name_pair(method: str) -> str:
    """What both runs of a pair are called: the name of one, without its report."""
    return name_editor(re.sub(r" \(report=B\)$|,report=B(?=\)$)", "", method))


def read_makers(root: Path) -> dict[str, str]:
    """What each score of a run was made by."""
    try:
        return {name: scores["made_by"] for _, scores in iterate_scores(root) for name in scores["higher_is_better"]}
    except OSError:  # which is told of where the curves are drawn
        return {}


def describe_difference(one: np.ndarray, other: np.ndarray, bootstrap: Bootstrap) -> dict[str, float | None]:
    """Means, their difference with its interval, and how often resamples fall on the other side of zero."""
    differences = other - one
    interval = bootstrap.interval(estimate_mean(differences))
    means = bootstrap.means(differences)
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * float(1 + tail) / (1 + len(means)))
    low, high = (None if np.isnan(end) else float(end) for end in (interval.low, interval.high))
    told = {"a": float(one.mean()), "b": float(other.mean()), "difference": float(interval.value)}
    return told | {"low": low, "high": high, "p": p}


def count_identical(shown: RunSet, pair: tuple[int, int], strength: float) -> int:
    """How many of the shown requests have an edit of the same bytes in both runs."""
    count = 0
    for request in shown.requests:
        hashes = [find_hash(shown.runs[k].records[request.id], strength) for k in pair]
        count += hashes[0] is not None and hashes[0] == hashes[1]
    return count


def find_hash(record: Mapping[str, Any], strength: float) -> str | None:
    """Of the content of an edit; None where there is none."""
    ends = f"={strength!r}"
    return next((edit["sha256"] for edit in record.get("edits") or () if edit["variant"].endswith(ends)), None)
