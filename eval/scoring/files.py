"""The scores of a run on disk, and how they are read back.

scores/<metric>.json           scores, intervals, n, what they were made with; of the edits, of the unedited inputs
                               (`copy`) and of as many real pictures (`real`, for a distance to a set)
scores/<metric>.parquet        a row per request and variant: what was measured, and each image's pseudo-values
scores/<metric>_classes.parquet  a row per variant and class, where the metric is class by class
metrics.json, scores.parquet   all scores of the run, one a row
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.io.files import write
from diffedit.io.tables import write_table
from diffedit.types import Variant
from eval.scoring.finished_run import read_config

FORMAT = 2  # of scores/<metric>.json; others are of another release: they are not read, and are scored anew
PLACE = ("benchmark", "backbone", "editor", "name")  # what the last folders of a run's path say
COLUMNS = [
    *PLACE,
    *("run", "set", "version", "is_bound", "variant", "strength"),
    *("metric", "value", "low", "high", "n", "higher_is_better", "made_by"),
]


def get_values_path(root: Path, name: str) -> Path:
    """Where what a metric measured on each image lies."""
    return root / "scores" / f"{name}.parquet"


def get_scores_path(root: Path, name: str) -> Path:
    """Where the scores of a metric lie."""
    return root / "scores" / f"{name}.json"


def read_scores(path: Path) -> dict[str, Any]:
    """What was written of a metric; empty where the file is of another release, or no metric's.

    Raises:
        OSError: the file is damaged; the message names it.
    """
    try:
        scores = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise OSError(f"{path}: damaged ({error}); delete it and score the run again") from error
    return scores if scores.get("format") == FORMAT else {}


def iterate_scores(root: Path, metrics: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(metric, what was written of it) of these metrics; None for all."""
    for path in sorted((root / "scores").glob("*.json")):
        if (metrics is None or path.stem in metrics) and (scores := read_scores(path)):
            yield path.stem, scores


def name_place(root: Path) -> dict[str, str]:
    """What the path of a run says of it: benchmark, backbone, editor, and what was overridden."""
    parts = ("", "", "", *root.resolve().parts)  # a short path lacks the first of these
    return dict(zip(PLACE, parts[-4:], strict=True))


def read_run_scores(root: Path, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The scores of one run, one a row; with those of the unedited inputs (editor `copy`) and real pictures (`real`).

    Columns: benchmark, backbone, editor, name and run (its place; run is empty for copy and real), set (requests: runs
    of another set are not to be compared), version of the benchmark, is_bound (floor or ceiling rather than a method),
    variant, strength (NaN: none), metric, value, low, high, n, higher_is_better, made_by (metric, network, reference).
    """
    rows = []
    if all_scores := list(iterate_scores(root, metrics)):
        place = name_place(root)
        kinds = {
            "rows": place | {"run": str(root), "is_bound": read_config(root)["is_bound"]},
            "copy": place | {"editor": "copy", "name": "", "run": "", "is_bound": True},
            "real": place | {"editor": "real", "name": "", "run": "", "is_bound": True},
        }
    for _, scores in all_scores:
        shared = {"set": scores["benchmark"], "version": scores["version"], "made_by": scores["made_by"]}
        for kind, where in kinds.items():
            for row in scores[kind]:
                strength = Variant.parse(row["variant"]).strength
                better = scores["higher_is_better"][row["metric"]]
                rows.append(where | shared | row | {"strength": strength, "higher_is_better": better})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(("strength", "value", "low", "high"), float))


def write_run_scores(root: Path) -> None:
    """`metrics.json` and the tidy `scores.parquet` of one run, from the scores of its metrics."""
    write_table(root / "scores.parquet", read_run_scores(root))
    summary: dict[str, Any] = {"run": name_place(root), "metrics": {}}
    for name, scores in iterate_scores(root):
        summary |= {key: scores[key] for key in ("benchmark", "version", "environment", "n")}
        summary["expected"] = scores["n"]
        keys = ("made_by", "undefined", "higher_is_better", "draws", "rows", "copy", "real", "real_missing")
        summary["metrics"][name] = {key: scores[key] for key in keys}
    write(root / "metrics.json", json.dumps(summary, indent=1).encode())


def is_outdated(root: Path) -> bool:
    """Whether the merged tables are older than a score, as a kill in between leaves them."""
    merged = [root / name for name in ("scores.parquet", "metrics.json")]
    newest = max((path.stat().st_mtime_ns for path in root.glob("scores/*.json")), default=0)
    return not all(path.is_file() and path.stat().st_mtime_ns >= newest for path in merged)


def explain_gaps(root: Path, metrics: Sequence[str]) -> list[str]:
    """Why some of these metrics are not defined for a run, or have no row of real pictures."""
    sentences = []
    for name in metrics:
        scores = read_scores(get_scores_path(root, name))
        if scores["undefined"]:
            sentences.append(f"{name} is not defined: {scores['undefined']}")
        if scores["real_missing"]:
            sentences.append(f"{name} has no row of real pictures: {scores['real_missing']}")
    return sentences
