"""Tables of scores: a row per method and variant, floor and ceiling first; and published values."""

import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from diffedit.types import UNEDITED, Variant
from eval.reporting.collect import NotComparableError, check_comparable
from eval.reporting.seeds import describe_seeds

log = logging.getLogger(__name__)

NAN = float("nan")
WIDTH = 100  # characters of a line where there is no terminal
LONGEST_NAME = 40  # characters of a method in its column; a longer one is written out below
LONGEST_LIST = 10  # names
MOST_DIGITS = 4  # behind the point
GAP = 2  # characters between two columns
MISSING = "–"  # a value that there is not
RESOLVED = ("kid", "kid_stratified")  # metrics that say nothing while their interval is wider than from real to copy
OF_SETS = ("fid", "sfid", "sfid_debiased", *RESOLVED, "cmmd", "cmmd_debiased")  # distances of the set as a whole
BOUNDS = ("real", "copy", "round_trip", "oracle", "retrieve")  # the order of these; any other bound follows
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


class FittedTable(NamedTuple):
    """A table that fits a terminal (None without a row); above it a title, below it what it leaves out, and why."""

    title: str
    table: Table | None
    notes: list[str]

    def __rich__(self) -> Group:
        return Group(Text(self.title, "bold"), *filter(None, [self.table]), *(Text(note) for note in self.notes))


def make_console() -> Console:
    """Standard output: as wide as the terminal, and `WIDTH` columns where it is a file or a pipe."""
    return Console(width=None if Console().is_terminal else WIDTH)


def build_table(
    scores: pd.DataFrame,
    title: str,
    columns: Sequence[str] | None = None,
    published: pd.DataFrame | None = None,
    width: int = WIDTH,
    asked: Collection[str] = (),
) -> FittedTable:
    """The pivoted table for a terminal; an arrow shows which way is better.

    A value is followed by the larger half of its interval. The last metrics are left out where all do not fit, and one
    that has no value is no column; both are said below, and long names of methods are written out there.

    Args:
        scores: as `eval.reporting.collect.collect` returns them.
        title: above it.
        columns: metrics to show, in this order, as far as they are there; None for all.
        published: as `read_published` returns them: rows below, marked as such.
        width: in characters.
        asked: metrics whose absence is to be said.
    """
    frame, blind = drop_blind(pivot_with_published(scores, published), scores)
    frame, unresolved = drop_unresolved(frame, scores)
    unresolved |= blind
    scored = [name for name in frame if name not in ("method", "variant")]
    metrics = scored if columns is None else [name for name in columns if name in scored]
    cells, notes = format_cells(frame, scores, metrics)
    shown = fit_columns(cells, width)
    metrics = metrics[: len(shown) - 2]
    rows = list(zip(*(cells[name] for name in shown), strict=True))
    empty = [row for row in rows if metrics and set(row[2:]) == {MISSING}]
    rows = [row for row in rows if row not in empty]
    if seeds := describe_seeds(scores.assign(method=name_methods(scores))):
        notes.append(seeds)
    if any(MISSING in row for row in rows):
        notes.append(f"{MISSING}: not defined for this method, or not known")
    said = {
        "without any of these": list(dict.fromkeys(row[0] for row in empty)),
        "not defined here": [
            name for name in asked if name not in {*scored, *unresolved} and name in (columns or asked)
        ],
        "also scored": [name for name in scored if name not in metrics and name in set(scores.metric)],
    }
    noted = scores[scores.metric.isin(metrics) & (scores.note != "")]
    notes += dict.fromkeys(noted.metric + ": " + noted.note)
    notes += [f"{name}: {why}" for name, why in unresolved.items() if columns is None or name in columns]
    notes += [f"{what}: {list_names(names)}" for what, names in said.items() if names]
    if said["also scored"]:
        notes[-1] += ": in the CSV, out=scores.csv"
    table = make_table(shown, rows)
    return FittedTable(fold(title, width), table, [fold(note, width) for note in notes])


def pivot_with_published(scores: pd.DataFrame, published: pd.DataFrame | None) -> pd.DataFrame:
    """Method, variant and the metrics that have a value: of the runs, and below them what is published."""
    frame = pivot_scores(scores).drop(columns=["editor", "is_bound", "strength"])
    if published is not None:
        points = pivot_published(published)
        variants = ["" if np.isnan(ratio) else str(Variant(ratio)) for ratio in points.ratio]
        points = points.assign(method=points.method + " (published)", variant=variants)
        frame = pd.concat([frame, points.drop(columns=["editor", "setting", "ratio"])], ignore_index=True)
    return frame.dropna(axis=1, how="all")


def drop_blind(frame: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """(the table without distances of sets by which unedited inputs are as good as exact answers, why, by metric).

    Where an edit turns one kind of picture into another of the same collection, as on Still Life, the inputs are spread
    as the targets are, and a distance of the set as a whole sees no edit. Known only where there is an `oracle`.
    """
    reasons = {}
    for metric in [name for name in OF_SETS if name in frame]:
        ends = scores[scores.metric == metric].dropna(subset=["value", "low", "high"]).groupby("editor").first()
        if {"copy", "oracle"} <= set(ends.index):
            copy, oracle = ends.loc["copy"], ends.loc["oracle"]
            if copy.low <= oracle.high and oracle.low <= copy.high:
                pair = f"copy ({copy.value:.3g}) and oracle ({oracle.value:.3g})"
                reasons[metric] = f"not shown: it does not tell {pair} apart, so it does not measure edits here"
    return frame.drop(columns=list(reasons)), reasons


def drop_unresolved(frame: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """(the table without values whose interval is wider than from `real` to `copy`, which n would do, by metric).

    An interval shrinks as the square root of n, so that n grows as its square. Where even `copy` and `real` cannot be
    told apart, no n is named: there may be nothing to tell.
    """
    frame, reasons = frame.copy(), {}
    for metric in [name for name in RESOLVED if name in frame]:
        part = scores[scores.metric == metric].dropna(subset=["value", "low", "high"])
        ends = part.groupby("editor").first()
        if not {"real", "copy"} <= set(ends.index):
            continue
        real, copy = ends.loc["real"], ends.loc["copy"]
        spread, known = abs(copy.value - real.value), compute_widths(scores, metric)
        widths = pd.Series([known.get(key, 0.0) for key in zip(frame.method, frame.variant, strict=True)], frame.index)
        is_vague = (widths > spread) & frame[metric].notna()
        if not is_vague.any():
            continue
        frame.loc[is_vague, metric] = NAN
        span = f"from real ({real.value:.3g}) to copy ({copy.value:.3g})"
        if copy.low <= real.value <= copy.high:
            reason = "these are not told apart, and no n is known that would do"
        else:
            reason = f"about n = {math.ceil(part.n.max() * (widths.max() / spread) ** 2):,} would do"
        reasons[metric] = f"not shown where its interval is wider than {span}; {reason}"
    return frame.dropna(axis=1, how="all"), reasons


def compute_widths(scores: pd.DataFrame, metric: str) -> dict[tuple[str, str], float]:
    """The width of the interval by method and variant ("": where it is the same at every one)."""
    widths: dict[tuple[str, str], float] = {}
    rows = scores.assign(method=name_methods(scores))
    for row in rows[rows.metric == metric].itertuples():
        widths[row.method, row.variant] = row.high - row.low
        widths.setdefault((row.method, ""), row.high - row.low)
    return widths


def make_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Texts as a table with `GAP` characters between its columns; the first column to the left, others to the right."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def format_cells(
    frame: pd.DataFrame, scores: pd.DataFrame, metrics: Sequence[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """(the texts of each column by its head, long names written out) of a pivoted table."""
    labels = shorten_names(frame.method)
    notes = [f"{label}: {name}" for name, label in labels.items() if label != name]
    kinds = {variant.partition("=")[0] for variant in frame.variant} - {""}
    head = kinds.pop() if len(kinds) == 1 else "variant"  # one kind of strength: its name need not stand in each row
    cells = {
        "method": [labels[name] for name in frame.method],
        head: [variant.removeprefix(f"{head}=") for variant in frame.variant],
    }
    is_higher = dict(zip(scores.metric, scores.higher_is_better, strict=True))
    errors = compute_half_widths(scores)
    arrows = {True: " ↑", False: " ↓"}
    for name in metrics:
        cells[name + arrows.get(is_higher.get(name), "")] = [
            format_value(value, errors.get((method, variant, name)))
            for method, variant, value in zip(frame.method, frame.variant, frame[name], strict=True)
        ]
    return cells, notes


def shorten_names(methods: Iterable[str]) -> dict[str, str]:
    """What stands in the table for each method: its name, or where that is long its beginning and a number."""
    names = list(dict.fromkeys(methods))
    is_long = [len(name) > LONGEST_NAME for name in names]
    return {
        name: f"{name.partition(' (')[0][: LONGEST_NAME - 4]} #{sum(is_long[: i + 1])}" if is_long[i] else name
        for i, name in enumerate(names)
    }


def fit_columns(cells: dict[str, list[str]], width: int) -> list[str]:
    """The columns that fit, the last ones left out; the first three always stand there."""
    ends = np.cumsum([max(map(len, (head, *column))) + GAP for head, column in cells.items()])
    return list(cells)[: max(3, int((ends <= width).sum()))]


def list_names(names: Sequence[str]) -> str:
    """Names, with commas; of many the first ones, and how many more."""
    more = len(names) - LONGEST_LIST
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:LONGEST_LIST])} and {more} more"


def fold(text: str, width: int) -> str:
    """A text in lines of at most this width, broken after a space or a comma."""
    lines = [""]
    for part in re.findall(r"[^ ,]*[ ,]*", text):
        if len(lines[-1]) + len(part.rstrip()) > width and lines[-1]:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def compute_half_widths(scores: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """The larger half of the interval by method, variant ("": where it is the same at every one) and metric."""
    halves = (scores.high - scores.value).combine(scores.value - scores.low, max)
    widths = {}
    for method, variant, metric, half in zip(name_methods(scores), scores.variant, scores.metric, halves, strict=True):
        widths[method, variant, metric] = half
        widths.setdefault((method, "", metric), half)
    return widths


def format_value(value: float, error: float | None = None) -> str:
    """A number as far as it is known: its error to two digits, and the value as far; a dash where there is none.

    Without an error, or with one that rounding leaves nothing of, the value has four digits.
    """
    if pd.isna(value):
        return MISSING
    if error is None or pd.isna(error) or error < 10.0**-MOST_DIGITS:
        return f"{value:.{3 if abs(value) < 10 else 1}f}" + ("" if error is None or pd.isna(error) else " ±0")
    digits = min(1 - math.floor(math.log10(error)), MOST_DIGITS)
    value, error = (round(number, digits) + 0.0 for number in (value, error))  # + 0.0: no -0
    return f"{value:.{max(digits, 0)}f} ±{error:.{max(digits, 0)}f}"


def print_tables(
    scores: pd.DataFrame,
    group: Sequence[str],
    columns: Sequence[str] | None = None,
    published: pd.DataFrame | None = None,
    asked: Collection[str] = (),
) -> int:
    """Print a table for each group of runs that may be compared.

    Args:
        scores: as `eval.reporting.collect.collect` returns them.
        group: the columns whose values a table has in common, as `benchmark` and `backbone`.
        columns: as of `build_table`.
        published: as of `build_table`.
        asked: as of `build_table`.

    Returns:
        how many tables were refused, for their scores are not comparable; the log says why.
    """
    console = make_console()
    refused = 0
    for title, part in split_groups(scores, group):
        try:
            counted = f"{title}, n = {part.n.max()}"
            table = build_table(check_comparable(part), counted, columns, published, console.width, asked)
            console.print("", table)
        except NotComparableError as error:
            refused += 1
            log.error("%s: no table: %s", title, error)
        if absent := [name for name in BOUNDS if name not in (*part.editor, "real", "retrieve")]:
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
