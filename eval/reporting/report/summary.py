"""The scores of a set of runs: its curves, what is published beside them, its table, and what they say."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from eval.reporting.collect import NotComparableError, check_comparable
from eval.reporting.findings import NAMES, find_figures, name_editor
from eval.reporting.looks import BOUNDS, GREY, GREY_ON_DARK, Look, assign_looks, find_bound_mark
from eval.reporting.paper_table.build import TableSettings, build_paper_table
from eval.reporting.paper_table.latex import render_latex
from eval.reporting.seeds import describe_seeds
from eval.reporting.tables import (
    compute_half_widths,
    drop_blind,
    drop_unresolved,
    format_value,
    name_methods,
    pivot_published,
    pivot_scores,
    pivot_with_published,
)

FIRST_Y = ("accuracy", "clip_score", "csfid", "fid")  # what a page begins with, as far as it is scored


def summarise(
    scores: pd.DataFrame, published: pd.DataFrame | None, method: str, x: str, y: Sequence[str]
) -> dict[str, Any]:
    """Of the scores of one set, as `eval.reporting.collect.collect` returns them; `problem` where they say nothing.

    Args:
        scores: of one set.
        published: as `eval.reporting.tables.read_published` returns them.
        method: that others are compared with.
        x: metric of fidelity to the input, of the first axes.
        y: metrics of the edit, the best first.
    """
    empty = {"methods": [], "metrics": {}, "real": {}, "published": [], "axes": None, "table": None, "findings": []}
    if scores.empty:
        return empty | {"problem": "Not scored: diffedit score does it, then make the page again."}
    try:
        check_comparable(scores)
    except NotComparableError as error:
        return empty | {"problem": str(error)}
    points = None if published is None else add_keys(pivot_published(published))
    axes = choose_axes(scores, x, y)
    return {
        "methods": list(list_methods(scores, points)),
        "metrics": describe_metrics(scores),
        "real": list_real(scores),
        "published": [] if points is None else list(list_published(points, choose_looks(scores, points))),
        "axes": axes,
        "table": tabulate(scores, published, (x, *y)),
        "findings": [figure._asdict() for figure in find_figures(scores, method)],
        "problem": "",
    }


def add_keys(points: pd.DataFrame) -> pd.DataFrame:
    """Published points with what stands for their method in colours."""
    return points.assign(key=points.editor.where(points.editor != "", points.method))


def describe_metrics(scores: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Which way each metric is better, and what is to be said of it."""
    rows = scores.drop_duplicates("metric")
    return {row.metric: {"higher": bool(row.higher_is_better), "note": row.note} for row in rows.itertuples()}


def choose_axes(scores: pd.DataFrame, x: str, y: Sequence[str]) -> dict[str, str]:
    """The axes that a page begins with: as asked for where that is scored."""
    scored = list(dict.fromkeys(scores.metric))
    across = x if x in scored else scored[0]
    others = [name for name in scored if name != across]
    up = next((name for name in (*y, *FIRST_Y) if name in others), others[0] if others else across)
    return {"x": across, "y": up}


def list_methods(scores: pd.DataFrame, points: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """Each method with its points: a value, its interval and n for each metric at each strength."""
    scores = scores.assign(method=name_methods(scores))
    frame = pivot_scores(scores)
    looks = choose_looks(scores, points)
    for method in dict.fromkeys(frame.method):
        part = scores[scores.method == method]
        if part.editor.iloc[0] == "real":
            continue
        is_bound = bool(part.is_bound.iloc[0])
        bound = Look(GREY, GREY_ON_DARK, find_bound_mark(part.editor.iloc[0]))
        look = bound if is_bound else looks[method]
        yield {
            "name": method,
            "label": name_editor(method),
            "is_bound": is_bound,
            "colour": look.colour,
            "dark": look.dark,
            "mark": look.shape,
            "dash": " ".join(f"{2 * length:g}" for length in look.dash),
            "runs": sorted({run for runs in part.get("runs", part.run.map(lambda run: (run,))) for run in runs if run}),
            "points": [
                {"strength": find_number(strength), "values": pack(values)}
                for strength, values in part.groupby("strength", dropna=False)
            ],
        }


def choose_looks(scores: pd.DataFrame, points: pd.DataFrame | None) -> dict[str, Look]:
    """The looks of all methods, and of those that are published alone: as in the plots."""
    frame = pivot_scores(scores)
    bounds = {*BOUNDS, *frame.editor[frame.is_bound]}
    keys = [] if points is None else [key for key in points.key if key not in bounds]
    return assign_looks([*frame.method[~frame.is_bound], *keys])


def pack(rows: pd.DataFrame) -> dict[str, list[float | None]]:
    """(value, low, high, n) by metric; what is no number is None."""
    return {
        row.metric: [find_number(row.value), find_number(row.low), find_number(row.high), int(row.n)]
        for row in rows.itertuples()
    }


def find_number(value: Any) -> float | None:
    """A number as JSON has it: none that is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def list_real(scores: pd.DataFrame) -> dict[str, list[float | None]]:
    """What as many real pictures have, where a metric is a distance to a set."""
    return pack(scores[scores.editor == "real"])


def list_published(points: pd.DataFrame, looks: Mapping[str, Look]) -> Iterator[dict[str, Any]]:
    """Published points, in the order of their curves; each with the look of its method."""
    metrics = [name for name in points if name not in ("method", "editor", "setting", "ratio", "key")]
    for row in points.to_dict("records"):
        values = {name: number for name in metrics if (number := find_number(row[name])) is not None}
        look = looks.get(row["key"]) or Look(GREY, GREY_ON_DARK, find_bound_mark(row["key"]))
        told = {"method": row["method"], "key": row["key"], "setting": row["setting"]}
        told |= {"colour": look.colour, "dark": look.dark, "mark": look.shape}
        yield told | {"strength": find_number(row["ratio"]), "values": values}


def tabulate(scores: pd.DataFrame, published: pd.DataFrame | None, first: Sequence[str]) -> dict[str, Any]:
    """The table of all methods and strengths: heads, rows of cells, notes, and the same in LaTeX.

    Args:
        scores: of one set.
        published: whose rows stand below.
        first: metrics whose columns come first.
    """
    frame, blind = drop_blind(pivot_with_published(scores, published), scores)
    frame, vague = drop_unresolved(frame, scores)
    scored = [name for name in frame if name not in ("method", "variant")]
    metrics = [name for name in dict.fromkeys((*first, *scored)) if name in scored]
    better = {name: fact["higher"] for name, fact in describe_metrics(scores).items()}
    errors, known = compute_half_widths(scores), find_intervals(scores)
    rows = []
    for row in frame.to_dict("records"):
        key = row["method"], row["variant"]
        cells = [format_value(row[name], errors.get((*key, name))) for name in metrics]
        tips = [describe_interval(row[name], known.get((*key, name))) for name in metrics]
        numbers = [find_number(row[name]) for name in metrics]
        strength = row["variant"].partition("=")[2]
        shown = {"method": row["method"], "label": name_editor(row["method"]), "strength": strength}
        rows.append(shown | {"cells": cells, "tips": tips, "numbers": numbers})
    notes = [f"{name}: {why}" for name, why in (blind | vague).items()]
    notes += filter(None, [describe_seeds(scores.assign(method=name_methods(scores)))])
    arrows = {True: "↑", False: "↓", None: ""}
    heads = [{"name": name, "arrow": arrows[better.get(name)]} for name in metrics]
    return {"heads": heads, "rows": rows, "notes": notes, "latex": write_latex(scores, published, metrics)}


def write_latex(scores: pd.DataFrame, published: pd.DataFrame | None, metrics: Sequence[str]) -> str:
    """The table as `diffedit table` writes it in LaTeX; a comment where it has none."""
    scored = tuple(name for name in metrics if name in set(scores.metric))
    benchmark = scores.benchmark.iloc[0]
    try:
        settings = TableSettings(columns=scored, names=NAMES)
        table = build_paper_table(scores, settings, None if published is None else {benchmark: published})
    except ValueError as error:
        return f"% {error}\n"
    return render_latex(table)


def find_intervals(scores: pd.DataFrame) -> Mapping[tuple[str, str, str], tuple[float, float, int]]:
    """(low, high, n) by method, variant ("": where it is the same at every one) and metric."""
    known: dict[tuple[str, str, str], tuple[float, float, int]] = {}
    for row in scores.assign(method=name_methods(scores)).itertuples():
        known[row.method, row.variant, row.metric] = row.low, row.high, row.n
        known.setdefault((row.method, "", row.metric), known[row.method, row.variant, row.metric])
    return known


def describe_interval(value: float, interval: tuple[float, float, int] | None) -> str:
    """A value with its interval and n; "" where there is none."""
    if interval is None or pd.isna(value):
        return ""
    low, high, n = interval
    return f"{value:.4g}, n = {n}" if pd.isna(low) else f"{value:.4g} [{low:.4g}, {high:.4g}], n = {n}"
