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


def compared(scores: pd.DataFrame, ours: str, at: list[float], fidelity: str) -> Table | None:
    """LPIPS of a method and of each other one where both reach the same accuracy; None where it cannot be said."""
    runs = dict(zip(methods(scores), map(Path, scores.run), strict=True))
    if ours not in runs or "accuracy" not in set(scores.metric):
        return None
    facts = {name: (per_image(root, "accuracy"), per_image(root, fidelity)) for name, root in runs.items()}
    mine = facts[ours]
    table = Table(title=f"{fidelity} at equal accuracy: {ours} - other (95 % paired bootstrap)", title_justify="left")
    for column in ("other", "accuracy", ours, "other's", "difference", "low", "high", "resamples that reach it"):
        table.add_column(column, justify="left" if column == "other" else "right")
    for name, theirs in facts.items():
        if name == ours or name in BOUNDS or not theirs[0].index.equals(mine[0].index):
            continue
        draws = Draws(len(mine[0]))
        for level in at:
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
    console = Console(width=None if Console().is_terminal else 200)
    for names, own in scores.groupby(["benchmark", "backbone"], sort=False):
        for y in cfg.y:
            if y in set(own.metric):
                for path in save(
                    curves(own, cfg.x, y, ", ".join(names)), Path(cfg.out) / "_".join([*names, y, "over", cfg.x])
                ):
                    log.info("%s", path)
        if cfg.at and (table := compared(own, cfg.ours, list(cfg.at), cfg.x)):
            console.print(f"[bold]{names[0]}[/bold]", table)


if __name__ == "__main__":
    main()
