"""The scores of a run on disk, and how they are read back.

scores/<metric>.json           scores, intervals, n, what they were made with; of the edits, of the unedited inputs
                               (`copy`) and of as many real pictures (`real`, for a distance to a set); size and hash
                               of the tables below
scores/<metric>.parquet        a row per request and variant: what was measured, and each image's pseudo-values
scores/<metric>_classes.parquet  a row per variant and class, where the metric is class by class
scores/inputs.json             no metric's: the content of the inputs, so that they are read once
scores/parts/                  what was measured on parts of the run, until the scores are written (eval.scoring.parts)
metrics.json, scores.parquet   all scores of the run, one a row
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.io.files import read_regular, write
from diffedit.io.tables import encode_table
from diffedit.types import Variant
from eval.scoring.finished_run import read_config

FORMAT = 3  # of scores/<metric>.json; others are of another release: they are not read, and are scored anew
FIELDS = {  # of scores/<metric>.json, as far as they have one type
    **dict.fromkeys(("key", "made_by", "benchmark", "version"), str),
    **dict.fromkeys(("draws", "rows", "copy", "real"), list),
    **dict.fromkeys(("higher_is_better", "environment"), Mapping),
    "n": int,
}
LARGEST = 2**30  # bytes of a file of scores
PLACE = ("benchmark", "backbone", "editor", "name")  # what the last folders of a run's path say
COLUMNS = [
    *PLACE,
    *("run", "set", "version", "is_bound", "variant", "strength"),
    *("metric", "value", "low", "high", "n", "higher_is_better", "made_by", "note"),
]


def get_values_path(root: Path, name: str) -> Path:
    """Where what a metric measured on each image lies."""
    return root / "scores" / f"{name}.parquet"


def get_scores_path(root: Path, name: str) -> Path:
    """Where the scores of a metric lie."""
    return root / "scores" / f"{name}.json"


def get_inputs_path(root: Path, number: int | None = None) -> Path:
    """Where it is noted what the inputs of a run are, or, until its scores are written, those of a part."""
    return root / "scores" / "inputs.json" if number is None else get_parts_path(root) / "inputs" / f"{number:06d}.json"


def get_parts_path(root: Path) -> Path:
    """Where lies what was measured on parts of a run, until its scores are written."""
    return root / "scores" / "parts"


def read_json(path: Path) -> Any:
    """What a JSON file of scores holds; an OSError names one that is damaged."""
    try:
        return json.loads(read_regular(path, LARGEST))
    except (ValueError, RecursionError) as error:
        raise OSError(f"{path}: damaged ({error}); score the run again") from error


def read_scores(path: Path) -> dict[str, Any]:
    """What was written of a metric; empty where the file is of another release.

    Raises:
        OSError: the file is damaged; the message names it.
    """
    scores = read_json(path)
    try:
        if not isinstance(scores, Mapping):
            raise TypeError("no names and values")
        if scores.get("format") != FORMAT:
            return {}
        check_scores(scores)
    except (TypeError, KeyError) as error:
        text = f"no {error}" if isinstance(error, KeyError) else error
        raise OSError(f"{path}: damaged ({text}); score the run again") from error
    return dict(scores)


def check_scores(scores: Mapping[str, Any]) -> None:
    """Refuse what this code cannot have written: a TypeError or KeyError that says why."""
    for name, kind in FIELDS.items():
        if not isinstance(scores[name], kind):
            raise TypeError(f"{name} = {scores[name]!r}")
    for name in ("undefined", "real_missing"):
        if not isinstance(scores[name], str | None):
            raise TypeError(f"{name} = {scores[name]!r}")
    if not isinstance(notes := scores.get("notes", {}), Mapping) or not all(isinstance(v, str) for v in notes.values()):
        raise TypeError(f"notes = {notes!r}")
    for row in [*scores["rows"], *scores["copy"], *scores["real"]]:
        numbers = [row[name] for name in ("value", "low", "high")]
        if row["metric"] not in scores["higher_is_better"] or not isinstance(row["variant"], str):
            raise TypeError(f"a row of {row['metric']!r} at {row['variant']!r}")
        if not all(isinstance(number, int | float | None) for number in numbers):
            raise TypeError(f"a row of {row['metric']!r} with {numbers}")


def stamp_table(data: bytes) -> dict[str, Any]:
    """What scores note of a table beside them."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_table(path: Path, scores: Mapping[str, Any]) -> pd.DataFrame:
    """A table beside the scores of a metric; an OSError names one that is not what was written with them."""
    data = read_regular(path, LARGEST)
    try:
        if scores.get("files", {}).get(path.name, stamp_table(data)) != stamp_table(data):
            raise ValueError("not what was written")
        return pd.read_parquet(io.BytesIO(data))
    except Exception as error:  # of whatever reads Parquet
        raise OSError(f"{path}: damaged ({error}); score the run again") from error


def check_tables(root: Path, name: str, scores: Mapping[str, Any]) -> None:
    """Refuse scores whose tables are not what was written with them: an OSError names the file."""
    for file in scores.get("files", [get_values_path(root, name).name]):
        read_table(root / "scores" / file, scores)


def iterate_scores(root: Path, metrics: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(metric, what was written of it) of these metrics; None for all."""
    for path in sorted((root / "scores").glob("*.json")):
        wanted = path != get_inputs_path(root) and (metrics is None or path.stem in metrics)
        if wanted and (scores := read_scores(path)):
            yield path.stem, scores


def name_place(root: Path) -> dict[str, str]:
    """What the path of a run says of it: benchmark, backbone, editor, and what was overridden."""
    parts = ("", "", "", *root.resolve().parts)  # a short path lacks the first of these
    return dict(zip(PLACE, parts[-4:], strict=True))


def read_run_scores(root: Path, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The scores of one run, one a row; with those of the unedited inputs (editor `copy`) and real pictures (`real`).

    Columns: benchmark, backbone, editor, name and run (its place; run is empty for copy and real), set (requests: runs
    of another set are not to be compared), version of the benchmark, is_bound (floor or ceiling rather than a method),
    variant, strength (NaN: none), metric, value, low, high, n, higher_is_better, made_by (metric, network, reference),
    note (why there is no interval; "": nothing to say).
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
                note = scores.get("notes", {}).get(row["metric"], "")
                rows.append(where | shared | row | {"strength": strength, "higher_is_better": better, "note": note})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(("strength", "value", "low", "high"), float))


def write_run_scores(root: Path) -> None:
    """`metrics.json` and the tidy `scores.parquet` of one run, from the scores of its metrics."""
    for path, data in merge_scores(root).items():
        write(path, data)


def merge_scores(root: Path) -> dict[Path, bytes]:
    """What belongs into the two files."""
    summary: dict[str, Any] = {"run": name_place(root), "metrics": {}}
    for name, scores in iterate_scores(root):
        summary |= {key: scores[key] for key in ("benchmark", "version", "environment", "n")}
        summary["expected"] = scores["n"]
        keys = ("made_by", "undefined", "higher_is_better", "draws", "rows", "copy", "real", "real_missing")
        summary["metrics"][name] = {key: scores[key] for key in keys} | {"notes": scores.get("notes", {})}
    table = encode_table(read_run_scores(root))
    return {root / "scores.parquet": table, root / "metrics.json": json.dumps(summary, indent=1).encode()}


def find_outdated(root: Path) -> list[Path]:
    """Which of the two files is not what the scores say: older, as a kill in between leaves it, damaged, or gone."""

    def holds(path: Path, data: bytes) -> bool:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data

    return [path for path, data in merge_scores(root).items() if not holds(path, data)]


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
