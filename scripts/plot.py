"""Plot the trade-off of scored runs, and compare methods at equal values of a metric. `--help` shows how."""

import logging
from pathlib import Path

import hydra
import pandas as pd
from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.table import Table

from diffedit.io.files import resolve_path
from eval.reporting.collect import collect, comparable
from eval.reporting.curves import curves, save
from eval.reporting.tables import BOUNDS, methods, points, published
from eval.scoring.bootstrap import Bootstrap, compare
from eval.scoring.score import find, per_image

log = logging.getLogger("plot")

KNOWN = {"accuracy", "clip_score", "csfid", "fid"}  # of the default y: left out where a benchmark has them not
COLUMNS = ("other", "at", "ours", "other's", "difference", "low", "high", "p", "resamples that reach it")


def shares(root: Path, figures: tuple[str, str]) -> tuple[pd.DataFrame, ...] | None:
    """Each image's shares in two figures of a run; None, and a word of it, where one is not there."""
    try:
        return tuple(per_image(root, figure) for figure in figures)
    except KeyError as error:
        log.info("not compared: %s", error)
        return None


def compared(
    scores: pd.DataFrame, ours: str, match: str, at: list[float], figure: str, resamples: int, seed: int = 0
) -> Table | None:
    """A figure of a method and of each other one where both have the same `match`; None where it cannot be said.

    Raises:
        NotComparableError: the runs are of different requests, or measured in different ways.
    """
    scores = comparable(scores[scores.metric.isin((match, figure)) & (scores.run != "")])
    runs = dict(zip(methods(scores), map(Path, scores.run), strict=True))
    bounds = set(methods(scores)[scores.editor.isin(BOUNDS)])
    facts = {
        name: found for name, root in runs.items() if name not in bounds and (found := shares(root, (match, figure)))
    }
    if ours not in facts:
        log.info("nothing to compare: ours=%s is none of %s", ours, ", ".join(facts) or "those that were measured")
        return None
    mine = facts.pop(ours)
    labels = mine[0].index.get_level_values("label")
    draws = Bootstrap(len(labels), list(labels) if all(labels) else None, resamples, seed)
    table = Table(title=f"{figure} at equal {match}: {ours} - other (95 % paired bootstrap)", title_justify="left")
    for column in COLUMNS:
        table.add_column(
            {"at": match, "ours": ours}.get(column, column), justify="left" if column == "other" else "right"
        )
    for name, theirs in facts.items():
        theirs = [each.reindex(mine[0].index) for each in theirs]
        for level in at:
            found = compare(tuple(x.to_numpy() for x in mine), tuple(x.to_numpy() for x in theirs), level, draws)
            numbers = (found.ours, found.theirs, *found.difference, found.p)
            table.add_row(name, f"{level:g}", *(f"{each:.4f}" for each in numbers), f"{found.share:.0%}")
    return table


def plotted(scores: pd.DataFrame, names: tuple[str, str], cfg: DictConfig, others: pd.DataFrame | None) -> None:
    """A plot of each pair of metrics that these runs have; what is published of it beneath."""
    there = set(scores.metric)
    for x, y in (pairs := [(x, y) for x in several(cfg.x) for y in several(cfg.y)]):
        if not {x, y} <= there:
            continue
        theirs = others
        if others is not None and points(others).reindex(columns=[x, y]).dropna().empty:
            log.info("nothing published of %s over %s in %s", y, x, cfg.published)
            theirs = None
        for path in save(
            curves(scores, x, y, ", ".join(names), theirs), Path(cfg.out) / "_".join([*names, y, "over", x])
        ):
            log.info("%s", path)
    if not any({*pair} <= there for pair in pairs):
        wanted = ", ".join(f"{y} over {x}" for x, y in pairs)
        log.warning("%s: no plot: %s was not scored; there are %s", ", ".join(names), wanted, ", ".join(sorted(there)))


def several(names: str | ListConfig) -> list[str]:
    """One name or more."""
    return [names] if isinstance(names, str) else list(names)


@hydra.main(version_base="1.3", config_path="../conf", config_name="plot")
def main(cfg: DictConfig) -> None:
    """A plot for each benchmark and pair of metrics, a comparison for each benchmark and compared figure."""
    others = published(resolve_path(cfg.published)) if cfg.published else None
    scores = collect(find(cfg.run))
    if scores.empty:
        raise FileNotFoundError(f"run = {cfg.run}: none of them is scored; do it by scripts/score.py")
    known = set(scores.metric)
    if unknown := {*several(cfg.x), *several(cfg.y), *(cfg.compare if cfg.at else ())} - KNOWN - known:
        raise ValueError(f"{', '.join(sorted(unknown))}: not scored; there are {', '.join(sorted(known))}")
    console = Console(width=None if Console().is_terminal else 200)
    sets = scores.groupby(["benchmark", "backbone"]).set.transform("nunique")
    scores["benchmark"] = scores.benchmark.where(sets == 1, scores.benchmark + "-" + scores.set)
    for names, own in scores.groupby(["benchmark", "backbone"], sort=False):
        plotted(own, names, cfg, others)
        for figure in cfg.compare if cfg.at else ():
            if table := compared(own, cfg.ours, cfg.match, list(cfg.at), figure, cfg.resamples, cfg.seed):
                console.print(f"[bold]{names[0]}[/bold]", table)


if __name__ == "__main__":
    main()
