"""Open every picture and mask that a benchmark wants, before a long run finds out what is missing; see `--help`."""

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm.auto import tqdm

log = logging.getLogger("check")

SIDE = 32  # pixels: a picture is decoded whole and made small, as in a run


class File(NamedTuple):
    """A file that a request loads: the request's id, its path, what loads it."""

    request: str
    path: Path
    load: Callable[[], Any]


def wanted(benchmark: Any) -> tuple[list[File], list[tuple[Path | None, File]]]:
    """The pictures, one that several requests want once; and their masks and exact answers, each with its picture."""
    pictures: dict[Path, File] = {}
    others: list[tuple[Path | None, File]] = []
    for request in benchmark.requests(SIDE):
        picture = getattr(request.image, "path", None)
        if picture is not None:
            pictures.setdefault(picture, File(request.id, picture, request.image))
        others += [
            (picture, File(request.id, load.path, load))
            for load in (request.mask, request.true_mask, request.true_edit)
            if isinstance(getattr(load, "path", None), Path)
        ]
    return list(pictures.values()), others


def fault(file: File) -> tuple[str, str] | None:
    """(`missing` or `unreadable`, why); None for a file that is fine."""
    try:
        if not file.path.is_file():
            return "missing", f"{file.request}: {file.path}"
        file.load()
    # Whatever a decoder throws at a broken file belongs in the list, and the others are still to be looked at.
    except Exception as error:
        said = str(error) if str(file.path) in str(error) else f"{file.path}: {error}"
        return "unreadable", f"{file.request}: {said}"
    return None


def check(files: list[File], threads: int, unit: str) -> tuple[dict[str, list[str]], set[Path]]:
    """A line for each file that is not fine, by kind of fault; and the paths of these."""
    faults: dict[str, list[str]] = {"missing": [], "unreadable": []}
    bad = set()
    with ThreadPoolExecutor(threads) as pool:
        bar = tqdm(pool.map(fault, files), total=len(files), desc=f"{unit}s", unit=unit, disable=None)
        for file, wrong in zip(files, bar, strict=True):
            if wrong:
                faults[wrong[0]].append(wrong[1])
                bad.add(file.path)
    return faults, bad


def report(count: int, faults: dict[str, list[str]], unit: str, show: int) -> int:
    """List the first faults of each kind, say how many there are of what; returns how many."""
    for kind, lines in faults.items():
        for line in lines[:show]:
            log.error("%s: %s", kind, line)
        if len(lines) > show:
            log.error("%s: ... and %d more", kind, len(lines) - show)
    missing, unreadable = map(len, faults.values())
    found = count - missing - unreadable
    log.info("%d %ss: %d found, %d missing, %d unreadable", count, unit, found, missing, unreadable)
    return missing + unreadable


@hydra.main(version_base="1.3", config_path="../conf", config_name="check_benchmark")
def main(cfg: DictConfig) -> None:
    """Pictures first, then the masks of those that are fine; exit with 1 where something is not."""
    if "generate_missing" in cfg.benchmark:
        cfg.benchmark.generate_missing = False  # to look is not to draw
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    pictures, others = wanted(benchmark)
    log.info("%s: %d requests", type(benchmark).__name__, len(benchmark))
    if not pictures:
        log.info("nothing to check: its requests load no files")
    faults, bad = check(pictures, cfg.threads, "picture")
    wrong = report(len(pictures), faults, "picture", cfg.show)
    masks = [file for picture, file in others if picture not in bad]
    if others:
        faults, _ = check(masks, cfg.threads, "mask")
        wrong += report(len(masks), faults, "mask", cfg.show)
    if len(masks) < len(others):
        log.info("%d masks not looked at, for their pictures are not fine", len(others) - len(masks))
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
