"""`diffedit reference-stats`: statistics of real pictures, computed once for `diffedit score reference=`."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from diffedit.commands.launch import launch

if TYPE_CHECKING:
    from eval.scoring.reference import ReferenceImage

log = logging.getLogger("reference_stats")


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    return launch("reference_stats", compute, argv)


def compute(cfg: DictConfig) -> None:
    """One pass over the pictures for each network."""
    from hydra.utils import instantiate
    from tqdm.auto import tqdm

    from diffedit.io.files import write
    from eval.scoring.reference import compute_reference

    if cfg.folder and not Path(cfg.folder).expanduser().is_dir():
        raise FileNotFoundError(f"folder = {cfg.folder}: no such folder")
    for path in list_without(cfg):
        if not path.is_dir():
            raise FileNotFoundError(f"without = {path}: no such folder")
    if cfg.without and not cfg.folder:
        raise ValueError("without = folders of pictures: they are left out of those of folder=, which is not set")
    if unknown := [name for name in cfg.extractors if name not in cfg.networks]:
        raise ValueError(f"extractors = {', '.join(unknown)}: there are {', '.join(map(str, cfg.networks))}")
    source = cfg.folder or f"{cfg.size} pictures of {cfg.benchmark._target_.rpartition('.')[2]}"
    extractors = {name: instantiate(cfg.networks[name], _convert_="all") for name in cfg.extractors}  # before any work
    for extractor in {extractor.hash: extractor for extractor in extractors.values()}.values():
        images = iter(tqdm(iterate_images(cfg), desc=extractor.name, unit="picture"))
        reference = compute_reference(extractor, images, source, cfg.resolution, cfg.keep, cfg.batch, cfg.threads)
        path = Path(cfg.out) / f"{extractor.hash}.safetensors"
        write(path, reference.to_bytes())
        counts = sorted(reference.class_n.values())
        classes = f", {len(counts)} classes of {counts[0]} to {counts[-1]}" if counts else ""
        log.info(
            "%s: %s (%s), n = %d%s, %d held out, hash %s",
            path, extractor.name, extractor.resize, reference.n, classes, len(reference.held_out), reference.hash,
        )  # fmt: skip


def list_without(cfg: DictConfig) -> list[Path]:
    """The folders whose pictures are left out."""
    folders = [cfg.without] if isinstance(cfg.without, str) else list(cfg.without or ())
    return [Path(folder).expanduser() for folder in folders]


def iterate_images(cfg: DictConfig) -> "Iterator[ReferenceImage]":
    """The real pictures of the config: a folder's, or a benchmark's."""
    from hydra.utils import instantiate

    from diffedit.io.contents import Contents
    from diffedit.io.images import ImageFile
    from eval.scoring.features import to_uint8
    from eval.scoring.reference import ReferenceImage, find_pictures, iterate_folder

    if cfg.folder:
        others = [file for root in list_without(cfg) for _, file in find_pictures(root, "without")]
        without = Contents(others) if others else None
        resize = instantiate(cfg.resize)
        load = lambda path: to_uint8(ImageFile(path, cfg.resolution, resize)())  # noqa: E731 (a closure over the resize)
        yield from iterate_folder(Path(cfg.folder).expanduser(), load, cfg.per_class, cfg.held, without)
        return
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    if not benchmark.has_reference:
        raise ValueError("the benchmark has no reference pictures; folder= names some")
    counts: Counter[str] = Counter()
    for i, (label, image) in enumerate(benchmark.reference(cfg.size, cfg.resolution)):
        counts[label] += 1
        yield ReferenceImage(label, f"picture {i}", lambda image=image: to_uint8(image), counts[label] <= cfg.held)
