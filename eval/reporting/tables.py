"""Tables of scores: a row per method and ratio, floor and ceiling first; and published figures."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

BOUNDS = ("real", "copy", "round_trip", "oracle")  # floor and ceiling: the same at every ratio
OVERRIDES = re.compile(r",(?=[^,=]+=)")  # between two settings of a run's name; a list has commas too


def methods(scores: pd.DataFrame) -> pd.Series:
    """What each row's method is called: its editor; where that has several runs, also what tells them apart.

    That is what was overridden and not for all of them, or else where they lie.
    """
    found = scores.editor + scores.groupby("editor")["name"].transform(differences)
    several = scores.groupby(found).run.transform("nunique") > 1
    return found.where(~several, scores.editor + " (" + scores.run + ")")


def differences(names: pd.Series) -> pd.Series:
    """Of each run's name what not all of them have, in brackets: "a=1,b=2" and "a=1" become " (b=2)" and ""."""
    parts = {name: OVERRIDES.split(name) for name in names.unique()}
    shared = set.intersection(*map(set, parts.values())) if parts else set()
    own = {name: ",".join(part for part in each if part not in shared) for name, each in parts.items()}
    return names.map({name: f" ({part})" if part else "" for name, part in own.items()})


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per method and ratio, a column for each metric; a method that is the same at every ratio has one row."""
    scores = scores.assign(method=methods(scores))
    rows = []
    for method, own in scores.groupby("method", sort=False):
        spread = own.groupby("metric").value.nunique().max()
        for ratio, part in own.groupby("ratio", dropna=False):
            shared = {"method": method, "editor": own.editor.iloc[0], "ratio": ratio}
            rows.append(shared | dict(zip(part.metric, part.value, strict=True)))
            if spread == 1 and own.ratio.nunique() > 1:
                rows[-1]["ratio"] = float("nan")
                break
    order = {name: i for i, name in enumerate(BOUNDS)}
    frame = pd.DataFrame(rows)
    rank = frame.editor.map(lambda name: order.get(name, len(order)))
    return frame.assign(rank=rank).sort_values(["rank", "method", "ratio"]).drop(columns="rank").reset_index(drop=True)


def published(path: Path) -> pd.DataFrame:
    """Published figures, one a row: method, metric, value (in our units), source.

    Those of curves have more columns, which are empty for others: point (its number in the method's curve), ratio
    (where it was printed), `ours` (what `methods` calls the same) and setting (data and model).

    Raises:
        ValueError: a column is missing, something is empty or no number, or a point has a metric twice; the message
            names file, line and column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"published = {path}: no such file")
    found = pd.read_csv(path, dtype=str, keep_default_na=False)
    needed = ("method", "metric", "value", "source")
    if missing := [name for name in needed if name not in found]:
        raise ValueError(f"{path}: no column {', '.join(missing)}")
    found = found.reindex(columns=[*needed, "point", "ratio", "ours", "setting"], fill_value="")
    for name in needed:
        check(found[name] != "", path, f"no {name}")
    for name in ("value", "point", "ratio"):
        read = pd.to_numeric(found[name], errors="coerce").astype(float)
        check(np.isfinite(read) | ((found[name] == "") & (name != "value")), path, f"{name} is no number")
        found[name] = read
    check(~found.duplicated(["method", "point", "metric"]), path, "a metric that this point of the method has already")
    return found


def check(good: pd.Series, path: Path, fault: str) -> None:
    """Refuse the first row of a file that is not good."""
    if not good.all():
        raise ValueError(f"{path}, line {good.idxmin() + 2}: {fault}")


def points(others: pd.DataFrame) -> pd.DataFrame:
    """Published figures, a row a point, in their order: method, ours, setting, ratio, a column for each metric."""
    others = others.fillna({"point": 1})
    key = ["method", "point"]
    about = others.drop_duplicates(key)[[*key, "ours", "setting", "ratio"]]
    return about.merge(others.pivot(index=key, columns="metric", values="value"), on=key).drop(columns="point")


def terminal(
    scores: pd.DataFrame, title: str, figures: Sequence[str] | None = None, others: pd.DataFrame | None = None
) -> Table:
    """The wide table for a terminal, with these figures (None: all); an arrow shows which way is better.

    A figure is followed by the larger half of its interval.
    `others` are published figures: rows below, marked as such.
    """
    frame, errors = wide(scores).drop(columns="editor"), half_widths(scores)
    if others is not None:
        rows = points(others).drop(columns=["ours", "setting"])
        frame = pd.concat([frame, rows.assign(method=rows.method + " (published)")])
    if figures is not None:
        frame = frame[["method", "ratio", *(name for name in figures if name in frame)]]
    better = dict(zip(scores.metric, scores.higher_is_better, strict=True))
    shown = Table(title=title, title_justify="left")
    for name in frame.columns:
        arrow = {"higher": " ↑", "lower": " ↓"}.get(better.get(name, ""), "")
        shown.add_column(name + arrow, justify="left" if name == "method" else "right")
    for row in frame.to_dict("records"):
        place = (row["method"], None if pd.isna(row.get("ratio")) else row["ratio"])
        shown.add_row(*(text(value, errors.get((*place, name))) for name, value in row.items()))
    return shown


def half_widths(scores: pd.DataFrame) -> dict[tuple[str, float | None, str], float]:
    """The larger half of the interval by method, ratio (None: where it is the same at every ratio) and metric."""
    half = (scores.high - scores.value).combine(scores.value - scores.low, max)
    found = {}
    for method, ratio, metric, each in zip(methods(scores), scores.ratio, scores.metric, half, strict=True):
        found[method, ratio, metric] = each
        found.setdefault((method, None, metric), each)
    return found


def text(value: object, error: float | None = None) -> str:
    """Four digits, and the error as far; nothing for what is not defined."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    digits = 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f}" + ("" if error is None or pd.isna(error) else f" ±{error:.{digits}f}")
