"""Open every picture and mask that a benchmark wants, before a long run finds out what is missing; see `--help`."""

import logging
import sys
from collections.abc import Sequence

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from diffedit.command import run_command
from eval.benchmarks.check import Fault, File, find_faults, find_files

log = logging.getLogger("check")


@hydra.main(version_base="1.3", config_path="../conf", config_name="check_benchmark")
def main(cfg: DictConfig) -> None:
    """Pictures first, then the masks of those that are fine; exit with 1 where something is not."""
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    pictures, masks = find_files(benchmark)
    log.info("%s: %d requests", type(benchmark).__name__, len(benchmark))
    if not pictures:
        log.info("nothing to check: its requests load no files")
    faults = report(pictures, "picture", cfg)
    bad = {fault.path for fault in faults}
    checkable = [mask for mask in masks if mask.picture not in bad]
    if masks:
        faults += report(checkable, "mask", cfg)
    if len(checkable) < len(masks):
        log.info("%d masks not looked at, for their pictures are not fine", len(masks) - len(checkable))
    if faults:
        sys.exit(1)


def report(files: Sequence[File], unit: str, cfg: DictConfig) -> list[Fault]:
    """Open files, list the first faults of each kind, say how many there are."""
    faults = find_faults(files, cfg.threads, unit)
    kinds = {kind: [fault.text for fault in faults if fault.kind == kind] for kind in ("missing", "unreadable")}
    for kind, texts in kinds.items():
        for text in texts[: cfg.show]:
            log.error("%s: %s", kind, text)
        if len(texts) > cfg.show:
            log.error("%s: ... and %d more", kind, len(texts) - cfg.show)
    missing, unreadable = map(len, kinds.values())
    log.info(
        "%d %ss: %d found, %d missing, %d unreadable", len(files), unit, len(files) - len(faults), missing, unreadable
    )
    return faults


if __name__ == "__main__":
    run_command("check_benchmark", main)
