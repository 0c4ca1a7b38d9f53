"""Edit strength over fidelity to the input: one line a method, a point a ratio."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.report import comparable
from eval.tables import BOUNDS, methods, wide

# Colours that differ also for colour-blind eyes (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKS = {"copy": "s", "round_trip": "D", "oracle": "*"}

FAR = 3  # times the range of the methods, beyond which a bound is not drawn


def curves(scores: pd.DataFrame, x: str, y: str, title: str = "") -> Figure:
    """The figure.

    Args:
        scores: as `eval.report.collect` returns, of one benchmark.
        x: metric of fidelity to the input.
        y: metric of the edit.
        title: above it.

    Raises:
        KeyError: no run was scored with x or y; the message lists the metrics there are.
    """
    for metric in (x, y):
        if metric not in set(scores.metric):
            raise KeyError(f"{metric} was not scored; there are {', '.join(sorted(set(scores.metric)))}")
    scores = comparable(scores[scores.metric.isin((x, y))])
    frame = wide(scores).dropna(subset=[x, y])
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    lines = list(dict.fromkeys(frame.method[~frame.editor.isin(BOUNDS)]))
    for i, method in enumerate(lines):
        own, colour = frame[frame.method == method].sort_values("ratio"), COLOURS[i % len(COLOURS)]
        axes.plot(own[x], own[y], "o-", color=colour, label=method, markersize=4, linewidth=1.5)
        errors(axes, scores, method, x, y, colour)
        for row in own.itertuples():
            place = (getattr(row, x), getattr(row, y))
            axes.annotate(
                f"{row.ratio:g}", place, xytext=(4, -10), textcoords="offset points", fontsize=7, color=colour
            )
    bounds(axes, frame, x, y)
    floor(axes, scores, y)
    better = dict(zip(scores.metric, scores.better, strict=True))
    axes.set_xlabel(f"{x} (to the input; {better[x]} is better)" if x == "lpips" else f"{x} ({better[x]} is better)")
    axes.set_ylabel(f"{y} ({better[y]} is better)")
    axes.set_title(title, fontsize=10)
    axes.grid(color="0.92")
    axes.legend(frameon=False, fontsize=8)
    return figure


def bounds(axes: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    """Copy, round trip and oracle; one that would squeeze the methods into a corner is told in the legend instead."""
    seen = frame[~frame.editor.isin(("copy", "round_trip", "real"))]
    for name in BOUNDS:
        own = frame[frame.editor == name]
        if own.empty:
            continue
        far = (pd.concat([own[y] - seen[y].max(), seen[y].min() - own[y]])).max()
        if len(seen) > 1 and far > FAR * (seen[y].max() - seen[y].min()):
            label, place = f"{name}: {own[x].iloc[0]:.3g}, {own[y].iloc[0]:.4g} (beyond)", ([], [])
        else:
            label, place = name, (own[x], own[y])
        axes.plot(*place, MARKS[name], color="0.4", label=label, markersize=8)


def floor(axes: Axes, scores: pd.DataFrame, y: str) -> None:
    """What as many real pictures have, where y is a distance to a set: a line and its interval."""
    own = scores[(scores.editor == "real") & (scores.metric == y)]
    if own.empty:
        return
    row = own.iloc[0]
    axes.axhline(row.value, color="0.4", linestyle=":", linewidth=1.2, label="real")
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
