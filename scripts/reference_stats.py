"""Statistics of real pictures, computed once for `score.py reference=`. `--help` shows how."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig
from tqdm.auto import tqdm

from diffedit.command import run_command
from diffedit.io.files import write
from diffedit.io.images import ImageFile
from eval.scoring.features import to_uint8
from eval.scoring.reference import ReferenceImage, compute_reference, iterate_folder

log = logging.getLogger("reference_stats")


def iterate_images(cfg: DictConfig) -> Iterator[ReferenceImage]:
    """The real pictures of the config: a folder's, or a benchmark's."""
    if cfg.folder:
        resize = instantiate(cfg.resize)
        load = lambda path: to_uint8(ImageFile(path, cfg.resolution, resize)())  # noqa: E731 (a closure over the resize)
        yield from iterate_folder(Path(cfg.folder).expanduser(), load, cfg.per_class, cfg.held)
        return
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    if not benchmark.has_reference:
        raise ValueError("the benchmark has no reference pictures; folder= names some")
    counts: Counter[str] = Counter()
    for i, (label, image) in enumerate(benchmark.reference(cfg.size, cfg.resolution)):
        counts[label] += 1
        yield ReferenceImage(label, f"picture {i}", lambda image=image: to_uint8(image), counts[label] <= cfg.held)


@hydra.main(version_base="1.3", config_path="../conf", config_name="reference_stats")
def main(cfg: DictConfig) -> None:
    """One pass over the pictures for each network."""
    source = cfg.folder or f"{cfg.size} pictures of {cfg.benchmark._target_.rpartition('.')[2]}"
    extractors = {name: instantiate(cfg.networks[name], _convert_="all") for name in cfg.extractors}  # before any work
    for extractor in {extractor.hash: extractor for extractor in extractors.values()}.values():
        images = tqdm(iterate_images(cfg), desc=extractor.name, unit="picture")
        reference = compute_reference(extractor, images, source, cfg.resolution, cfg.keep, cfg.batch, cfg.threads)
        path = Path(cfg.out) / f"{extractor.hash}.safetensors"
        write(path, reference.to_bytes())
        counts = sorted(reference.class_n.values())
        classes = f", {len(counts)} classes of {counts[0]} to {counts[-1]}" if counts else ""
        log.info(
            "%s: %s (%s), n = %d%s, %d held out, hash %s",
            path, extractor.name, extractor.resize, reference.n, classes, len(reference.held_out), reference.hash,
        )  # fmt: skip


if __name__ == "__main__":
    run_command("reference_stats", main)
