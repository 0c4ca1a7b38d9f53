"""Edit one picture: the edit at each ratio, its mask, contrast map, overlay and a contact sheet. `--help` shows how."""

import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from diffedit.engine.engine import BatchSizes, Engine
from diffedit.io.files import file_name
from diffedit.io.images import ImageFile, MaskFile, to_pil
from diffedit.mask import GivenMask
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import ratio_list
from diffedit.stages.pipeline import build_pipeline
from diffedit.types import EditRequest, EditResult
from eval.reporting.contact_sheet import heat, overlay, sheet

log = logging.getLogger("edit")


@hydra.main(version_base="1.3", config_path="../conf", config_name="edit")
def main(cfg: DictConfig) -> None:
    """Edit the picture of the command line."""
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    ratios = ratio_list(cfg.ratios)
    method = build_pipeline(cfg)
    if cfg.mask and not isinstance(getattr(method.editor, "mask", None), GivenMask):
        raise ValueError("a mask is given and the editor does not use it: add editor/mask=given, or drop mask=")
    backbone = instantiate(cfg.backbone, _convert_="all")
    method.check(backbone)
    schedule = backbone.schedule(cfg.steps)
    request = given(cfg, backbone.resolution) if cfg.image else from_benchmark(cfg, backbone.resolution)

    program = method(request, ratios, schedule, RequestNoise(cfg.seed, request.id))
    engine = Engine(backbone, BatchSizes(**cfg.engine.batch), progress=cfg.engine.progress)
    (outcome,) = engine.run([(request.id, program)], total=1, edits=len(ratios))
    if outcome.error is not None:
        raise outcome.error
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(request, outcome.result).items():
        picture.save(out / f"{file_name(request.id)}_{name}.png")
    log.info("%s: %d network evaluations, %.1f s", out, outcome.evaluations.total(), outcome.seconds)
    if flag := outcome.result.metadata.get("mask_flag"):
        log.warning("the mask is %s", flag)


def given(cfg: DictConfig, side: int) -> EditRequest:
    """The picture, texts and mask of the command line."""
    if cfg.target is None:
        raise ValueError("say what the picture shall show: target=...")
    path, resize = Path(cfg.image).expanduser(), instantiate(cfg.resize)
    mask = MaskFile(Path(cfg.mask).expanduser(), path, side, resize) if cfg.mask else None
    source = None if cfg.source is None else str(cfg.source)
    return EditRequest(path.stem, ImageFile(path, side, resize), str(cfg.target), source, mask)


def from_benchmark(cfg: DictConfig, side: int) -> EditRequest:
    """A request of the benchmark, with other texts where the command line has some."""
    if cfg.mask:
        raise ValueError("mask= belongs to image=; the benchmark's own mask is used by editor/mask=given")
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    if not 0 <= cfg.request < len(benchmark):
        raise ValueError(f"request = {cfg.request}: the benchmark has {len(benchmark)} requests, counted from 0")
    request = next(islice(benchmark.requests(side), cfg.request, None))
    if cfg.target is not None:
        request = replace(request, target=str(cfg.target), true_edit=None, mask=None, true_mask=None)
    return request if cfg.source is None else replace(request, source=str(cfg.source))


def pictures(request: EditRequest, result: EditResult) -> dict[str, Image.Image]:
    """What to write, by name; the sheet holds the others."""
    image = request.image()
    row = [("input", to_pil(image))]
    found = {}
    if result.contrast_map is not None:
        found["map"] = heat(result.contrast_map, image.shape[-1])
        row.append(("contrast map", found["map"]))
    if result.mask is not None:
        found["mask"] = Image.fromarray(result.mask[0, 0].cpu().numpy()).convert("L").resize(image.shape[-2:], 0)
        found["overlay"] = overlay(image, result.mask)
        row.append((f"mask, {result.metadata['mask_area']:.0%}", found["overlay"]))
    for edit in result.edits:
        found[f"r{edit.variant.strength:g}"] = to_pil(edit.image)
        row.append((f"r = {edit.variant.strength:g}", found[f"r{edit.variant.strength:g}"]))
    if request.true_edit is not None:
        row.append(("exact answer", to_pil(request.true_edit())))
    rows = [row, *(sample_row(k, sample) for k, sample in enumerate(result.samples))]
    for k, sample in enumerate(result.samples):
        found |= {f"r{edit.variant.strength:g}_sample{k}": to_pil(edit.image) for edit in sample.edits}
    title = f"{request.source} -> {request.target}" if request.source else request.target
    return found | {"sheet": sheet(rows, title)}


def sample_row(k: int, sample: EditResult) -> list[tuple[str, Image.Image]]:
    """One sample at every ratio, with what ranked it."""
    return [
        (f"sample {k}, r = {edit.variant.strength:g}: {edit.score:.3f}", to_pil(edit.image)) for edit in sample.edits
    ]


if __name__ == "__main__":
    main()
