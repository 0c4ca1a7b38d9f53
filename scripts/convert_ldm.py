"""A class-conditional latent diffusion model of CompVis as a folder that `diffedit run backbone=ldm_imagenet` reads."""

import argparse
import json
import logging
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from torch import Tensor

from diffedit.backbones.classes import ClassList
from diffedit.backbones.compvis import Converted, convert
from diffedit.backbones.latent_diffusion import CLASSES, EMBEDDING
from diffedit.commands.launch import tell

EXAMPLE = """example:
  python scripts/convert_ldm.py --config cin256-v2.yaml --checkpoint model.ckpt --allow-ckpt \\
      --classes imagenet_class_index.json --out models/cin256-v2"""
IMAGENET = 1000

log = logging.getLogger("convert_ldm")


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the original's yaml")
    parser.add_argument("--checkpoint", type=Path, required=True, help="its weights: .safetensors, or .ckpt")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--classes", type=Path, help="class index: names and wnids for texts")
    parser.add_argument(
        "--null-class",
        help="row that stands for no class, or none (default: 1000 of 1001 rows, else none)",
    )
    parser.add_argument(
        "--allow-ckpt", action="store_true", help="unpickle a .ckpt (of tensors and plain values alone: weights_only)"
    )
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        convert_files(args)
    except Exception as error:
        return tell(error, "convert_ldm")
    return 0


def convert_files(args: argparse.Namespace) -> None:
    """Read, convert, write."""
    config = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    converted = convert(config if isinstance(config, dict) else {}, read_state(args.checkpoint, args.allow_ckpt))
    rows = len(converted.class_embedding)
    null = choose_null(args.null_class, rows)
    index = None if args.classes is None else read_classes(args.classes, rows - (null is not None))
    if index is None and (args.out / CLASSES).exists():
        raise ValueError(f"{args.out / CLASSES}: names of another conversion, it may be: delete it, or give --classes")
    save(converted, null, args.out)
    if index is not None:
        (args.out / CLASSES).write_text(json.dumps(index, indent=0) + "\n", encoding="utf-8")
    weights = "their moving average" if converted.is_average else "as they were trained last"
    log.info("%s: the UNet's weights %s; %d rows of classes, null class: %s", args.out, weights, rows, null)


def read_state(path: Path, allow_ckpt: bool) -> Mapping[str, Tensor]:
    """The state dict of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    if not allow_ckpt:
        raise ValueError(
            f"{path}: a pickle, which can hold code that runs: take a .safetensors, or give --allow-ckpt, which reads "
            "tensors and plain values alone"
        )
    import torch

    try:
        # Files of before PyTorch 1.6 are no archives, and cannot be mapped into memory.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise ValueError(
            f"{path}: more than tensors and plain values is in it, or it is damaged: where you trust it, save its "
            f"state_dict as .safetensors in an environment that you can lose ({shorten(error)})"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: a {type(state).__name__}, and no state dict")
    return state


def shorten(error: Exception) -> str:
    """What a library says in many lines, in one."""
    return textwrap.shorten(str(error), 300, placeholder=" ...")


def choose_null(asked: str | None, rows: int) -> int | None:
    """The row of the null class."""
    if asked is None:
        return IMAGENET if rows == IMAGENET + 1 else None
    if asked == "none":
        return None
    if not asked.isdigit() or int(asked) != rows - 1:
        raise ValueError(f"--null-class {asked}: {rows - 1}, the last of {rows} rows, or none")
    return int(asked)


def save(converted: Converted, null: int | None, out: Path) -> None:
    """The folder, every weight in its place: a ValueError where one is missing."""
    from diffusers import DDIMScheduler, UNet2DConditionModel, VQModel

    networks = (
        ("unet", UNet2DConditionModel.from_config(converted.unet_config), converted.unet),
        ("vqvae", VQModel.from_config(converted.vqvae_config), converted.vqvae),
    )
    for name, network, weights in networks:
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{name}: the weights are not those of the config: {shorten(error)}") from error
    out.mkdir(parents=True, exist_ok=True)
    for name, network, _ in networks:
        network.save_pretrained(out / name)
    DDIMScheduler.from_config(converted.scheduler_config).save_pretrained(out / "scheduler")
    safetensors.torch.save_file({"weight": converted.class_embedding.contiguous()}, out / EMBEDDING)
    index: dict[str, Any] = {"_class_name": "LatentDiffusion", "null_class": null}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vqvae": ["diffusers", "VQModel"]}
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def read_classes(path: Path, count: int) -> dict[str, list[str]]:
    """The class index in one format; a ValueError where a class is none of the model's."""
    from eval.benchmarks.imagenet_classes import Classes

    known = Classes(path)
    wnids = {number: one.wnid for number, one in known.by_number.items()}
    ClassList(count, known.synonyms, wnids, f"--classes {path}")
    return {str(number): [wnid, known.synonyms[number]] for number, wnid in wnids.items()}


if __name__ == "__main__":
    sys.exit(main())
