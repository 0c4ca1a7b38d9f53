"""`diffedit check-benchmark`: open every picture and mask, before a long run finds out what is missing."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffedit.commands.launch import launch

if TYPE_CHECKING:
    from eval.benchmarks.check import Fault, File

log = logging.getLogger("check")


class FaultsFoundError(RuntimeError):
    """Some file is missing or cannot be read."""

    exit_code = 1


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("check_benchmark", check, argv)


def check(cfg: DictConfig) -> None:
    """Pictures first, then the masks of those that are fine."""
    from hydra.utils import instantiate

    from eval.benchmarks.check import find_files

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
        raise FaultsFoundError(f"{len(faults)} files are missing, unreadable or cut away whole; they are listed above")


def report(files: "Sequence[File]", unit: str, cfg: DictConfig) -> "list[Fault]":
    """Open files, list the first faults of each kind, say how many there are."""
    from eval.benchmarks.check import find_faults

    faults = find_faults(files, cfg.threads, unit)
    kinds = {
        kind: [fault.text for fault in faults if fault.kind == kind] for kind in ("missing", "unreadable", "cut away")
    }
    for kind, texts in kinds.items():
        for text in texts[: cfg.show]:
            log.error("%s: %s", kind, text)
        if len(texts) > cfg.show:
            log.error("%s: ... and %d more", kind, len(texts) - cfg.show)
    missing, unreadable, cut = map(len, kinds.values())
    found = len(files) - missing - unreadable
    log.info("%d %ss: %d found, %d missing, %d unreadable", len(files), unit, found, missing, unreadable)
    if cut:
        log.info("%d of them cut away whole, so that nothing is edited: benchmark.resize.policy=squash or keep", cut)
    return faults
