"""Edit one picture: the edit at each ratio, its mask, contrast map, overlay and a contact sheet. `--help` shows how."""

import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from diffedit.command import run_command
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.io.images import ImageFile, MaskFile
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import read_ratios
from diffedit.stages.pipeline import build_pipeline
from diffedit.types import EditRequest
from eval.reporting.contact_sheet import save_result

log = logging.getLogger("edit")


@hydra.main(version_base="1.3", config_path="../conf", config_name="edit")
def main(cfg: DictConfig) -> None:
    """Edit the picture of the command line."""
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    ratios = read_ratios(cfg.ratios)
    pipeline = build_pipeline(cfg)
    if cfg.mask and "mask" not in pipeline.editor.inputs:
        raise ValueError("a mask is given and the editor does not use it: add editor/mask=given, or drop mask=")
    backbone = instantiate(cfg.backbone, _convert_="all")
    pipeline.check(backbone)
    request = (read_request if cfg.image else pick_request)(cfg, backbone.resolution)
    program = pipeline(request, ratios, backbone.schedule(cfg.steps), RequestNoise(cfg.seed, request.id))
    engine = Engine(backbone, BatchSizes(**cfg.engine.batch), progress=cfg.engine.progress)
    (outcome,) = engine.run([(request.id, program)], total=1, edits=len(ratios))
    if outcome.error is not None:
        raise outcome.error
    save_result(request, outcome.result, Path(cfg.out))
    log.info("%s: %d network evaluations, %.1f s", cfg.out, outcome.evaluations.total(), outcome.seconds)
    if flag := outcome.result.metadata.get("mask_flag"):
        log.warning("the mask is %s", flag)


def read_request(cfg: DictConfig, resolution: int) -> EditRequest:
    """The picture, texts and mask of the command line."""
    if cfg.target is None:
        raise ValueError("say what the picture shall show: target=...")
    path, resize = Path(cfg.image).expanduser(), instantiate(cfg.resize)
    mask = MaskFile(Path(cfg.mask).expanduser(), path, resolution, resize) if cfg.mask else None
    source = None if cfg.source is None else str(cfg.source)
    return EditRequest(path.stem, ImageFile(path, resolution, resize), str(cfg.target), source, mask)


def pick_request(cfg: DictConfig, resolution: int) -> EditRequest:
    """A request of the benchmark, with other texts where the command line has some."""
    if cfg.mask:
        raise ValueError("mask= belongs to image=; the benchmark's own mask is used by editor/mask=given")
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    if not 0 <= cfg.request < len(benchmark):
        raise ValueError(f"request = {cfg.request}: the benchmark has {len(benchmark)} requests, counted from 0")
    request = next(islice(benchmark.requests(resolution), cfg.request, None))
    if cfg.target is not None:
        request = replace(request, target=str(cfg.target), true_edit=None, mask=None, true_mask=None)
    return request if cfg.source is None else replace(request, source=str(cfg.source))


if __name__ == "__main__":
    run_command("edit", main)
