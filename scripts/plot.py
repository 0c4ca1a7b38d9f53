"""Plot the trade-off of scored runs, and compare methods at equal accuracy. `--help` shows how."""

import logging
from pathlib import Path

import hydra
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from eval.curves import curves, save
from eval.score import collect, find, per_image
from eval.statistics import Draws, compare
from eval.tables import BOUNDS, methods

log = logging.getLogger("plot")

KNOWN = {"accuracy", "clip_score", "csfid", "fid"}  # of the default y: left out where a benchmark has them not


def compared(scores: pd.DataFrame, ours: str, at: list[float], fidelity: str, resamples: int) -> Table | None:
    """Fidelity of a method and of each other one where both reach the same accuracy; None where it cannot be said."""
    runs, facts = dict(zip(methods(scores), map(Path, scores.run), strict=True)), {}
    bounds = set(methods(scores)[scores.editor.isin(BOUNDS)])
    for name, root in runs.items():
        try:
            facts[name] = tuple(per_image(root, fact) for fact in ("accuracy", fidelity))
        except KeyError as error:
            log.info("%s is not compared: %s", name, error)
    if ours not in facts:
        log.info("nothing to compare: ours=%s is none of %s", ours, ", ".join(facts))
        return None
    mine = facts.pop(ours)
    labels = mine[0].index.get_level_values("label")
    draws = Draws(len(labels), list(labels) if all(labels) else None, resamples)
    table = Table(title=f"{fidelity} at equal accuracy: {ours} - other (95 % paired bootstrap)", title_justify="left")
    for column in ("other", "accuracy", ours, "other's", "difference", "low", "high", "resamples that reach it"):
        table.add_column(column, justify="left" if column == "other" else "right")
    for name, theirs in facts.items():
        for level in at if name not in bounds else []:
            found = compare(tuple(x.to_numpy() for x in mine), tuple(x.to_numpy() for x in theirs), level, draws)
            numbers = (found.ours, found.theirs, *found.difference)
            table.add_row(name, f"{level:g}", *(f"{each:.4f}" for each in numbers), f"{found.share:.0%}")
    return table


@hydra.main(version_base="1.3", config_path="../conf", config_name="plot")
def main(cfg: DictConfig) -> None:
    """A plot for each benchmark and metric, a comparison for each benchmark."""
    scores = collect(find(cfg.runs))
    if scores.empty:
        raise FileNotFoundError(f"runs = {cfg.runs}: none of them is scored; do it by scripts/score.py")
    if unknown := {cfg.x, *cfg.y} - KNOWN - set(scores.metric):
        raise ValueError(f"{', '.join(sorted(unknown))}: not scored; there are {', '.join(sorted(set(scores.metric)))}")
    console = Console(width=None if Console().is_terminal else 200)
    several = scores.groupby(["benchmark", "backbone"]).set.transform("nunique") > 1
    scores["benchmark"] = scores.benchmark.where(~several, scores.benchmark + "-" + scores.set)
    for names, own in scores.groupby(["benchmark", "backbone"], sort=False):
        for y in cfg.y:
            if {cfg.x, y} <= set(own.metric):
                stem = Path(cfg.out) / "_".join([*names, y, "over", cfg.x])
                for path in save(curves(own, cfg.x, y, ", ".join(names)), stem):
                    log.info("%s", path)
        if cfg.at and (table := compared(own, cfg.ours, list(cfg.at), cfg.x, cfg.resamples)):
            console.print(f"[bold]{names[0]}[/bold]", table)


if __name__ == "__main__":
    main()
