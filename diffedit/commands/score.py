"""`diffedit score`: score finished runs by every metric of the config; print a table a benchmark."""

import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from diffedit.commands.launch import launch

log = logging.getLogger("score")


class ScoreFailedError(RuntimeError):
    """Some run could not be scored, or some table not be made."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("score", score, argv)


def score(cfg: DictConfig) -> None:
    """Score, collect, print, log."""
    from hydra.utils import instantiate

    from diffedit.io.files import resolve_path, write
    from diffedit.io.tables import write_table
    from diffedit.runs.lock import BusyError, is_locked
    from eval.reporting.collect import collect
    from eval.reporting.loggers import pick_samples
    from eval.reporting.tables import print_tables, read_published
    from eval.scoring.score import Settings, find_runs, score_runs

    roots = find_runs(cfg.runs)
    if cfg.reference and not resolve_path(cfg.reference).is_dir():
        raise FileNotFoundError(f"reference = {cfg.reference}: no such folder; diffedit reference-stats makes one")
    metrics, logger = (instantiate(cfg[key], _convert_="all") for key in ("metric", "logger"))
    published = read_published(resolve_path(cfg.published)) if cfg.published else None
    reference = resolve_path(cfg.reference) if cfg.reference else None
    settings = Settings(Path(cfg.cache), reference, cfg.resamples, cfg.batch, cfg.threads, cfg.seed, cfg.resolution)
    scored = score_runs(roots, metrics, settings)
    scores = collect(scored, list(metrics))
    asked = [name for metric in metrics.values() for name in metric.higher_is_better]
    refused = print_tables(scores, cfg.group, cfg.columns or asked, published, asked)
    if published is not None:
        for source in dict.fromkeys(published.source):
            log.info("published: %s", source)
    if cfg.out:
        out = Path(cfg.out)
        if out.suffix == ".csv":
            write(out, scores.to_csv(index=False).encode())
        else:
            write_table(out, scores)
        log.info("%s: %d scores", out, len(scores))
    samples = {str(root): pick_samples(root, logger.samples) for root in scored}
    for path in logger.log(scores[scores.run != ""], samples):
        log.info("logged: %s", path)
    left = [root for root in roots if root not in scored]
    if left and not refused and all(map(is_locked, left)):
        raise BusyError(f"{len(left)} of {len(roots)} runs are still at work; score again when they are done")
    if left or refused:
        raise ScoreFailedError(f"{len(left)} of {len(roots)} runs were not scored, {refused} tables refused; see above")
