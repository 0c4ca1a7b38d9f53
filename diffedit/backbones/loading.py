"""What backbones share: networks, schedules and tokenizers from a folder or the hub."""

from typing import Any

import torch
from diffusers import DDIMScheduler
from transformers import CLIPTokenizer

from diffedit.io.files import resolve_path


def load_network(kind: Any, path: str, part: str, dtype: torch.dtype, weights: dict[str, Any]) -> Any:
    """One network; an OSError where the file holds no value for one of its weights."""
    model, info = kind.from_pretrained(path, subfolder=part, dtype=dtype, output_loading_info=True, **weights)
    if missing := sorted(info["missing_keys"]):
        raise OSError(f"{path}/{part}: {len(missing)} weights are missing from the file: {', '.join(missing[:5])} ...")
    return model.eval().requires_grad_(False)


def read_scheduler(path: str, find: dict[str, Any]) -> DDIMScheduler:
    """The noise schedule, whatever sampler the folder names; a ValueError where it is not a discrete DDPM one."""
    try:
        config = DDIMScheduler.load_config(path, subfolder="scheduler", **find)
    except OSError as error:
        raise OSError(
            f"backbone.path = {path}: neither a folder here nor a model that the hub gives: {error}"
        ) from error
    if "beta_schedule" not in config and config.get("trained_betas") is None:
        raise ValueError(f"{path}/scheduler: {config.get('_class_name')} has no betas: not a DDPM noise schedule")
    keys = set(DDIMScheduler().config)
    return DDIMScheduler.from_config({key: value for key, value in config.items() if key in keys})


def read_tokenizer(path: str, text_config: Any, find: dict[str, Any], part: str = "tokenizer") -> CLIPTokenizer:
    """The tokenizer; a missing file would give an empty vocabulary without a word, so its size is checked."""
    tokenizer = CLIPTokenizer.from_pretrained(path, subfolder=part, **find)
    if len(tokenizer) != text_config.vocab_size:
        raise OSError(
            f"{path}/{part} has {len(tokenizer)} tokens, the text encoder {text_config.vocab_size}: "
            "vocab.json, merges.txt or tokenizer.json missing?"
        )
    tokenizer.model_max_length = min(tokenizer.model_max_length, text_config.max_position_embeddings)
    return tokenizer


def find_folder(path: str) -> str:
    """The folder or hub id; a FileNotFoundError where it is plainly a folder and does not hold a pipeline."""
    folder = resolve_path(path)
    local = folder.exists() or path.startswith((".", "/", "~"))
    if local and not (folder / "unet" / "config.json").is_file():
        raise FileNotFoundError(f"backbone.path = {path}: no unet/config.json there; not a Stable Diffusion folder")
    return str(folder) if local else path


def read_dtype(name: str) -> torch.dtype:
    """The dtype of this name."""
    if name not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"dtype {name!r} is none of float32, float16, bfloat16")
    return getattr(torch, name)
