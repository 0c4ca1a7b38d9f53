"""Tables of scores: a row per method and ratio, floor and ceiling first."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

BOUNDS = ("real", "copy", "round_trip", "oracle")  # floor and ceiling: the same at every ratio


def methods(scores: pd.DataFrame) -> pd.Series:
    """What each row's method is called: its editor; where that has several runs, also what was overridden, or where."""
    found = scores.editor
    for more in (scores["name"], scores.run):
        several = scores.groupby(found).run.transform("nunique") > 1
        found = found.where(~several, scores.editor + " (" + more + ")")
    return found


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
    """Published figures: method, metric, value, source.

    Raises:
        ValueError: a column is missing, or a value is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"published = {path}: no such file")
    found = pd.read_csv(path)
    if missing := [name for name in ("method", "metric", "value", "source") if name not in found]:
        raise ValueError(f"{path}: no column {', '.join(missing)}")
    return found.astype({"value": float})


def terminal(
    scores: pd.DataFrame, title: str, figures: Sequence[str] | None = None, others: pd.DataFrame | None = None
) -> Table:
    """The wide table for a terminal, with these figures (None: all); an arrow shows which way is better.

    A figure is followed by the larger half of its interval.
    `others` are published figures: rows below, marked as such.
    """
    frame, errors = wide(scores).drop(columns="editor"), half_widths(scores)
    if others is not None:
        rows = others.pivot(index="method", columns="metric", values="value").loc[list(dict.fromkeys(others.method))]
        frame = pd.concat([frame, rows.reset_index().assign(method=lambda x: x.method + " (published)")])
    if figures is not None:
        frame = frame[["method", "ratio", *(name for name in figures if name in frame)]]
    better = dict(zip(scores.metric, scores.better, strict=True))
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
