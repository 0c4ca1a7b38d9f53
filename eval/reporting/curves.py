"""Edit strength over fidelity to the input: one line a method, a point a variant; published curves beneath."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from diffedit.io.files import write
from eval.reporting.collect import check_comparable
from eval.reporting.tables import name_methods, pivot_published, pivot_scores

log = logging.getLogger(__name__)

# Colours that differ also for colour-blind eyes (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKS = {"copy": "s", "round_trip": "D", "oracle": "*"}
BOUND_MARK = "P"  # of any other bound
CEILING = "oracle"  # what methods strive for: always within the axes
GREY = "0.4"

FAR = 3  # times the range of the methods, beyond which a bound is not drawn
SQUEEZED = 0.2  # share of a common axis, below which the points of the runs, or the published ones, are a blot


def plot_pairs(
    scores: pd.DataFrame,
    x: Sequence[str],
    y: Sequence[str],
    names: Sequence[str],
    folder: Path,
    published: pd.DataFrame | None = None,
) -> list[Path]:
    """Save a plot of each pair of metrics that these runs have; with what is published of it, if anything.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark and backbone.
        x: metrics of fidelity to the input.
        y: metrics of the edit.
        names: what the runs have in common, for title and file names.
        folder: to write to.
        published: as `eval.reporting.tables.read_published` returns them.
    """
    scored, title = set(scores.metric), ", ".join(names)
    pairs = [(one, other) for one in x for other in y]
    paths = []
    for one, other in pairs:
        if not {one, other} <= scored:
            continue
        beneath = published
        if published is not None and pivot_published(published).reindex(columns=[one, other]).dropna().empty:
            log.info("nothing published of %s over %s", other, one)
            beneath = None
        figure = draw_curves(scores, one, other, title, beneath)
        paths += save_figure(figure, folder / "_".join([*names, other, "over", one]))
    if not paths:
        wanted = ", ".join(f"{other} over {one}" for one, other in pairs)
        log.warning("%s: no plot: %s was not scored; there are %s", title, wanted, ", ".join(sorted(scored)))
    return paths


def draw_curves(scores: pd.DataFrame, x: str, y: str, title: str = "", published: pd.DataFrame | None = None) -> Figure:
    """One metric over another.

    Published curves are hollow and dashed, in the colour of the method here that they are of, below the runs'; in a
    panel by themselves where common axes would say little.

    Args:
        scores: as `eval.reporting.collect.collect` returns them, of one benchmark.
        x: metric of fidelity to the input.
        y: metric of the edit.
        title: above it.
        published: as `eval.reporting.tables.read_published` returns them.

    Raises:
        KeyError: no run was scored with x or y, or nothing published has both; the message lists the metrics there are.
    """
    for metric in (x, y):
        if metric not in set(scores.metric):
            raise KeyError(f"{metric} was not scored; there are {', '.join(sorted(set(scores.metric)))}")
    scores = check_comparable(scores[scores.metric.isin((x, y))])
    frame = pivot_scores(scores).dropna(subset=[x, y])
    points = None if published is None else pick_points(published, x, y)
    is_apart = points is not None and needs_two_panels([frame[~frame.is_bound], points], x, y)
    figure = Figure(figsize=(6.4 if points is None else 12.4 if is_apart else 9.2, 4.8), layout="constrained")
    panels = list(figure.subplots(1, 1 + is_apart, squeeze=False)[0])
    colours = assign_colours(frame, points)
    draw_runs(panels[0], scores, frame, x, y, colours)
    draw_bounds(panels[0], frame, x, y, None if is_apart else points)
    draw_real_images(panels[0], scores, y)
    panels[0].set_title(title, fontsize=10)
    if points is None:
        panels[0].legend(frameon=False, fontsize=8)
    else:
        draw_published(panels[-1], points, x, y, colours)
        lines = ("" if is_apart else title, describe_settings(points))
        panels[-1].set_title("\n".join(filter(None, lines)), fontsize=10)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    is_higher = dict(zip(scores.metric, scores.higher_is_better, strict=True))
    better = {metric: f"{'higher' if is_higher[metric] else 'lower'} is better" for metric in (x, y)}
    for axes in panels:
        axes.set_xlabel(f"{x} ({'to the input; ' * (x == 'lpips')}{better[x]})")
        axes.set_ylabel(f"{y} ({better[y]})")
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    return figure


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


def assign_colours(frame: pd.DataFrame, points: pd.DataFrame | None) -> dict[str, str]:
    """A colour for each method; the same for what is published of it."""
    bounds = {*MARKS, *frame.editor[frame.is_bound]}
    names = list(frame.method[~frame.is_bound])
    names += [] if points is None else [name for name in points.key if name not in bounds]
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


def describe_settings(points: pd.DataFrame) -> str:
    """Where the published points were measured, which may not be where the runs were."""
    settings = "; ".join(setting for setting in dict.fromkeys(points.setting) if setting)
    return fill(f"published (hollow): {settings or 'see their source'}", 70)


def draw_runs(axes: Axes, scores: pd.DataFrame, frame: pd.DataFrame, x: str, y: str, colours: dict[str, str]) -> None:
    """A line for each method of the runs, with intervals and strengths."""
    for method, curve in frame[~frame.is_bound].groupby("method", sort=False):
        curve = curve.sort_values("strength")
        colour = colours[method]
        axes.plot(curve[x], curve[y], "o-", color=colour, label=method, markersize=4, linewidth=1.5, zorder=3)
        draw_intervals(axes, scores, method, x, y, colour)
        annotate_strengths(axes, curve[["strength", x, y]], colour, right=True)


def draw_published(axes: Axes, points: pd.DataFrame, x: str, y: str, colours: dict[str, str]) -> None:
    """What is published: hollow marks, dashed lines, ratios where they were printed."""
    for method, curve in points.groupby("method", sort=False):
        key = curve.key.iloc[0]
        style = {"color": colours.get(key, GREY), "markerfacecolor": "none", "linewidth": 0.9, "zorder": 2}
        axes.plot(curve[x], curve[y], MARKS.get(key, "o") + "--", label=f"{method} (published)", markersize=5, **style)
        annotate_strengths(axes, curve[["ratio", x, y]], style["color"], right=False)


def annotate_strengths(axes: Axes, curve: pd.DataFrame, colour: str, right: bool) -> None:
    """The strength, where it is known, beside each point, right of the curve or left of it.

    Args:
        axes: to draw on.
        curve: columns strength, x, y.
        colour: of the texts.
        right: of the curve, or left.
    """
    curve = curve.dropna()
    _, x, y = curve.columns
    is_rising = curve[x].corr(curve[y]) > 0 if len(curve) > 1 else True
    offset = (4 if right else -14, -10 if is_rising == right else 4)
    for strength, *point in curve.itertuples(index=False):
        text = axes.annotate(
            f"{strength:g}", point, xytext=offset, textcoords="offset points", fontsize=7, color=colour
        )
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])


def draw_bounds(axes: Axes, frame: pd.DataFrame, x: str, y: str, points: pd.DataFrame | None) -> None:
    """Floor and ceiling; one that would squeeze what else there is into a corner is written in the legend."""
    within = pd.concat([frame[~frame.is_bound | (frame.editor == CEILING)], points])
    bounds = frame[frame.is_bound & (frame.editor != "real")]
    for name, bound in bounds.groupby("editor", sort=False):
        distance = pd.concat([bound[y] - within[y].max(), within[y].min() - bound[y]]).max()
        label, position = name, (bound[x], bound[y])
        if len(within) > 1 and distance > FAR * (within[y].max() - within[y].min()):
            label = f"{name}: {bound[x].iloc[0]:.3g}, {bound[y].iloc[0]:.4g} (beyond)"
            position = [], []
        axes.plot(*position, MARKS.get(name, BOUND_MARK), color=GREY, label=label, markersize=8)


def draw_real_images(axes: Axes, scores: pd.DataFrame, y: str) -> None:
    """What as many real pictures have, where y is a distance to a set: a line and its interval."""
    real = scores[(scores.editor == "real") & (scores.metric == y)]
    if real.empty:
        return
    row = real.iloc[0]
    axes.axhline(row.value, color=GREY, linestyle=":", linewidth=1.2, label="real")
    if pd.notna(row.low):
        axes.axhspan(row.low, row.high, color="0.5", alpha=0.12, linewidth=0)


def draw_intervals(axes: Axes, scores: pd.DataFrame, method: str, x: str, y: str, colour: str) -> None:
    """The bootstrap intervals of a method's points."""
    rows = scores[name_methods(scores) == method]
    curve = rows.pivot(index="strength", columns="metric", values=["value", "low", "high"])
    for axis, metric in (("xerr", x), ("yerr", y)):
        if curve["low"][metric].isna().any():
            continue
        below = curve["value"][metric] - curve["low"][metric]
        above = curve["high"][metric] - curve["value"][metric]
        axes.errorbar(
            curve["value"][x],
            curve["value"][y],
            **{axis: [below.clip(lower=0), above.clip(lower=0)]},
            fmt="none",
            color=colour,
            alpha=0.35,
        )


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """PNG and SVG."""
    paths = [stem.with_name(stem.name + ending) for ending in (".png", ".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "diffedit"}):  # the same figure gives the same file
        for path in paths:
            data, metadata = io.BytesIO(), {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(data, dpi=150, format=path.suffix[1:], metadata=metadata)
            write(path, data.getvalue())
    return paths
