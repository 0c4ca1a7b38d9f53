"""A metric by the area that is to be edited: a table, and a plot with what the latent grid allows."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.reporting.collect import check_comparable
from eval.reporting.curves import DEFAULT
from eval.reporting.figures import SMALL, FigureSettings, add_legend, fold_title, make_figure, use_style
from eval.reporting.looks import GREY, Look, assign_looks
from eval.reporting.tables import (
    MISSING,
    WIDTH,
    FittedTable,
    fold,
    make_table,
    name_methods,
)
from eval.scoring.bootstrap import SHARES, Bootstrap, estimate_mean
from eval.scoring.per_image import read_all_values

log = logging.getLogger(__name__)

AREA, CEILING = "true_area", "mask_ceiling"  # what metric=mask_ceiling measures on each image
LONGEST_NAME = 28  # characters of a method in its column
COLUMNS = ["method", "from", "to", "area", "value", "low", "high", "n"]


def average_by_area(
    scores: pd.DataFrame, metric: str, edges: Sequence[float], resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The mean of a metric over the images of each range of areas, for each method, and of the ceiling.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark and backbone; what was measured on
            each image is read from the runs that they name, and averaged over their strengths.
        metric: what is averaged: a value that is measured on each image.
        edges: of the ranges, as shares of the picture; the last range has its upper end.
        resamples: of the bootstrap over the images of a range.
        seed: of the bootstrap.

    Returns:
        A row for each method and range: method, from, to (its edges), area (the mean there), value with its interval
        (low, high), n (images). Those of method `mask_ceiling` are what the latent grid allows, where the metric is
        `mask_iou`. No rows, and why in the log, where no run has both measured.

    Raises:
        NotComparableError: the runs are of different requests, or measured in different ways.
    """
    scores = check_comparable(scores[scores.metric.isin((metric, CEILING)) & (scores.run != "")])
    rows = []
    for i, (method, values) in enumerate(read_methods(scores, metric)):
        if i == 0 and metric == "mask_iou":
            rows += average_ranges(CEILING, values.area, values[CEILING], edges, resamples, seed)
        rows += average_ranges(method, values.area, values[metric], edges, resamples, seed)
    return pd.DataFrame(rows, columns=COLUMNS)


def read_methods(scores: pd.DataFrame, metric: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """(method, columns area, `mask_ceiling` and the metric) of each that has them; the log names the others.

    Values of an image are means over strengths, and over seeds where runs of several were merged.
    """
    runs = scores.runs if "runs" in scores else [(run,) for run in scores.run]
    for method, (root, *others) in dict(zip(name_methods(scores), runs, strict=True)).items():
        values = pd.concat([read_all_values(Path(run)) for run in (root, *others)])
        values = values[values.strength.notna()].groupby(["id", "name"]).value.mean().unstack()
        if {AREA, metric} <= set(values):
            yield method, values.rename(columns={AREA: "area"}).dropna(subset=["area", metric])
        else:
            log.info("%s: no %s by area: score it with metric=[%s,%s]", root, metric, metric, CEILING)


def average_ranges(
    method: str, areas: pd.Series, values: pd.Series, edges: Sequence[float], resamples: int, seed: int
) -> Iterator[tuple[str | float, ...]]:
    """The rows of one method, of the ranges in which there is an image."""
    for low, high in pairwise(edges):
        inside = (areas >= low) & ((areas < high) | ((areas == high) & (high == edges[-1])))
        if n := int(inside.sum()):
            chosen = estimate_mean(values[inside].to_numpy(np.float64))
            interval = Bootstrap(n, resamples=resamples, seed=seed).interval(chosen, values.name in SHARES)
            yield method, low, high, float(areas[inside].mean()), *interval, n


def build_area_table(ranges: pd.DataFrame, metric: str, title: str = "", width: int = WIDTH) -> FittedTable:
    """What `average_by_area` returned, for a terminal: a row a method, a column a range; long names stand below."""
    names = list(dict.fromkeys(ranges.method))
    long = [name for name in names if len(name) > LONGEST_NAME]
    labels = {name: f"{name.partition(' (')[0]} #{long.index(name) + 1}" if name in long else name for name in names}
    counts = {(row["from"], row["to"]): row["n"] for row in ranges.to_dict("records")}
    rows = []
    for method, part in ranges.groupby("method", sort=False):
        cells = {(row["from"], row["to"]): format_cell(row) for row in part.to_dict("records")}
        rows.append((labels[method], *(cells.get(span, MISSING) for span in counts)))
    heads = ("method", *(f"{100 * start:g}-{100 * end:g}%" for start, end in counts))
    notes = [f"{label}: {name}" for name, label in labels.items() if label != name]
    notes.append(f"n = {', '.join(map(str, counts.values()))}")
    what = f"{metric} by the share of the picture that is to be edited"
    table = make_table(heads, rows) if rows else None
    return FittedTable(fold(f"{title}: {what}" if title else what, width), table, [fold(note, width) for note in notes])


def format_cell(row: Mapping[str, Any]) -> str:
    """A value and the larger half of its interval, in so few characters that six of them fit a terminal."""
    half = np.fmax(row["high"] - row["value"], row["value"] - row["low"])
    return f"{row['value']:.2f}" + ("" if np.isnan(half) else f"±{half:.2f}")


def draw_by_area(ranges: pd.DataFrame, metric: str, title: str = "", settings: FigureSettings = DEFAULT) -> Figure:
    """What `average_by_area` returned: a line a method over the mean area of each range, with intervals."""
    looks = assign_looks(name for name in ranges.method if name != CEILING)
    with use_style():
        figure = make_figure(settings)
        axes = figure.subplots()
        for method, part in ranges.groupby("method", sort=False):
            draw_areas(axes, part, settings.write_name(method), looks.get(method))
        axes.set_xscale("log")
        marks = sorted({*ranges["from"], *ranges.to})
        axes.set_xticks([100 * mark for mark in marks], [f"{100 * mark:g}" for mark in marks])
        axes.minorticks_off()
        axes.set_xlabel("area to be edited (% of the picture)")
        name = settings.write_name(metric)
        axes.set_ylabel(f"{name}\n(higher is better)" if metric == "mask_iou" else name)
        axes.set_ylim(bottom=0)
        title = title if settings.title is None else settings.title
        axes.set_title(fold_title(title, settings.inches), fontsize=SMALL)
        add_legend(figure, settings)
        figure.draw_without_rendering()
    return figure


def draw_areas(axes: Axes, part: pd.DataFrame, label: str, look: Look | None) -> None:
    """The line of one method; of the ceiling, which has no look, without intervals."""
    errors = [(part.value - part.low).clip(lower=0), (part.high - part.value).clip(lower=0)]
    if look is None:
        axes.plot(100 * part.area, part.value, "--", color=GREY, label="what the latent grid allows")
        return
    style = {"color": look.colour, "marker": look.mark, "linestyle": look.line, "elinewidth": 0.8}
    axes.errorbar(100 * part.area, part.value, errors, label=label, **style)
