"""The figures of many runs as one table; what may stand in it together."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diffedit.io.files import write
from diffedit.io.tables import table_bytes

log = logging.getLogger(__name__)

PLACE = ("benchmark", "backbone", "editor", "name")
COLUMNS = [*PLACE, "run", "set", "version", "ratio", "metric", "value", "low", "high", "n", "better", "made_by"]


class NotComparableError(ValueError):
    """Figures of different requests, or by different networks, are not to be compared."""


def names(root: Path) -> dict[str, str]:
    """What the place of a run says of it: benchmark, backbone, editor, and what was overridden."""
    return dict(zip(PLACE, root.resolve().parts[-4:], strict=True))


def read_scores_of(root: Path, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The figures of one run, one a row; with those of the unedited inputs (editor `copy`) and real pictures (`real`).

    Columns: benchmark, backbone, editor, name and run (its place; run is empty for copy and real), set (requests: runs
    of another set are not to be compared), version of the benchmark, ratio (NaN: none), metric, value, low, high, n,
    better (higher or lower), made_by (metric, network, reference).
    """
    rows: list[dict[str, Any]] = []  # files without a version are not of metrics, or of an older release
    for path in sorted((root / "scores").glob("*.json")):
        said = read_scores(path)
        if "version" not in said or (metrics is not None and path.stem not in metrics):
            continue
        about = {"set": said["benchmark"], "version": said["version"], "made_by": said["made_by"]}
        for editor, kind in ((None, "rows"), ("copy", "copy"), ("real", "real")):
            place = (
                names(root) | {"run": str(root)}
                if editor is None
                else {**names(root), "editor": editor, "name": "", "run": ""}
            )
            rows += [place | about | row | {"better": said["better"][row["metric"]]} for row in said[kind]]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(("ratio", "value", "low", "high"), float))


def read_scores(path: Path) -> dict[str, Any]:
    """What was written of a metric; an OSError that names a damaged file."""
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise OSError(f"{path}: damaged ({error}); delete it and score the run again") from error


def remarks(root: Path, metrics: Sequence[str]) -> list[str]:
    """Why some of these metrics are not defined for a run, or have no floor."""
    found = []
    for name in metrics:
        said = read_scores(root / "scores" / f"{name}.json")
        found += [f"{name} is not defined: {said['undefined']}"] if said["undefined"] else []
        found += [f"{name} has no row of real pictures: {said['real_missing']}"] if said["real_missing"] else []
    return found


def collect(roots: Iterable[Path], metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The figures of many runs, one a row, as `figures` has them; copy and real once for each set of requests.

    A run of editor `copy` stands for the copies that other runs computed of their inputs.
    """
    table = pd.concat([read_scores_of(root, metrics) for root in roots] or [pd.DataFrame(columns=COLUMNS)])
    table = table.drop_duplicates([*PLACE, "run", "set", "ratio", "metric", "made_by"])
    own = table[(table.editor == "copy") & (table.run != "")]
    key = ["benchmark", "backbone", "set", "metric"]
    held = set(own[key].itertuples(index=False, name=None))
    places = pd.Series(list(table[key].itertuples(index=False, name=None)), table.index, dtype=object)
    again = (table.editor == "copy") & (table.run == "") & places.isin(held)
    return table[~again].reset_index(drop=True)


def comparable(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores themselves, where they may stand in one table or plot.

    Raises:
        NotComparableError: they are of different requests (another n, benchmark version or settings), or a metric was
            measured by different networks, settings or references; the message names runs of each.
    """
    for column, what in (("version", "versions of the benchmark"), ("n", "n"), ("set", "settings of the benchmark")):
        for benchmark, own in scores.groupby("benchmark"):
            refuse(own, column, f"{benchmark}: runs of different {what} are not compared", "choose among them by run=")
    for metric, own in scores.groupby("metric"):
        refuse(own, "made_by", f"{metric} was measured in different ways", "score these runs again by one of them")
    return scores


def refuse(scores: pd.DataFrame, column: str, fault: str, advice: str) -> None:
    """Refuse more than one value of a column."""
    if scores[column].nunique() < 2:
        return
    seen = [
        f"{value}: {', '.join(list(dict.fromkeys(filter(None, own.run)))[:3])}" for value, own in scores.groupby(column)
    ]
    raise NotComparableError(f"{fault}; {advice}:\n  " + "\n  ".join(seen))


def write_run(root: Path) -> None:
    """`metrics.json` and the tidy `scores.parquet` of one run, from its scores."""
    write(root / "scores.parquet", table_bytes(read_scores_of(root)))
    told: dict[str, Any] = {"run": names(root), "metrics": {}}
    for path in sorted((root / "scores").glob("*.json")):
        said = read_scores(path)
        if "version" not in said:
            continue
        told |= {name: said[name] for name in ("benchmark", "version", "environment")} | {
            "n": said["n"],
            "expected": said["n"],
        }
        keep = ("made_by", "undefined", "better", "draws", "rows", "copy", "real", "real_missing")
        told["metrics"][path.stem] = {name: said[name] for name in keep}
    write(root / "metrics.json", json.dumps(told, indent=1).encode())
