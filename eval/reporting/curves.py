"""Edit strength over fidelity to the input: one line a method, a point a ratio; published curves beneath."""

from pathlib import Path
from textwrap import fill

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from eval.reporting.collect import comparable
from eval.reporting.tables import BOUNDS, methods, points, wide

# Colours that differ also for colour-blind eyes (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKS = {"copy": "s", "round_trip": "D", "oracle": "*"}
GREY = "0.4"

FAR = 3  # times the range of the methods, beyond which a bound is not drawn
SQUEEZED = 0.2  # share of a common axis, below which the points of the runs, or the published ones, are a blot


def curves(scores: pd.DataFrame, x: str, y: str, title: str = "", others: pd.DataFrame | None = None) -> Figure:
    """The figure.

    Published curves are hollow and dashed, in the colour of the method here that they are of, below the runs' own; in
    a panel of their own where common axes would say little.

    Args:
        scores: as `eval.reporting.collect.collect` returns, of one benchmark.
        x: metric of fidelity to the input.
        y: metric of the edit.
        title: above it.
        others: published figures, as `eval.reporting.tables.published` returns.

    Raises:
        KeyError: no run was scored with x or y, or nothing published has both; the message lists the metrics there are.
    """
    for metric in (x, y):
        if metric not in set(scores.metric):
            raise KeyError(f"{metric} was not scored; there are {', '.join(sorted(set(scores.metric)))}")
    scores = comparable(scores[scores.metric.isin((x, y))])
    frame = wide(scores).dropna(subset=[x, y])
    theirs = None if others is None else pairs(others, x, y)
    apart = theirs is not None and strange([frame[~frame.editor.isin(BOUNDS)], theirs], x, y)
    figure = Figure(figsize=(6.4 if theirs is None else 12.4 if apart else 9.2, 4.8), layout="constrained")
    panels = list(figure.subplots(1, 1 + apart, squeeze=False)[0])
    colours = palette(frame, theirs)
    draw_runs(panels[0], scores, frame, x, y, colours)
    bounds(panels[0], frame, x, y, None if apart else theirs)
    floor(panels[0], scores, y)
    panels[0].set_title(title, fontsize=10)
    if theirs is None:
        panels[0].legend(frameon=False, fontsize=8)
    else:
        draw_published(panels[-1], theirs, x, y, colours)
        panels[-1].set_title("\n".join(filter(None, ("" if apart else title, caption(theirs)))), fontsize=10)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    better = dict(zip(scores.metric, scores.higher_is_better, strict=True))
    for axes in panels:
        axes.set_xlabel(f"{x} ({'to the input; ' * (x == 'lpips')}{better[x]} is better)")
        axes.set_ylabel(f"{y} ({better[y]} is better)")
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    return figure


def pairs(others: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The published points that have both metrics; a KeyError where there is none."""
    found = points(others)
    if not {x, y} <= set(found) or (found := found.dropna(subset=[x, y])).empty:
        raise KeyError(f"no published point has {x} and {y}; there are {', '.join(sorted(set(others.metric)))}")
    return found.assign(key=found.ours.where(found.ours != "", found.method))


def strange(parts: list[pd.DataFrame], x: str, y: str) -> bool:
    """Whether common axes would say little: the parts do not overlap on one, or several points of a part are a blot."""
    for metric in (x, y):
        low, high = ([getattr(part[metric], end)() for part in parts] for end in ("min", "max"))
        least = SQUEEZED * (max(high) - min(low))
        blots = [len(part) > 1 and part[metric].max() - part[metric].min() < least for part in parts]
        if max(low) > min(high) or any(blots):
            return True
    return False


def palette(frame: pd.DataFrame, theirs: pd.DataFrame | None) -> dict[str, str]:
    """A colour for each method; the same for what is published of it."""
    names = list(frame.method[~frame.editor.isin(BOUNDS)])
    names += [] if theirs is None else [name for name in theirs.key if name not in BOUNDS]
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


def caption(theirs: pd.DataFrame) -> str:
    """Where the published points were measured, which may not be where the runs were."""
    where = "; ".join(name for name in dict.fromkeys(theirs.setting) if name)
    return fill(f"published (hollow): {where or 'see their source'}", 70)


def draw_runs(axes: Axes, scores: pd.DataFrame, frame: pd.DataFrame, x: str, y: str, colours: dict[str, str]) -> None:
    """Our own: a line a method with intervals and ratios."""
    for method, own in frame[~frame.editor.isin(BOUNDS)].groupby("method", sort=False):
        own, colour = own.sort_values("ratio"), colours[method]
        axes.plot(own[x], own[y], "o-", color=colour, label=method, markersize=4, linewidth=1.5, zorder=3)
        errors(axes, scores, method, x, y, colour)
        ratios(axes, own, x, y, colour, right=True)


def draw_published(axes: Axes, theirs: pd.DataFrame, x: str, y: str, colours: dict[str, str]) -> None:
    """What others published: hollow marks, dashed lines, ratios where they were printed."""
    for method, own in theirs.groupby("method", sort=False):
        key = own.key.iloc[0]
        style = {"color": colours.get(key, GREY), "markerfacecolor": "none", "linewidth": 0.9, "zorder": 2}
        axes.plot(own[x], own[y], MARKS.get(key, "o") + "--", label=f"{method} (published)", markersize=5, **style)
        ratios(axes, own.dropna(subset="ratio"), x, y, style["color"], right=False)


def ratios(axes: Axes, own: pd.DataFrame, x: str, y: str, colour: str, right: bool) -> None:
    """The ratio beside each point, right of the curve or left of it."""
    rises = own[x].corr(own[y]) > 0 if len(own) > 1 else True
    offset = (4 if right else -14, -10 if rises == right else 4)
    for ratio, *place in own[["ratio", x, y]].itertuples(index=False):
        label = axes.annotate(f"{ratio:g}", place, xytext=offset, textcoords="offset points", fontsize=7, color=colour)
        label.set_path_effects([withStroke(linewidth=1.5, foreground="white")])


def bounds(axes: Axes, frame: pd.DataFrame, x: str, y: str, theirs: pd.DataFrame | None) -> None:
    """Copy, round trip and oracle; one that would squeeze what else there is into a corner is told in the legend."""
    seen = pd.concat([frame[~frame.editor.isin(("copy", "round_trip", "real"))], theirs])
    for name in BOUNDS:
        own = frame[frame.editor == name]
        if own.empty:
            continue
        far = (pd.concat([own[y] - seen[y].max(), seen[y].min() - own[y]])).max()
        if len(seen) > 1 and far > FAR * (seen[y].max() - seen[y].min()):
            label, place = f"{name}: {own[x].iloc[0]:.3g}, {own[y].iloc[0]:.4g} (beyond)", ([], [])
        else:
            label, place = name, (own[x], own[y])
        axes.plot(*place, MARKS[name], color=GREY, label=label, markersize=8)


def floor(axes: Axes, scores: pd.DataFrame, y: str) -> None:
    """What as many real pictures have, where y is a distance to a set: a line and its interval."""
    own = scores[(scores.editor == "real") & (scores.metric == y)]
    if own.empty:
        return
    row = own.iloc[0]
    axes.axhline(row.value, color=GREY, linestyle=":", linewidth=1.2, label="real")
    if pd.notna(row.low):
        axes.axhspan(row.low, row.high, color="0.5", alpha=0.12, linewidth=0)


def errors(axes: Axes, scores: pd.DataFrame, method: str, x: str, y: str, colour: str) -> None:
    """The bootstrap intervals of a method's points."""
    own = scores[methods(scores) == method].pivot(index="ratio", columns="metric", values=["value", "low", "high"])
    for axis, metric in (("xerr", x), ("yerr", y)):
        if own["low"][metric].isna().any():
            continue
        width = [own["value"][metric] - own["low"][metric], own["high"][metric] - own["value"][metric]]
        place = {"x": own["value"][x], "y": own["value"][y]}
        axes.errorbar(**place, **{axis: [part.clip(lower=0) for part in width]}, fmt="none", color=colour, alpha=0.35)


def save(figure: Figure, stem: Path) -> list[Path]:
    """PNG and SVG."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + ending) for ending in (".png", ".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "diffedit"}):  # the same figure gives the same file
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
