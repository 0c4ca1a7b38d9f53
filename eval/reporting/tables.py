"""Tables of scores: a row per method and variant, floor and ceiling first; and published values."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from diffedit.types import UNEDITED, Variant
from eval.reporting.collect import NotComparableError, check_comparable

log = logging.getLogger(__name__)

NAN = float("nan")
BOUNDS = ("real", "copy", "round_trip", "oracle")  # the order of these; any other bound follows
OVERRIDES = re.compile(r",(?=[^,=]+=)")  # between two settings of a run's name; a list has commas too


def name_methods(scores: pd.DataFrame) -> pd.Series:
    """What each row's method is called: its editor; where that has several runs, also what tells them apart.

    That is what was overridden and not for all of them, or else where they lie.
    """
    methods = scores.editor + scores.groupby("editor")["name"].transform(find_differences)
    is_ambiguous = scores.groupby(methods).run.transform("nunique") > 1
    return methods.where(~is_ambiguous, scores.editor + " (" + scores.run + ")")


def find_differences(names: pd.Series) -> pd.Series:
    """Of each run's name what not all of them have, in brackets: "a=1,b=2" and "a=1" become " (b=2)" and ""."""
    overrides = {name: OVERRIDES.split(name) for name in names.unique()}
    shared = set.intersection(*map(set, overrides.values())) if overrides else set()
    suffixes = {}
    for name, parts in overrides.items():
        difference = ",".join(part for part in parts if part not in shared)
        suffixes[name] = f" ({difference})" if difference else ""
    return names.map(suffixes)


def pivot_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per method and variant, a column for each metric; a method that is the same at every one has one row.

    Columns: method, editor, is_bound, variant and strength ("" and NaN for that one row), then the metrics.
    """
    scores = scores.assign(method=name_methods(scores))
    rows = []
    for method, part in scores.groupby("method", sort=False):
        is_constant = part.groupby("metric").value.nunique().max() == 1 and part.variant.nunique() > 1
        is_constant |= set(part.variant) == {str(UNEDITED)}
        for (strength, variant), values in part.groupby(["strength", "variant"], dropna=False):
            key = {"method": method, "editor": part.editor.iloc[0], "is_bound": part.is_bound.iloc[0]}
            key |= {"variant": "", "strength": NAN} if is_constant else {"variant": variant, "strength": strength}
            rows.append(key | dict(zip(values.metric, values.value, strict=True)))
            if is_constant:
                break
    frame = pd.DataFrame(rows)
    rank = [
        BOUNDS.index(editor) if editor in BOUNDS else len(BOUNDS) + (not is_bound)
        for editor, is_bound in zip(frame.editor, frame.is_bound, strict=True)
    ]
    frame = frame.assign(rank=rank).sort_values(["rank", "method", "strength", "variant"])
    return frame.drop(columns="rank").reset_index(drop=True)


# ---------------------------------------------------------------------------------------------------- published values


def read_published(path: Path) -> pd.DataFrame:
    """Published values, one a row: method, metric, value (in our units), source.

    Those of curves have more columns, which are empty for others: point (its number in the method's curve), ratio
    (where it was printed), editor (what `name_methods` calls the same here) and setting (data and model).

    Raises:
        ValueError: a column is missing, something is empty or no number, or a point has a metric twice; the message
            names file, line and column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"published = {path}: no such file")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    needed = ("method", "metric", "value", "source")
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"{path}: no column {', '.join(missing)}")
    table = table.reindex(columns=[*needed, "point", "ratio", "editor", "setting"], fill_value="")
    for name in needed:
        check_rows(table[name] != "", path, f"no {name}")
    for name in ("value", "point", "ratio"):
        numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
        is_absent = (table[name] == "") & (name != "value")
        check_rows(np.isfinite(numbers) | is_absent, path, f"{name} is no number")
        table[name] = numbers
    is_repeated = table.duplicated(["method", "point", "metric"])
    check_rows(~is_repeated, path, "a metric that this point of the method has already")
    return table


def check_rows(good: pd.Series, path: Path, fault: str) -> None:
    """Refuse the first row of a file that is not good."""
    if not good.all():
        raise ValueError(f"{path}, line {good.idxmin() + 2}: {fault}")


def pivot_published(published: pd.DataFrame) -> pd.DataFrame:
    """Published values, a row a point, in their order: method, editor, setting, ratio, a column for each metric."""
    published = published.fillna({"point": 1})
    key = ["method", "point"]
    points = published.drop_duplicates(key)[[*key, "editor", "setting", "ratio"]]
    return points.merge(published.pivot(index=key, columns="metric", values="value"), on=key).drop(columns="point")


# ------------------------------------------------------------------------------------------------------- for a terminal


def build_table(
    scores: pd.DataFrame, title: str, columns: Sequence[str] | None = None, published: pd.DataFrame | None = None
) -> Table:
    """The pivoted table for a terminal; an arrow shows which way is better.

    A value is followed by the larger half of its interval.

    Args:
        scores: as `eval.reporting.collect.collect` returns them.
        title: above it.
        columns: metrics to show, in this order, as far as they are there; None for all.
        published: as `read_published` returns them: rows below, marked as such.
    """
    frame = pivot_scores(scores).drop(columns=["editor", "is_bound", "strength"])
    if published is not None:
        points = pivot_published(published)
        variants = ["" if np.isnan(ratio) else str(Variant(ratio)) for ratio in points.ratio]
        points = points.assign(method=points.method + " (published)", variant=variants)
        frame = pd.concat([frame, points.drop(columns=["editor", "setting", "ratio"])])
    if columns is not None:
        frame = frame[["method", "variant", *(name for name in columns if name in frame)]]
    arrows = {True: " ↑", False: " ↓"}
    is_higher = dict(zip(scores.metric, scores.higher_is_better, strict=True))
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        table.add_column(name + arrows.get(is_higher.get(name), ""), justify="left" if name == "method" else "right")
    widths = compute_half_widths(scores)
    for row in frame.to_dict("records"):
        key = row["method"], row["variant"]
        table.add_row(*(format_value(value, widths.get((*key, name))) for name, value in row.items()))
    return table


def compute_half_widths(scores: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """The larger half of the interval by method, variant ("": where it is the same at every one) and metric."""
    halves = (scores.high - scores.value).combine(scores.value - scores.low, max)
    widths = {}
    for method, variant, metric, half in zip(name_methods(scores), scores.variant, scores.metric, halves, strict=True):
        widths[method, variant, metric] = half
        widths.setdefault((method, "", metric), half)
    return widths


def format_value(value: object, error: float | None = None) -> str:
    """Four digits, and the error as far; nothing for what is not defined."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    digits = 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f}" + ("" if error is None or pd.isna(error) else f" ±{error:.{digits}f}")


def print_tables(
    scores: pd.DataFrame,
    group: Sequence[str],
    columns: Sequence[str] | None = None,
    published: pd.DataFrame | None = None,
) -> int:
    """Print a table for each group of runs that may be compared.

    Args:
        scores: as `eval.reporting.collect.collect` returns them.
        group: the columns whose values a table has in common, as `benchmark` and `backbone`.
        columns: as of `build_table`.
        published: as of `build_table`.

    Returns:
        how many tables were refused, for their scores are not comparable; the log says why.
    """
    console = Console(width=None if Console().is_terminal else 200)
    refused = 0
    for title, part in split_groups(scores, group):
        try:
            console.print(build_table(check_comparable(part), f"{title}, n = {part.n.max()}", columns, published))
        except NotComparableError as error:
            refused += 1
            log.error("%s: no table: %s", title, error)
        if absent := [name for name in BOUNDS if name not in (*part.editor, "real")]:
            log.info("no %s there: run editor=%s for floor and ceiling", " and ".join(absent), ",".join(absent))
    return refused


def split_groups(scores: pd.DataFrame, group: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """(title, scores) of each group; several where a group has scores of different requests, which the log says."""
    counts = scores.groupby(list(group)).set.nunique()
    for key, count in counts[counts > 1].items():
        title = ", ".join(key) if isinstance(key, tuple) else key
        log.warning("%s: %d sets of requests (other n, settings or version), not compared: a table each", title, count)
    for (*key, _), part in scores.groupby([*group, "set"], sort=False):
        yield ", ".join(key), part
