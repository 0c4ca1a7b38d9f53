"""Open every picture that a benchmark wants, before a long run finds out what is missing. `--help` shows how."""

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm.auto import tqdm

from eval.images import ImageFile

log = logging.getLogger("check")

SIDE = 32  # pixels: a picture is decoded whole and made small, as in a run


def wanted(benchmark: Any) -> Iterator[tuple[str, Path, Callable[[], Any]]]:
    """(id, path, what loads it) of every picture: what the benchmark lists, and what its requests load from disk."""
    if hasattr(benchmark, "files"):
        yield from ((name, path, ImageFile(path, SIDE)) for name, path in benchmark.files())
        return
    for request in benchmark.requests(SIDE):
        for load in (request.image, request.mask, request.oracle_mask, request.counterfactual):
            if isinstance(path := getattr(load, "path", None), Path):
                yield request.id, path, load


def fault(path: Path, load: Callable[[], Any]) -> tuple[str, str] | None:
    """(`missing` or `unreadable`, why); None for a picture that is fine."""
    try:
        if not path.is_file():
            return "missing", str(path)
        load()
    # Whatever a decoder throws at a broken file belongs in the list, and the other pictures are still to be looked at.
    except Exception as error:
        return "unreadable", str(error) if str(path) in str(error) else f"{path}: {error}"
    return None


def check(benchmark: Any, threads: int) -> tuple[int, dict[str, list[str]]]:
    """How many pictures are fine, and a line for each of the others; one wanted by several requests counts once."""
    # A mask is read beside its own picture, so one file may have several loaders that differ in what they compare.
    unique: dict[Any, tuple[str, Path, Callable[[], Any]]] = {}
    for name, path, load in wanted(benchmark):
        unique.setdefault((path, getattr(load, "picture", None)), (name, path, load))
    faults: dict[str, list[str]] = {"missing": [], "unreadable": []}
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda each: fault(*each[1:]), unique.values())
        bar = tqdm(found, total=len(unique), desc="pictures", unit="picture", disable=None)
        for (name, _, _), wrong in zip(unique.values(), bar, strict=True):
            if wrong:
                faults[wrong[0]].append(f"{name}: {wrong[1]}")
    return len(unique) - sum(map(len, faults.values())), faults


@hydra.main(version_base="1.3", config_path="../conf", config_name="check_benchmark")
def main(cfg: DictConfig) -> None:
    """Count, list the first faults of each kind, exit with 1 where there is one."""
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    found, faults = check(benchmark, cfg.threads)
    for kind, lines in faults.items():
        for line in lines[: cfg.show]:
            log.error("%s: %s", kind, line)
        if len(lines) > cfg.show:
            log.error("%s: ... and %d more", kind, len(lines) - cfg.show)
    missing, unreadable = map(len, faults.values())
    name, total = type(benchmark).__name__, found + missing + unreadable
    log.info(
        "%s: %d requests, %d pictures: %d found, %d missing, %d unreadable",
        name, len(benchmark), total, found, missing, unreadable,
    )  # fmt: skip
    if not total:
        log.info("nothing to check: its requests load no files")
    if missing or unreadable:
        sys.exit(1)


if __name__ == "__main__":
    main()
