"""`diffedit plot`: the trade-off of scored runs, and methods compared at equal values of a metric."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from diffedit.commands.launch import launch

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("plot")

DEFAULTS = {"accuracy", "clip_score", "csfid", "fid"}  # of y: left out where a benchmark does not have them


class PlotFailedError(RuntimeError):
    """The scores of some run could not be read."""

    exit_code = 1


def as_list(names: str | ListConfig) -> list[str]:
    """One name or more."""
    return [names] if isinstance(names, str) else list(names)


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("plot", plot, argv)


def plot(cfg: DictConfig) -> None:
    """A plot for each benchmark and pair of metrics, a comparison for each benchmark and compared metric."""
    from diffedit.io.files import resolve_path
    from eval.reporting.collect import collect, find_readable
    from eval.reporting.compare import build_comparison_table, compare_at_equal
    from eval.reporting.curves import plot_pairs
    from eval.reporting.tables import make_console, read_published
    from eval.scoring.score import find_runs

    x, y, compared = as_list(cfg.x), as_list(cfg.y), list(cfg.compare) if cfg.match_at else []
    published = read_published(resolve_path(cfg.published)) if cfg.published else None
    roots = find_runs(cfg.runs)
    readable = find_readable(roots)
    scores = collect(readable)
    if scores.empty and len(readable) < len(roots):
        raise PlotFailedError(f"{len(roots) - len(readable)} of {len(roots)} runs were left out, no other is scored")
    if scores.empty:
        raise FileNotFoundError(f"runs = {cfg.runs}: none of them is scored; do it by diffedit score")
    scored = set(scores.metric)
    if unknown := {*x, *y, *compared} - DEFAULTS - scored:
        raise ValueError(f"{', '.join(sorted(unknown))}: not scored; there are {', '.join(sorted(scored))}")
    console = make_console()
    sets = scores.groupby(["benchmark", "backbone"]).set.transform("nunique")
    scores["benchmark"] = scores.benchmark.where(sets == 1, scores.benchmark + "-" + scores.set)
    for names, part in scores.groupby(["benchmark", "backbone"], sort=False):
        for path in plot_pairs(part, x, y, names, Path(cfg.out), published):
            log.info("%s", path)
        for metric in compared:
            comparison = compare_at_equal(
                part, cfg.method, cfg.match, list(cfg.match_at), metric, cfg.resamples, cfg.seed
            )
            if not comparison.empty:
                title = ", ".join(names)
                table = build_comparison_table(comparison, cfg.method, cfg.match, metric, console.width, title)
                console.print("", table)
        for metric in cfg.by_area:
            show_by_area(part, metric, names, cfg)
    if len(readable) < len(roots):
        raise PlotFailedError(f"{len(roots) - len(readable)} of {len(roots)} runs were left out; see above")


def show_by_area(scores: "pd.DataFrame", metric: str, names: Sequence[str], cfg: DictConfig) -> None:
    """A metric by the area that is to be edited, where it was scored: a table and a plot."""
    from eval.reporting.by_area import average_by_area, build_area_table, draw_by_area
    from eval.reporting.curves import save_figure
    from eval.reporting.tables import make_console

    ranges = average_by_area(scores, metric, list(cfg.areas), cfg.resamples, cfg.seed)
    if ranges.empty:
        log.info("%s: no %s by area: metric=[%s,mask_ceiling] of diffedit score", ", ".join(names), metric, metric)
        return
    console, title = make_console(), ", ".join(names)
    console.print("", build_area_table(ranges, metric, title, console.width))
    for path in save_figure(draw_by_area(ranges, metric, title), Path(cfg.out) / "_".join([*names, metric, "by_area"])):
        log.info("%s", path)
