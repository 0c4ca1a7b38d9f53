"""Score finished runs by every metric of the config; print a table a benchmark. `--help` shows how."""

import logging
from pathlib import Path

import hydra
import pandas as pd
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from diffedit.io.files import resolve_path, write
from diffedit.io.tables import table_bytes
from eval.reporting.collect import NotComparableError, collect, comparable, remarks, write_run
from eval.reporting.loggers import samples_of
from eval.reporting.tables import BOUNDS, published, terminal
from eval.scoring.score import Settings, find, score

log = logging.getLogger("score")


class ScoreFailedError(RuntimeError):
    """Some run could not be scored: Hydra turns it into exit code 1."""


def scored(roots: list[Path], metrics: dict, settings: Settings) -> list[Path]:
    """Score run after run; one that cannot be scored is named and left out of the tables."""
    good = []
    for root in roots:
        try:
            done = score(root, metrics, settings)
            if done or outdated(root):
                write_run(root)
            good.append(root)
            log.info("%s: %s", root, ", ".join(done) or "all there")
            for remark in remarks(root, list(metrics)):
                log.info("  %s", remark)
        except (OSError, ValueError, KeyError, RuntimeError, HydraException) as error:  # Hydra's: the benchmark is gone
            log.error("%s: not scored: %s", root, error)
            log.debug("", exc_info=True)
    return good


def outdated(root: Path) -> bool:
    """Whether the merged tables are older than a score, as a kill in between leaves them."""
    merged = [root / name for name in ("scores.parquet", "metrics.json")]
    newest = max((path.stat().st_mtime_ns for path in root.glob("scores/*.json")), default=0)
    return not all(path.is_file() and path.stat().st_mtime_ns >= newest for path in merged)


def show(scores: pd.DataFrame, cfg: DictConfig, others: pd.DataFrame | None) -> int:
    """A table for each group of runs that may be compared; how many groups were refused."""
    console, refused = Console(width=None if Console().is_terminal else 200), 0
    several = scores.groupby(list(cfg.group)).set.nunique()
    for place, count in several[several > 1].items():
        where = ", ".join(place) if isinstance(place, tuple) else place
        log.warning("%s: %d sets of requests (other n, settings or version), not compared: a table each", where, count)
    for names, own in scores.groupby([*cfg.group, "set"], sort=False):
        try:
            console.print(terminal(comparable(own), f"{', '.join(names[:-1])}, n = {own.n.max()}", cfg.show, others))
        except NotComparableError as error:
            refused += 1
            log.error("%s: no table: %s", ", ".join(names[:-1]), error)
        if absent := [name for name in BOUNDS if name not in (*own.editor, "real")]:
            log.info("no %s there: run editor=%s for floor and ceiling", " and ".join(absent), ",".join(absent))
    return refused


@hydra.main(version_base="1.3", config_path="../conf", config_name="score")
def main(cfg: DictConfig) -> None:
    """Score, collect, print, log."""
    roots = find(cfg.run)
    metrics, logger = (instantiate(cfg[key], _convert_="all") for key in ("metric", "logger"))
    others = published(resolve_path(cfg.published)) if cfg.published else None
    reference = resolve_path(cfg.reference) if cfg.reference else None
    settings = Settings(Path(cfg.cache), reference, cfg.resamples, cfg.batch, cfg.threads, cfg.seed, cfg.side)
    good = scored(roots, metrics, settings)
    scores = collect(good, list(metrics))
    refused = show(scores, cfg, others)
    if others is not None:
        for source in dict.fromkeys(others.source):
            log.info("published: %s", source)
    if cfg.out:
        out = Path(cfg.out)
        write(out, scores.to_csv(index=False).encode() if out.suffix == ".csv" else table_bytes(scores))
        log.info("%s: %d figures", out, len(scores))
    runs = scores[scores.run != ""]
    count = getattr(logger, "samples", 0)
    for path in logger.log(runs, {str(root): samples_of(root, count) for root in good}):
        log.info("logged: %s", path)
    if len(good) < len(roots) or refused:
        raise ScoreFailedError(
            f"{len(roots) - len(good)} of {len(roots)} runs were not scored, {refused} tables refused; see above"
        )


if __name__ == "__main__":
    main()
