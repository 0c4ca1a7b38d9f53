"""The cells of one benchmark's columns, and what may be compared in them: at a ratio, at each, or at equal fidelity."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eval.reporting.compare import find_range, list_values, make_curve
from eval.reporting.paper_table.best import Contest, compare_means
from eval.reporting.paper_table.description import NAN, Cell, Kind
from eval.reporting.seeds import list_seeds, read_mean_pseudo_values
from eval.reporting.tables import drop_blind, drop_unresolved, list_names, name_methods, pivot_scores
from eval.scoring.bootstrap import Bootstrap, Interval
from eval.scoring.matched import Curve, bound, compare_at, find_value, resample_at

Write = Callable[[str], str]


class Key(NamedTuple):
    """A row of a table: what it is of, at which setting, and, of published values, which point of a curve it is."""

    kind: Kind
    method: str
    setting: str = ""
    point: int = 0


class Part(NamedTuple):
    """What one benchmark gives to a table.

    Attributes:
        cells: by row and metric.
        contests: (setting, metric, its contest among the methods there).
        heads: what the settings are of: "ratio".
        notes: sentences.
        editors: of each method.
        seeds: of each method, as far as they are known.
        sources: of published rows.
    """

    cells: dict[Key, dict[str, Cell]]
    contests: list[tuple[str, str, Contest]]
    heads: list[str]
    notes: list[str]
    editors: dict[str, str]
    seeds: dict[str, tuple[int, ...]]
    sources: dict[Key, str]


Parts = Mapping[tuple[str, str, str], Part]  # by benchmark, backbone and set of requests


class Measured:
    """What was measured on each image of the methods of one set of runs, read once; None where nothing was."""

    def __init__(self, scores: pd.DataFrame, resamples: int, seed: int) -> None:
        self.rows = {row.method: row for row in scores[scores.run != ""].drop_duplicates("method").itertuples()}
        self.is_higher_better = dict(zip(scores.metric, scores.higher_is_better.astype(bool), strict=True))
        self.resamples, self.seed = resamples, seed
        self.tables: dict[tuple[str, str], pd.DataFrame | None] = {}
        self.index: pd.MultiIndex | None = None
        self._bootstrap: Bootstrap | None = None

    def read(self, method: str, metric: str) -> pd.DataFrame | None:
        """A row for each image, in the order of the first table that was read; a column for each strength."""
        if (method, metric) not in self.tables:
            try:
                table = read_mean_pseudo_values(self.rows[method], metric)
            except KeyError:  # not measured on each image
                table = None
            if table is not None:
                self.index = table.index if self.index is None else self.index
                table = table.reindex(self.index)
            self.tables[method, metric] = table
        return self.tables[method, metric]

    @property
    def bootstrap(self) -> Bootstrap:
        """The resamples, the same for all."""
        if self._bootstrap is None:
            labels = list(self.index.get_level_values("label"))
            self._bootstrap = Bootstrap.of_labels(labels, self.resamples, self.seed)
        return self._bootstrap


def collect_at_strengths(
    scores: pd.DataFrame, at: float | None, metrics: Sequence[str], measured: Measured, write: Write = str
) -> Part:
    """Methods at one strength, or, for None, at each that they have.

    Args:
        scores: of one set of runs, with a column `method`.
        at: the strength.
        metrics: wanted ones.
        measured: of these runs.
        write: what a method or a metric is called in the table.
    """
    part, frame = collect_fixed(scores, metrics, write)
    methods = frame[~frame.is_bound]
    varied = methods[methods.strength.notna()]
    heads = list(dict.fromkeys(variant.partition("=")[0] for variant in varied.variant))
    if at is not None:
        is_there = np.isclose(varied.strength, at, rtol=0, atol=1e-9)
        lacking = [name for name in dict.fromkeys(varied.method) if not is_there[varied.method == name].any()]
        for name in lacking:
            there = list_values(sorted(varied.strength[varied.method == name]))
            part.notes.append(f"{write(name)}: not run at {' or '.join(heads)} {at:g}; it has {there}")
        methods = methods[methods.strength.isna() | methods.index.isin(varied.index[is_there])]
    strengths: dict[str, dict[str, float]] = {}
    for row in methods.sort_values("strength", kind="stable", na_position="first").itertuples():
        setting = "" if at is not None else describe_setting(row.variant, heads)
        part.cells[Key("method", row.method, setting)] = find_cells(frame.loc[row.Index], scores, metrics)
        strengths.setdefault(setting, {})[row.method] = row.strength
    is_apart = "" in strengths and len(strengths) > 1  # at once at all strengths, so in none of the contests
    for setting, here in strengths.items():
        if setting or not is_apart:
            part.contests.extend(contest_means(part, here, setting, metrics, measured))
    if is_apart:
        part.notes.append(
            f"the same at every {' or '.join(heads)}, and not compared: {list_names([*map(write, strengths[''])])}"
        )
    return part._replace(heads=heads)


def describe_setting(variant: str, heads: Sequence[str]) -> str:
    """A variant as it stands in its column: "0.7", or with its name where there are several; "" for none."""
    return variant.removeprefix(f"{heads[0]}=") if len(heads) == 1 else variant


def collect_fixed(scores: pd.DataFrame, metrics: Sequence[str], write: Write) -> tuple[Part, pd.DataFrame]:
    """(floor and ceiling, notes on what is not shown; the pivoted scores without that)."""
    frame = pivot_scores(scores)
    shown, blind = drop_blind(frame.drop(columns=["editor", "is_bound", "strength"]), scores)
    shown, vague = drop_unresolved(shown, scores)
    for metric in [name for name in frame if name in set(scores.metric)]:
        frame[metric] = shown.get(metric, NAN)
    notes = [f"{write(name)}: {why}" for name, why in (blind | vague).items() if name in metrics]
    noted = scores[scores.metric.isin(metrics) & (scores.note != "")]
    notes += dict.fromkeys(noted.metric.map(write) + ": " + noted.note)
    cells = {}
    for row in frame[frame.is_bound].drop_duplicates("method").itertuples():
        cells[Key("bound", row.method)] = find_cells(frame.loc[row.Index], scores, metrics)
    editors = dict(zip(scores.method, scores.editor, strict=True))
    return Part(cells, [], [], notes, editors, list_seeds(scores), {}), frame


def find_cells(row: pd.Series, scores: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Cell]:
    """The cells of a row of pivoted scores; a metric without a value has none."""
    rows = scores[scores.method == row.method]
    cells = {}
    for metric in metrics:
        found = rows[rows.metric == metric]
        if row.variant:
            found = found[found.variant == row.variant]
        if not found.empty and math.isfinite(value := row.get(metric, NAN)):
            first = found.iloc[0]
            cells[metric] = Cell(float(value), float(first.low), float(first.high), int(first.n), note=first.note)
    return cells


def contest_means(
    part: Part, strengths: dict[str, float], setting: str, metrics: Sequence[str], measured: Measured
) -> Iterator[tuple[str, str, Contest]]:
    """Methods at these strengths against one another, in each metric."""
    for metric in metrics:
        found = {}
        for method in strengths:
            cell = part.cells[Key("method", method, setting)].get(metric)
            if cell is not None:
                found[method] = (cell.value, pick_column(measured.read(method, metric), strengths[method]))
        if len(found) < 2:
            continue
        columns = {method: column for method, (_, column) in found.items() if column is not None}

        def test(one: str, other: str, columns: dict[str, Any] = columns) -> float:
            return compare_means(columns[one], columns[other], measured.bootstrap)

        values = {method: value for method, (value, _) in found.items()}
        yield setting, metric, Contest(measured.is_higher_better[metric], values, test, columns.__contains__)


def pick_column(table: pd.DataFrame | None, strength: float) -> np.ndarray | None:
    """What was measured at a strength; of a method that has one row for all strengths, at any of them."""
    if table is None or table.empty:
        return None
    if math.isnan(strength):
        return table.iloc[:, 0].to_numpy(float)
    places = np.flatnonzero(np.isclose(table.columns.to_numpy(float), strength, rtol=0, atol=1e-9))
    return table.iloc[:, places[0]].to_numpy(float) if len(places) else None


def collect_at_equal(
    scores: pd.DataFrame,
    match: str,
    match_at: Sequence[float],
    metrics: Sequence[str],
    measured: Measured,
    write: Write = str,
) -> Part:
    """Methods where a metric has the same value for all, between the strengths that were run.

    Args:
        scores: of one set of runs, with a column `method`.
        match: the matched metric.
        match_at: its values.
        metrics: wanted ones.
        measured: of these runs.
        write: what a method or a metric is called in the table.
    """
    part, frame = collect_fixed(scores, metrics, write)
    methods = list(dict.fromkeys(frame.method[~frame.is_bound]))
    curves = {(name, metric): read_curve(measured, name, match, metric) for name in methods for metric in metrics}
    for at in match_at:
        missed = set(methods)
        for method in methods:
            cells = {}
            for metric in metrics:
                curve = curves[method, metric]
                cell = Cell() if curve is None else find_cell_at(curve, at, measured.bootstrap)
                if math.isfinite(cell.value):
                    cells[metric] = cell
            if cells:
                part.cells[Key("method", method, f"{at:g}")] = cells
                missed.discard(method)
        vague = [
            name
            for name in methods
            for cell in part.cells.get(Key("method", name, f"{at:g}"), {}).values()
            if math.isnan(cell.low)
        ]
        if vague:
            named = list_names([*map(write, dict.fromkeys(vague))])
            part.notes.append(
                f"no interval at {write(match)} {at:g}, and not compared: too few resamples reach it: {named}"
            )
        if missed:
            part.notes.append(
                f"not reached at {write(match)} {at:g}: {describe_ranges(sorted(missed), match, measured, write)}"
            )
        part.contests.extend(contest_curves(part, curves, at, metrics, measured))
    return part


def describe_ranges(methods: Sequence[str], match: str, measured: Measured, write: Write) -> str:
    """How far each of these methods goes in a metric."""
    parts = []
    for name in methods:
        table = measured.read(name, match)
        where = "not measured" if table is None or table.empty else "{:.3g} to {:.3g}".format(*find_range(table.values))
        parts.append(f"{write(name)} ({where})")
    return list_names(parts)


def read_curve(measured: Measured, method: str, match: str, metric: str) -> Curve | None:
    """A method as a curve in two metrics, over the strengths at which both were measured; None where none is."""
    tables = [measured.read(method, name) for name in (match, metric)]
    if any(table is None for table in tables):
        return None
    strengths = tables[0].columns.intersection(tables[1].columns)
    strengths = [s for s in strengths if pd.notna(s) and all(np.isfinite(table[s]).all() for table in tables)]
    if not strengths:
        return None
    return make_curve((tables[0][strengths], tables[1][strengths]), measured.index, match, metric)


def find_cell_at(curve: Curve, at: float, bootstrap: Bootstrap) -> Cell:
    """A metric of a method where the matched one has a value; its interval covers what interpolation may err by."""
    found = find_value(curve, at)
    if not math.isfinite(found.value):
        return Cell()
    interval = Interval(found.value)
    noise = resample_at(curve, at, bootstrap) - found.value
    reached = np.isfinite(noise)
    if bootstrap.n > 1 and reached.mean() >= bootstrap.level:
        half, _ = bound(found.value, noise[reached], found.error, bootstrap.level)
        interval = Interval(found.value, found.value - half, found.value + half)
    return Cell(*interval, bootstrap.n)


def contest_curves(
    part: Part, curves: dict[tuple[str, str], Curve | None], at: float, metrics: Sequence[str], measured: Measured
) -> Iterator[tuple[str, str, Contest]]:
    """Methods at one value of the matched metric against one another, in each metric."""
    setting = f"{at:g}"
    for metric in metrics:
        found = {key.method: cells[metric].value for key, cells in part.cells.items()
                 if key.kind == "method" and key.setting == setting and metric in cells}  # fmt: skip
        if len(found) < 2:
            continue

        def test(one: str, other: str, metric: str = metric) -> float:
            pair = curves[one, metric], curves[other, metric]
            return compare_at(*pair, at, measured.bootstrap).p if measured.bootstrap.n > 1 else NAN

        yield setting, metric, Contest(measured.is_higher_better[metric], found, test, found.__contains__)


def prepare(scores: pd.DataFrame, resamples: int, seed: int) -> tuple[pd.DataFrame, Measured]:
    """(the scores of a set of runs with a column `method`; what was measured on their images)."""
    scores = scores.assign(method=name_methods(scores))
    return scores, Measured(scores, resamples, seed)
