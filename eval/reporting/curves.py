"""Edit strength over fidelity to the input: one line a method, a point a variant; published curves beneath."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffedit.types import Variant
from eval.reporting.collect import check_comparable
from eval.reporting.figures import (
    SMALL,
    FigureSettings,
    add_legend,
    fold_title,
    make_figure,
    save_figure,
    use_style,
)
from eval.reporting.looks import BOUNDS, GREY, Look, assign_looks, find_bound_mark
from eval.reporting.point_labels import NARROW, PointLabel, list_labels, place_labels
from eval.reporting.tables import name_methods, pivot_published, pivot_scores

log = logging.getLogger(__name__)

CEILING = "oracle"  # what methods strive for: always within the axes
FAR = 3  # times the range of the methods, beyond which a bound is not drawn
SQUEEZED = 0.2  # share of a common axis, below which the points of the runs, or the published ones, are a blot
ROOM = 0.1  # of the axes around what is drawn, for labels
LONGEST_UP = 28  # characters of the name of an axis that stands upright in one line
DEFAULT = FigureSettings()

Labels = list[tuple[Axes, list[PointLabel]]]


class Panel(NamedTuple):
    """What is drawn in one pair of axes.

    Attributes:
        scores: of the two metrics.
        frame: a row a method and strength, as `eval.reporting.tables.pivot_scores` returns it.
        points: published ones, of both metrics.
    """

    scores: pd.DataFrame
    frame: pd.DataFrame
    points: pd.DataFrame | None = None

    @property
    def methods(self) -> list[str]:
        """What has a look: methods of runs, and what is published of others."""
        bounds = {*BOUNDS, *self.frame.editor[self.frame.is_bound]}
        names = list(self.frame.method[~self.frame.is_bound])
        keys = [] if self.points is None else list(self.points.key)
        return names + [key for key in keys if key not in bounds]


# ----------------------------------------------------------------------------------------------------------- figures


def plot_pairs(
    scores: pd.DataFrame,
    x: Sequence[str],
    y: Sequence[str],
    names: Sequence[str],
    folder: Path,
    published: pd.DataFrame | None = None,
    settings: FigureSettings = DEFAULT,
) -> list[Path]:
    """Save a plot of each pair of metrics that these runs have; with what is published of it, if anything.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark and backbone.
        x: metrics of fidelity to the input.
        y: metrics of the edit.
        names: what the runs have in common, for title and file names.
        folder: to write to.
        published: as `eval.reporting.tables.read_published` returns them.
        settings: of the figures.
    """
    scored, title = set(scores.metric), ", ".join(names)
    pairs = [(one, other) for one in x for other in y]
    paths = []
    for one, other in pairs:
        if not {one, other} <= scored:
            continue
        try:
            figure = draw_curves(scores, one, other, title, choose_published(published, one, other), settings)
        except NoPointsError as error:
            log.warning("%s: no plot: %s", title, error)
            continue
        stem = folder / "_".join([*names, other, "over", one])
        paths += save_figure(figure, stem, settings.formats, f"{other} over {one}: {title}")
    if not paths:
        wanted = ", ".join(f"{other} over {one}" for one, other in pairs)
        log.warning("%s: no plot: %s was not scored; there are %s", title, wanted, ", ".join(sorted(scored)))
    return paths


def choose_published(published: pd.DataFrame | None, x: str, y: str) -> pd.DataFrame | None:
    """Published values, where some point has both metrics; else None, which the log says."""
    if published is not None and pivot_published(published).reindex(columns=[x, y]).dropna().empty:
        log.info("nothing published of %s over %s", y, x)
        return None
    return published


def draw_curves(
    scores: pd.DataFrame,
    x: str,
    y: str,
    title: str = "",
    published: pd.DataFrame | None = None,
    settings: FigureSettings = DEFAULT,
) -> Figure:
    """One metric over another.

    Published curves are hollow and dashed, in the colour of the method here that they are of, below the runs'; in a
    panel by themselves where common axes would say little.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark.
        x: metric of fidelity to the input.
        y: metric of the edit.
        title: above it, where the settings have no other.
        published: as `eval.reporting.tables.read_published` returns them.
        settings: of the figure.

    Raises:
        KeyError: no run was scored with x or y, or nothing published has both; the message lists the metrics there are.
        NoPointsError: no row has a value of both.
        NotComparableError: the scores are of different requests, or measured in different ways.
    """
    panel = read_panel(scores, x, y, published)
    points = panel.points
    is_apart = points is not None and needs_two_panels([panel.frame[~panel.frame.is_bound], points], x, y)
    title = title if settings.title is None else settings.title
    looks = assign_looks(panel.methods)
    with use_style():
        is_stacked = is_apart and settings.inches < NARROW
        columns, rows = (1, 2) if is_stacked else (1 + is_apart, 1)
        figure = make_figure(settings, columns, rows, 0.72 if settings.inches < NARROW or is_apart else 0.6)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        labels = draw_panel(panels[0], panel if not is_apart else panel._replace(points=None), x, y, looks, settings)
        if points is not None and is_apart:
            labels += draw_published(panels[1], points, x, y, looks)
        heads = [title] if points is None or is_apart else ["\n".join(filter(None, [title, describe(points)]))]
        heads += [describe(points)] if points is not None and is_apart else []
        for axes, head in zip(panels, heads, strict=True):
            axes.set_title(fold_title(head, settings.inches / columns), fontsize=SMALL)
            name_axes(axes, panel.scores, x, y, settings)
        add_legend(figure, settings)
        place_labels(figure, labels)
    return figure


def name_axes(axes: Axes, scores: pd.DataFrame, x: str, y: str, settings: FigureSettings) -> None:
    """What is on each axis, and which way is better."""
    across, up = name_axis(scores, x, settings), name_axis(scores, y, settings)
    axes.set_xlabel(across)
    axes.set_ylabel(up if len(up) <= LONGEST_UP else up.replace(" (", "\n(", 1))


def name_axis(scores: pd.DataFrame, metric: str, settings: FigureSettings) -> str:
    """What a metric is called, and which way is better."""
    is_higher = dict(zip(scores.metric, scores.higher_is_better, strict=True))[metric]
    to = "to the input; " if metric == "lpips" else ""
    return f"{settings.write_name(metric)} ({to}{'higher' if is_higher else 'lower'} is better)"


# ------------------------------------------------------------------------------------------------------------- a panel


class NoPointsError(ValueError):
    """No method has a value of both metrics at the same strength."""


def read_panel(scores: pd.DataFrame, x: str, y: str, published: pd.DataFrame | None = None) -> Panel:
    """What there is to draw of two metrics; points without a value of both are left out, which the log says.

    Raises:
        KeyError: no run was scored with x or y, or nothing published has both; the message lists the metrics there are.
        NoPointsError: no row has a value of both.
        NotComparableError: the scores are of different requests, or measured in different ways.
    """
    for metric in (x, y):
        if metric not in set(scores.metric):
            raise KeyError(f"{metric} was not scored; there are {', '.join(sorted(set(scores.metric)))}")
    scores = check_comparable(scores[scores.metric.isin((x, y))])
    frame = pivot_scores(scores)
    frame[[x, y]] = frame[[x, y]].astype(float).replace([np.inf, -np.inf], np.nan)
    for row in frame[~frame.is_bound & frame[[x, y]].isna().any(axis=1)].to_dict("records"):
        lacking = " and ".join(metric for metric in dict.fromkeys((x, y)) if pd.isna(row[metric]))
        log.warning("%s %s: no point, for %s has no value", row["method"], row["variant"], lacking)
    frame = frame.dropna(subset=[x, y])
    if frame.empty:
        raise NoPointsError(f"no run has a value of {x} and of {y}")
    return Panel(scores, frame, None if published is None else pick_points(published, x, y))


def pick_points(published: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The published points that have both metrics; a KeyError where there is none."""
    points = pivot_published(published)
    if not {x, y} <= set(points) or (points := points.dropna(subset=[x, y])).empty:
        raise KeyError(f"no published point has {x} and {y}; there are {', '.join(sorted(set(published.metric)))}")
    return points.assign(key=points.editor.where(points.editor != "", points.method))


def needs_two_panels(parts: list[pd.DataFrame], x: str, y: str) -> bool:
    """Whether common axes would say little: the parts do not overlap on one, or several points of a part are a blot."""
    for metric in (x, y):
        lows = [part[metric].min() for part in parts]
        highs = [part[metric].max() for part in parts]
        least = SQUEEZED * (max(highs) - min(lows))
        blots = [len(part) > 1 and part[metric].max() - part[metric].min() < least for part in parts]
        if max(lows) > min(highs) or any(blots):
            return True
    return False


def describe(points: pd.DataFrame) -> str:
    """Where the published points were measured, which may not be where the runs were."""
    settings = "; ".join(setting for setting in dict.fromkeys(points.setting) if setting)
    return f"published (hollow): {settings or 'see their source'}"


def draw_panel(
    axes: Axes,
    panel: Panel,
    x: str,
    y: str,
    looks: Mapping[str, Look],
    settings: FigureSettings,
    is_brief: bool = False,
) -> Labels:
    """Curves, bounds and what is published, in one pair of axes; the labels are left to be placed.

    Args:
        axes: to draw on.
        panel: what is drawn.
        x: metric across.
        y: metric up.
        looks: of all methods.
        settings: of the figure.
        is_brief: whether a bound that is beyond the axes is named without its values, as in a legend of several panels.
    """
    labels = draw_runs(axes, panel, x, y, looks, settings)
    draw_bounds(axes, panel, x, y, settings, is_brief)
    draw_real_images(axes, panel.scores, y)
    axes.margins(x=ROOM, y=1.6 * ROOM)  # in a small panel a number is as high as that
    return labels if panel.points is None else labels + draw_published(axes, panel.points, x, y, looks)


def draw_runs(axes: Axes, panel: Panel, x: str, y: str, looks: Mapping[str, Look], settings: FigureSettings) -> Labels:
    """A line for each method of the runs, with intervals; the labels of its strengths."""
    labels: Labels = []
    for method, curve in panel.frame[~panel.frame.is_bound].groupby("method", sort=False):
        curve, look = curve.sort_values("strength"), looks[method]
        draw_intervals(axes, panel.scores, method, x, y, look.colour)
        style = {"color": look.colour, "marker": look.mark, "linestyle": look.line, "zorder": 3}
        axes.plot(curve[x], curve[y], label=settings.write_name(method), **style)
        texts = ["" if pd.isna(strength) else f"{strength:g}" for strength in curve.strength]
        if texts[0] and not labels:  # said once what the numbers are
            name = Variant.parse(curve.variant.iloc[0]).name
            texts[0] = f"{'r' if name == 'ratio' else name} = {texts[0]}"
        labels.append((axes, list_labels(texts, list_points(curve, x, y), look.colour)))
    return labels


def draw_published(axes: Axes, points: pd.DataFrame, x: str, y: str, looks: Mapping[str, Look]) -> Labels:
    """What is published: hollow marks, dashed lines; the labels of its ratios, where they were printed."""
    labels: Labels = []
    for method, curve in points.groupby("method", sort=False):
        key = curve.key.iloc[0]
        colour = looks[key].colour if key in looks else GREY
        mark = looks[key].mark if key in looks else find_bound_mark(key)
        style = {"color": colour, "markerfacecolor": "none", "linewidth": 0.7, "zorder": 2}
        axes.plot(curve[x], curve[y], marker=mark, linestyle="--", label=f"{method} (published)", **style)
        texts = ["" if pd.isna(ratio) else f"{ratio:g}" for ratio in curve.ratio]
        labels.append((axes, list_labels(texts, list_points(curve, x, y), colour)))
    return labels


def list_points(curve: pd.DataFrame, x: str, y: str) -> list[tuple[float, float]]:
    """The points of a curve."""
    return list(zip(curve[x], curve[y], strict=True))


def draw_bounds(axes: Axes, panel: Panel, x: str, y: str, settings: FigureSettings, is_brief: bool) -> None:
    """Floor and ceiling; one that would squeeze what else there is into a corner is written in the legend."""
    frame = panel.frame
    within = pd.concat([frame[~frame.is_bound | (frame.editor == CEILING)], panel.points])
    bounds = frame[frame.is_bound & (frame.editor != "real")]
    for name, bound in bounds.groupby("editor", sort=False):
        distance = pd.concat([bound[y] - within[y].max(), within[y].min() - bound[y]]).max()
        label, position = settings.write_name(name), (bound[x], bound[y])
        if len(within) > 1 and distance > FAR * (within[y].max() - within[y].min()):
            values = "" if is_brief else f": {bound[x].iloc[0]:.3g}, {bound[y].iloc[0]:.4g}"
            label, position = f"{label}{values} (beyond)", ([], [])
        axes.plot(*position, marker=find_bound_mark(name), linestyle="None", color=GREY, label=label, markersize=6)


def draw_real_images(axes: Axes, scores: pd.DataFrame, y: str) -> None:
    """What as many real pictures have, where y is a distance to a set: a line and its interval."""
    real = scores[(scores.editor == "real") & (scores.metric == y)]
    if real.empty or pd.isna(real.value.iloc[0]):
        return
    row = real.iloc[0]
    axes.axhline(row.value, color=GREY, linestyle=":", linewidth=1, label="real")
    if pd.notna(row.low):
        axes.axhspan(row.low, row.high, color="0.5", alpha=0.12, linewidth=0)


def draw_intervals(axes: Axes, scores: pd.DataFrame, method: str, x: str, y: str, colour: str) -> None:
    """The bootstrap intervals of a method's points."""
    rows = scores[name_methods(scores) == method]
    curve = rows.pivot(index="strength", columns="metric", values=["value", "low", "high"]).astype(float)
    for axis, metric in (("xerr", x), ("yerr", y)):
        below = curve["value"][metric] - curve["low"][metric]
        above = curve["high"][metric] - curve["value"][metric]
        known = np.isfinite(below) & np.isfinite(above) & np.isfinite(curve["value"]).all(axis=1)
        if not known.any():
            continue
        axes.errorbar(
            curve["value"][x][known],
            curve["value"][y][known],
            **{axis: [below[known].clip(lower=0), above[known].clip(lower=0)]},
            fmt="none",
            color=colour,
            alpha=0.35,
            elinewidth=1,
        )
