"""Statistics of real pictures, computed once for `score.py reference=`. `--help` shows how."""

import logging
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm.auto import tqdm

from diffedit.io.files import write
from diffedit.io.images import ImageFile
from eval.scoring.reference import HasReference, Real, folder_pictures, measured
from eval.stilllife.train.exam import pixels

log = logging.getLogger("reference_stats")


def pictures(cfg: DictConfig) -> Iterator[Real]:
    """The real pictures of the config: a folder's, or a benchmark's."""
    if cfg.folder:
        resize = instantiate(cfg.resize)
        load = lambda path: pixels(ImageFile(path, cfg.side, resize)())  # noqa: E731 (a closure over the resize)
        yield from folder_pictures(Path(cfg.folder).expanduser(), load, cfg.per_class, cfg.held)
        return
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    if not isinstance(benchmark, HasReference):
        raise ValueError("the benchmark has no reference pictures; folder= names some")
    seen: dict[str, int] = {}
    for i, (label, image) in enumerate(benchmark.reference(cfg.size, cfg.side)):
        seen[label] = seen.get(label, 0) + 1
        yield Real(label, f"picture {i}", lambda image=image: pixels(image), seen[label] <= cfg.held)


@hydra.main(version_base="1.3", config_path="../conf", config_name="reference_stats")
def main(cfg: DictConfig) -> None:
    """One pass over the pictures for each network."""
    source, known = cfg.folder or f"{cfg.size} pictures of {cfg.benchmark._target_.rpartition('.')[2]}", set()
    extractors = {name: instantiate(cfg.networks[name], _convert_="all") for name in cfg.extractors}  # before any work
    for name, extractor in extractors.items():
        if extractor.hash in known:
            continue
        known.add(extractor.hash)
        stream = tqdm(pictures(cfg), desc=name, unit="picture")
        found = measured(extractor, stream, source, cfg.side, cfg.keep, cfg.batch, cfg.threads)
        path = Path(cfg.out) / f"{extractor.hash}.safetensors"
        write(path, found.data())
        counts = sorted(found.class_n.values())
        each = f", {len(counts)} classes of {counts[0]} to {counts[-1]}" if counts else ""
        log.info(
            "%s: %s (%s), n = %d%s, %d held out, hash %s",
            path, extractor.name, extractor.resize, found.n, each, len(found.held), found.hash,
        )  # fmt: skip


if __name__ == "__main__":
    main()
