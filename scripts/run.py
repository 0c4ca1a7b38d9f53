"""Edit every request of a benchmark at every ratio; go on where a killed run stopped. `--help` shows how."""

import hashlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.prefetch import ahead
from diffedit.runs.directory import RunDirectory
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import ratio_list
from diffedit.stages.pipeline import staged
from diffedit.types import EditRequest, EditResult, Walk

log = logging.getLogger("run")

FLAGS = {
    "empty": "nothing is edited",
    "full": "everything is",
    "lost": "too thin for the latent grid, nothing is edited: editor.mask.cover=any",
}


class RunFailedError(RuntimeError):
    """Some request failed: Hydra turns it into exit code 1."""


def slug(text: str) -> str:
    """Overrides as the name of one folder; `default` where there are none."""
    name = re.sub(r"[^\w=.,+@-]+", "-", re.sub(r"[][{}'\"]", "", text)).strip("-")
    if len(name) > 200:  # file systems take 255
        name = re.sub(r"(.+),(experiment=\w+)", r"\2,\1", name)  # tables and figures find their runs by it
        name = f"{name[:190]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name or "default"


OmegaConf.register_new_resolver("slug", slug, replace=True)


@hydra.main(version_base="1.3", config_path="../conf", config_name="run")
def main(cfg: DictConfig) -> None:
    """One run: benchmark x backbone x editor."""
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    if cfg.on_error not in ("skip", "stop"):
        raise ValueError(f"on_error = {cfg.on_error} is neither skip nor stop")
    ratio_list(cfg.ratios)
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    editor = staged(cfg)
    backbone = instantiate(cfg.backbone, _convert_="all")
    config["weights"] = getattr(backbone, "fingerprint", None)
    config |= {f"{name}_weights": value for name, value in editor.weights().items()}
    editor.check(backbone)
    run = RunDirectory(Path(HydraConfig.get().runtime.output_dir), config, benchmark.version)
    try:
        edit_all(run, benchmark, editor, backbone, cfg)
    finally:
        table = run.close()
        if table is not None:
            report(table, len(benchmark), run.root)


def edit_all(run: RunDirectory, benchmark: Any, editor: Any, backbone: Any, cfg: DictConfig) -> None:
    """Edit what is not done yet, saving each request as it ends."""
    levels = backbone.levels(cfg.steps)
    levels.starts(cfg.ratios)
    engine = Engine(backbone, BatchSizes(**cfg.engine.batch), cfg.engine.window, cfg.engine.texts, cfg.engine.progress)
    total = sum(1 for _ in run.pending(benchmark.requests(backbone.resolution)))
    if total < len(benchmark):
        log.info("%d of %d requests are done already", len(benchmark) - total, len(benchmark))
    live: dict[str, EditRequest] = {}

    def walks() -> Iterator[tuple[str, Walk[EditResult]]]:
        todo = run.pending(benchmark.requests(backbone.resolution))
        for request in ahead(todo, editor.reads(), cfg.engine.threads, engine.window):
            live[request.id] = request
            yield request.id, editor(request, list(cfg.ratios), levels, RequestNoise(cfg.seed, request.id))

    failed = 0
    for outcome in engine.run(walks(), total, len(cfg.ratios)):
        run.save(live.pop(outcome.id), outcome)
        if outcome.error is not None:
            failed += 1
            log.debug("request %s failed", outcome.id, exc_info=outcome.error)
            if cfg.on_error == "stop":
                raise RunFailedError(f"request {outcome.id}: {outcome.error} (on_error=stop)") from outcome.error
    if failed:
        raise RunFailedError(
            f"{failed} of {len(benchmark)} requests failed; they are listed above and in the manifest "
            "(hydra.verbose=run shows where each went wrong)"
        )


def report(table: pd.DataFrame, total: int, root: Path) -> None:
    """Say what came out: how much, at what cost, the masks worth a look, the failed requests by name."""
    requests, edits = table.drop_duplicates("id"), table[table.status == "done"]
    done, failed = (requests[requests.status == status] for status in ("done", "failed"))
    log.info("%s: %d of %d requests done, %d edits", root, len(done), total, len(edits))
    if len(edits):
        evaluations = int(edits.evaluations.sum() + done.shared_evaluations.sum())
        log.info("%d network evaluations, %.1f an edit", evaluations, evaluations / len(edits))
    for flag, advice in FLAGS.items() if "mask_flag" in done else ():
        if ids := list(done.id[done.mask_flag == flag]):
            named = ", ".join(ids[:5] + ["..."] * (len(ids) > 5))
            log.warning("masks: %d %s (%s): %s", len(ids), flag, advice, named)
    for row in failed.itertuples():
        log.error("failed: %s: %s", row.id, row.error)


if __name__ == "__main__":
    main()
