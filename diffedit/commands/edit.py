"""`diffedit edit`: one picture, by plain options, since texts and file names are not for Hydra's grammar."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffedit.commands.launch import find_nearer, set_limits, tell
from diffedit.io.checks import refuse_renamed
from diffedit.io.spelling import find_spelling

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from diffedit.types import Backbone, EditRequest

log = logging.getLogger("edit")

OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@]*=")
# What was written as an override before: the option that it is now.
OPTIONS = {name: f"--{name} ..." for name in ("target", "source", "mask", "request", "out")}
OPTIONS["image"] = "without a name, diffedit edit PICTURE,"
KNOWN_OF_TARGET = ("true_edit", "mask", "true_mask", "retrieved")  # of a benchmark's own; another target has none


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = make_parser()
    options = read_options(parser, argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    try:
        for name, option in OPTIONS.items():
            if any(word.startswith(f"{name}=") for word in options.overrides):
                raise ValueError(f"{name}=... is written {option} now, so that any text can stand there")
        refuse_renamed("edit", options.overrides)
        cfg = compose_config(options)
        if options.cfg:
            from omegaconf import OmegaConf

            print(OmegaConf.to_yaml(cfg), end="")
            return 0
        edit(cfg, options)
    except Exception as error:
        return tell(error, "diffedit edit")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "diffedit edit",
        description="Edit one picture; write the edit at each ratio, the mask, the contrast map, the mask laid over\n"
        "the picture and a contact sheet of all.",
        usage="diffedit edit [PICTURE] [--target TEXT] [options] [SETTING=VALUE ...]",
        epilog="""examples:
  diffedit edit            # a rendered still life, by the networks that come along
  diffedit edit --request 3 --target "a bowl of pears on a white tablecloth"
  diffedit edit "my cat (1).jpg" --target "a dog's bowl, 50% off" --source "a cat" --backbone sd15
  diffedit edit cat.jpg --target "a dog" --editor sdedit --ratio 0.6 0.8 --model /path/to/weights
  diffedit edit cat.jpg --target "a dog" --mask head.png --editor blended_latent reconstruct=poisson

settings, as of `diffedit run`: editor.mask.num_noises=20, backbone.dtype=float16, ...; --cfg
lists them. Exit codes: 0 done, 1 the edit failed, 2 refused.""",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=100),
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="PICTURE", help="file to edit; none: a picture of Still Life")
    add("--target", metavar="TEXT", help="what the result shall show")
    add("--source", metavar="TEXT", help="what the picture shows, where you can say it")
    add("--mask", metavar="FILE", type=Path, help="white where the picture may change; else the method finds it")
    add("--ratio", metavar="R", nargs="+", default=[], help="encoding ratios in (0, 1] (default 0.3 0.5 0.7 0.9)")
    add("--editor", metavar="NAME", help="method, of `diffedit ls editor` (default diffedit)")
    add("--backbone", metavar="NAME", help="model, of `diffedit ls backbone` (default stilllife)")
    add("--model", metavar="PATH", help="model: a folder or hub id in Stable Diffusion's layout")
    add("--steps", metavar="N", type=int, help="DDIM steps of the whole schedule (default 50)")
    add("--guidance", metavar="G", type=float, help="classifier-free guidance (default the editor's own, 7.5)")
    add("--seed", metavar="S", type=int, help="of the noise (default 0)")
    add("--request", metavar="N", type=int, help="which picture of Still Life, without PICTURE (default 0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("edited"), help="folder to write to (default edited)")
    add("--config-dir", metavar="DIR", type=Path, help="folder of yaml of your own, in the groups of conf/")
    add("--include", metavar="DIR", action="append", default=[], help="folder of classes of your own, yaml in DIR/conf")
    add("--cfg", action="store_true", help="print all settings, and edit nothing")
    return parser


def read_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The options, with `picture` and `overrides` for the words that belong to none."""
    options = parser.parse_intermixed_args(argv)
    ratios = [word for word in options.ratio if is_number(word)]
    words = [*options.words, *(word for word in options.ratio if not is_number(word))]  # `--ratio 0.5 steps=20`
    options.ratio = list(map(float, ratios))
    options.overrides = [word for word in words if OVERRIDE.match(word) and not Path(word).exists()]
    pictures = [word for word in words if word not in options.overrides]
    if len(pictures) > 1:
        parser.error(f"one picture is edited, and there are {len(pictures)}: {', '.join(pictures)}")
    options.picture = Path(pictures[0]) if pictures else None
    if options.model and options.backbone:
        parser.error("--model and --backbone both name the model: give one")
    return options


def is_number(word: str) -> bool:
    """Whether a word is one."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def compose_config(options: argparse.Namespace) -> "DictConfig":
    """conf/edit.yaml with what the options and overrides choose."""
    from omegaconf import OmegaConf, open_dict

    from diffedit.commands.include import include_packages, search
    from diffedit.commands.schemas import check_command
    from diffedit.io.compose import compose

    overrides = include_packages([word for folder in options.include for word in ("--include", folder)])
    if options.config_dir:
        if not options.config_dir.is_dir():
            raise FileNotFoundError(f"--config-dir {options.config_dir}: no such folder")
        folders = [options.config_dir.resolve(), *(Path(folder).resolve() / "conf" for folder in options.include)]
        overrides = [search(folders)]
    overrides += [f"editor={options.editor}"] * bool(options.editor)
    overrides += [f"backbone={options.backbone}"] * bool(options.backbone)
    overrides += ["backbone=stable_diffusion"] * bool(options.model)
    overrides += options.overrides
    if options.mask and not any(word.startswith("editor/mask=") for word in overrides):
        chosen = [word for word in overrides if word.startswith(("editor=", "hydra."))]
        if "mask" in compose("edit", chosen).editor:  # its finder would look for a mask: the one that is given counts
            overrides.append("editor/mask=given")
    try:
        cfg, spelled = compose("edit", overrides), {}
    except Exception as error:
        raise find_nearer(error, "edit", overrides) from None
    given = {"ratios": ("--ratio", options.ratio or None), "steps": ("--steps", options.steps)}
    given |= {"seed": ("--seed", options.seed), "backbone.path": ("--model", options.model)}
    given |= {"editor.guidance": ("--guidance", options.guidance)}
    if options.guidance is not None and "guidance" not in cfg.editor:
        raise ValueError(f"--guidance {options.guidance}: this editor has none")
    with open_dict(cfg):
        for name, (option, value) in given.items():
            if value is not None:
                OmegaConf.update(cfg, name, value)
                spelled[name] = option
    check_command(cfg, "edit", spelled=spelled)
    return cfg


def edit(cfg: "DictConfig", options: argparse.Namespace) -> None:
    """Edit the picture and write what comes out."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from diffedit.engine.engine import BatchSizes, Engine
    from diffedit.engine.threads import RateWatch, set_threads, warn_of_load
    from diffedit.io.device import find_device
    from diffedit.mask import describe_mask_flag
    from diffedit.runs.shapes import ORIGINAL, SIZE, note_size
    from diffedit.sampling.noise import RequestNoise
    from diffedit.sampling.schedule import check_ratios, open_schedule, read_ratios
    from diffedit.stages.pipeline import build_pipeline
    from eval.reporting.contact_sheet import save_result

    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    set_limits(cfg)
    set_threads(cfg.engine.cpu_threads)
    ratios = read_ratios(cfg.ratios)
    check_ratios(ratios, cfg.steps)
    batch, pipeline = BatchSizes(**cfg.engine.batch), build_pipeline(cfg)
    if options.mask and "mask" not in pipeline.editor.inputs:
        raise ValueError(f"--mask {options.mask}: this editor does not use one")
    make_request = check_picture(cfg, options)
    backbone = instantiate(cfg.backbone, _convert_="all")
    pipeline.check(backbone)
    schedule = open_schedule(backbone, cfg.steps)
    pipeline.check_levels(schedule, ratios)
    pipeline.warn(schedule)
    request = make_request(backbone)
    program = pipeline(request, ratios, schedule, RequestNoise(cfg.seed, request.id))
    watch = RateWatch() if find_device(backbone).type == "cpu" else None
    if watch:
        warn_of_load()
    check_place(options.out)
    engine = Engine(backbone, batch, progress=cfg.engine.progress, pad=False, watch=watch)
    (outcome,) = engine.run([(request.id, program)], total=1, edits=len(ratios))
    if outcome.error is not None:
        raise outcome.error
    options.out.mkdir(parents=True, exist_ok=True)
    save_result(request, outcome.result, options.out)
    log.info("%s: %d network evaluations, %.1f s", options.out, outcome.evaluations.total(), outcome.seconds)
    if cfg.resize.policy == "keep" and options.picture is not None:
        facts = note_size(request, outcome).result.metadata
        log.info("edited whole, at %s; the picture is %s", facts[SIZE], facts.get(ORIGINAL, "of no file"))
    if line := describe_mask_flag(outcome.result):
        log.warning("%s", line)


def check_place(out: Path) -> None:
    """Refuse, before the work, a folder that cannot be made or written to."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"--out {out}: {there} is a file, and a folder is wanted")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {out}: {there} may not be written to: choose another folder")


def check_picture(cfg: "DictConfig", options: argparse.Namespace) -> Any:
    """What makes the request for a backbone; whatever is wrong with the options is said before a model is loaded."""
    if options.picture is None:
        return pick_request(cfg, options)
    if options.request is not None:
        raise ValueError(f"--request {options.request}: of a benchmark, and {options.picture} is edited: leave one out")
    if changed := [word for word in options.overrides if re.match(r"[+~]*benchmark\b", word)]:
        raise ValueError(f"{changed[0]}: {options.picture} is edited, and no benchmark: leave one out")
    if options.target is None:
        raise ValueError("say what the picture shall show: --target TEXT")
    for path in (options.picture, options.mask):
        if path is not None and not find_spelling(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
    return lambda backbone: read_request(cfg, options, backbone)


def read_request(cfg: "DictConfig", options: argparse.Namespace, backbone: "Backbone") -> "EditRequest":
    """The picture, texts and mask of the command line."""
    from hydra.utils import instantiate

    from diffedit.io.images import ImageFile, MaskFile
    from diffedit.runs.shapes import fit_resize
    from diffedit.types import EditRequest

    path, resolution, resize = options.picture, backbone.resolution, fit_resize(instantiate(cfg.resize), backbone)
    mask = MaskFile(options.mask, path, resolution, resize) if options.mask else None
    return EditRequest(path.stem, ImageFile(path, resolution, resize), options.target, options.source, mask)


def pick_request(cfg: "DictConfig", options: argparse.Namespace) -> Any:
    """Picks a request of the benchmark, with other texts where the options have some."""
    from hydra.utils import instantiate

    from diffedit.runs.shapes import fit_benchmark

    if options.mask:
        raise ValueError("--mask belongs to a picture; the benchmark's own mask is used by editor/mask=given")
    if changed := [word for word in options.overrides if re.match(r"[+~]*resize\b", word)]:
        raise ValueError(f"{changed[0]}: of a picture that is given; of a benchmark's it is benchmark.{changed[0]}")
    benchmark = instantiate(cfg.benchmark, _convert_="all")
    number = options.request or 0
    if not 0 <= number < len(benchmark):
        raise ValueError(f"--request {number}: the benchmark has {len(benchmark)}, counted from 0")

    def pick(backbone: "Backbone") -> "EditRequest":
        fitted, _ = fit_benchmark(benchmark, {"benchmark": {}}, backbone)
        request = next(islice(fitted.requests(backbone.resolution), number, None))
        if options.target is not None:
            request = replace(request, target=options.target, **dict.fromkeys(KNOWN_OF_TARGET))
        return request if options.source is None else replace(request, source=options.source)

    return pick
