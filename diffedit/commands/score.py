"""`diffedit score`: score finished runs by every metric of the config, or a folder of pictures; print tables."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffedit.commands.launch import launch
from diffedit.runs.stop import obey_signals

if TYPE_CHECKING:
    import pandas as pd

    from eval.scoring.metric import Metric
    from eval.scoring.score import Settings

log = logging.getLogger("score")

ENDINGS = (".csv", ".parquet")
OF_RUNS = ("reference", "published", "agree")  # settings that mean nothing for plain folders


class ScoreFailedError(RuntimeError):
    """Some run could not be scored, or some table not be made."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    with obey_signals():
        return launch("score", partial(score, words=argv), argv)


def score(cfg: DictConfig, words: Sequence[str] = ()) -> None:
    """Score, collect, print, log; or have it done elsewhere, or a share of it measured.

    Args:
        cfg: the config.
        words: of the command line, for those that are started to help.
    """
    if cfg.out and Path(cfg.out).suffix not in ENDINGS:
        raise ValueError(f"out = {cfg.out}: the ending says what is written, and it is none of {', '.join(ENDINGS)}")
    if cfg.folder is not None or cfg.against is not None:
        score_folders(cfg)
        return
    if measure_elsewhere(cfg, words):
        return

    from hydra.utils import instantiate

    from diffedit.engine.threads import set_threads
    from diffedit.io.files import resolve_path
    from diffedit.runs.claim import BusyError, is_claimed
    from eval.reporting.collect import collect
    from eval.reporting.seeds import merge_seeds, name_seeds
    from eval.reporting.tables import print_tables, read_published
    from eval.scoring.score import Settings, find_runs, score_runs

    set_threads(cfg.cpu_threads)
    roots = find_runs(cfg.runs)
    if cfg.reference and not resolve_path(cfg.reference).is_dir():
        raise FileNotFoundError(f"reference = {cfg.reference}: no such folder; diffedit reference-stats makes one")
    metrics, logger = (instantiate(cfg[key], _convert_="all") for key in ("metric", "logger"))
    others = build_metrics_of(cfg, cfg.agree) if cfg.agree else None
    published = read_published(resolve_path(cfg.published)) if cfg.published else None
    reference = resolve_path(cfg.reference) if cfg.reference else None
    settings = Settings(Path(cfg.cache), reference, cfg.resamples, cfg.batch, cfg.threads, cfg.seed, cfg.resolution)
    if cfg.shard is not None:
        measure_shard(roots, metrics, settings, cfg.shard)
        return
    scored = score_runs(roots, metrics, settings)
    of_runs = collect(scored, list(metrics))
    scores = merge_seeds(of_runs, cfg.resamples, cfg.seed)
    asked = [name for metric in metrics.values() for name in metric.higher_is_better]
    refused = print_tables(scores, cfg.group, cfg.columns or asked, published, asked)
    if unknown := sorted({*(cfg.columns or ())} - {*asked, *scores.metric}):
        log.warning("columns: no run has scores of %s; there are %s", ", ".join(unknown), ", ".join(sorted(set(asked))))
    if published is not None:
        for source in dict.fromkeys(published.source):
            log.info("published: %s", source)
    if others is not None:
        print_agreement(scores, (metrics, others), settings, cfg)
    if cfg.out:
        write_scores(Path(cfg.out), name_seeds(scores))
    for path in logger.log(of_runs[of_runs.run != ""]):
        log.info("logged: %s", path)
    left = [root for root in roots if root not in scored]
    if left and not refused and all(map(is_claimed, left)):
        raise BusyError(f"{len(left)} of {len(roots)} runs are still at work; score again when they are done")
    if left or refused:
        raise ScoreFailedError(f"{len(left)} of {len(roots)} runs were not scored, {refused} tables refused; see above")


def measure_elsewhere(cfg: DictConfig, words: Sequence[str]) -> bool:
    """Start a launcher's processes, which measure; returns whether the scores are computed elsewhere, too."""
    from hydra.utils import instantiate

    from diffedit.commands.launchers import Here, Local, ScoreWork, WorkersFailedError

    launcher = instantiate(cfg.launcher, _convert_="all")
    if isinstance(launcher, Here):
        return False

    from eval.scoring.parts import count_parts
    from eval.scoring.score import find_runs

    if cfg.shard is not None:
        raise ValueError(f"shard = {cfg.shard}: with launcher=here alone; the launcher gives each process its own")
    roots = find_runs(cfg.runs)
    try:
        launcher.start(ScoreWork(words, roots, Path(cfg.cache), sum(count_parts(root, cfg.batch) for root in roots)))
    except WorkersFailedError as error:
        if not isinstance(launcher, Local):
            raise
        log.warning("%s\nwhat is not measured is measured here", error)
    return not isinstance(launcher, Local)


def measure_shard(roots: Sequence[Path], metrics: "dict[str, Metric]", settings: "Settings", shard: str) -> None:
    """Measure a share of runs, and compute no score; a ScoreFailedError where one could not be looked at."""
    from diffedit.runs.cut import Share
    from eval.scoring.share import measure_runs

    left = len(roots) - len(measure_runs(roots, metrics, settings, Share.read(shard)))
    if left:
        raise ScoreFailedError(f"{left} of {len(roots)} runs were not measured; see above")


def build_metrics_of(cfg: DictConfig, networks: str) -> "dict[str, Metric]":
    """The metrics of a config by other networks, as their yaml has them."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    if networks == HydraConfig.get().runtime.choices["networks"]:
        raise ValueError(f"agree = {networks}: these are networks= themselves; name others")
    other = cfg.copy()
    OmegaConf.update(other, "networks", compose("score", [f"networks={networks}"]).networks, merge=False)
    return instantiate(other.metric, _convert_="all")


def print_agreement(
    scores: "pd.DataFrame", pair: "tuple[dict[str, Metric], dict[str, Metric]]", settings: "Settings", cfg: DictConfig
) -> None:
    """How far networks= and agree= agree, a table for each group of runs that has methods in it."""
    from hydra.core.hydra_config import HydraConfig

    from eval.reporting.agreement import build_agreement_table, compare_judges
    from eval.reporting.tables import make_console, split_groups

    names, console = (HydraConfig.get().runtime.choices["networks"], cfg.agree), make_console()
    for title, part in split_groups(scores[(scores.run != "") & ~scores.is_bound], cfg.group):
        rows = compare_judges([Path(run) for run in part.run.unique()], pair, settings)
        console.print("", build_agreement_table(rows, names, console.width, title))


def score_folders(cfg: DictConfig) -> None:
    """Score a plain folder of pictures; print a row a score."""
    if cfg.folder is None:
        raise ValueError(f"against = {cfg.against}: and folder=, the pictures to score?")
    for key in ("folder", "against"):
        if cfg[key] is not None and not Path(cfg[key]).expanduser().is_dir():
            raise FileNotFoundError(f"{key} = {cfg[key]}: no such folder")
    if cfg.shard is not None or not cfg.launcher._target_.endswith(".Here"):
        raise ValueError("shard, launcher: of runs; a plain folder (folder=) is scored in this process")
    if given := [key for key in OF_RUNS if cfg[key] is not None] + ["logger"] * (not is_silent(cfg)):
        raise ValueError(f"{', '.join(given)}: of runs; a plain folder (folder=) is compared with against=")

    from hydra.utils import instantiate

    from diffedit.engine.threads import set_threads
    from eval.reporting.tables import format_value, make_console, make_table
    from eval.scoring import folders

    set_threads(cfg.cpu_threads)
    metrics = instantiate(cfg.metric, _convert_="all")
    how = {key: cfg[key] for key in ("resolution", "resamples", "seed", "batch", "threads", "cache")}
    scores = folders.score(cfg.folder, cfg.against, metrics, **how)
    rows = []
    for row in scores.itertuples():
        half = max(row.high - row.value, row.value - row.low)
        name, _, hash = row.network.rpartition(" ")
        arrow = "↑" if row.higher_is_better else "↓"
        counts = str(row.n), str(row.n_against).replace("<NA>", "")
        rows.append((f"{row.metric} {arrow}", format_value(row.value, half), *counts, f"{name} {hash[:8]}"))
    make_console().print(make_table(("metric", "value", "n", "against", "network"), rows))
    if cfg.out:
        write_scores(Path(cfg.out), scores)


def is_silent(cfg: DictConfig) -> bool:
    """Whether scores are logged nowhere."""
    return cfg.logger._target_.endswith(".NoLogger")


def write_scores(out: Path, scores: "pd.DataFrame") -> None:
    """Write them as the ending of the file says."""
    from diffedit.io.files import write
    from diffedit.io.tables import write_table

    if out.suffix == ".csv":
        write(out, scores.to_csv(index=False).encode())
    else:
        write_table(out, scores)
    log.info("%s: %d scores", out, len(scores))
