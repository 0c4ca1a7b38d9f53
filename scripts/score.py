"""Score finished runs by every metric of the config; print a table a benchmark. `--help` shows how."""

import logging
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from diffedit.files import located
from eval.score import collect, find, score
from eval.tables import BOUNDS, published, terminal

log = logging.getLogger("score")


class ScoreFailedError(RuntimeError):
    """Some run could not be scored: Hydra turns it into exit code 1."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="score")
def main(cfg: DictConfig) -> None:
    """Score, collect, print."""
    roots = find(cfg.runs)
    metrics = instantiate(cfg.metric, _convert_="all")
    others = published(located(cfg.published)) if cfg.published else None
    refused = []
    for root in roots:
        try:
            done = score(root, metrics, Path(cfg.cache), cfg.resamples, cfg.batch)
            log.info("%s: %s", root, ", ".join(done) or "all there")
        except (OSError, ValueError) as error:
            refused.append(root)
            log.error("%s: not scored: %s", root, error)
            log.debug("", exc_info=True)
    scores = collect([root for root in roots if root not in refused], list(metrics))
    console = Console(width=None if Console().is_terminal else 200)
    for names, own in scores.groupby([*cfg.group, "set"], sort=False):
        console.print(terminal(own, f"{', '.join(names[:-1])}, n = {own.n.max()}", cfg.show, others))
        if absent := [name for name in BOUNDS if name not in set(own.editor)]:
            log.info("no %s there: run editor=%s for floor and ceiling", " and ".join(absent), ",".join(absent))
    if others is not None:
        for source in dict.fromkeys(others.source):
            log.info("published: %s", source)
    if cfg.out:
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        scores.to_csv(out, index=False) if out.suffix == ".csv" else scores.to_parquet(out, index=False)
        log.info("%s: %d figures", out, len(scores))
    if refused:
        raise ScoreFailedError(f"{len(refused)} of {len(roots)} runs were not scored; they are listed above")


if __name__ == "__main__":
    main()
