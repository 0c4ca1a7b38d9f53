"""Where the networks find their weights, how they read them, and what they say where there are none."""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from torch import Tensor

from diffedit.io.files import resolve_path

CONFIG, TENSORS = "config.json", "model.safetensors"


def checkpoints() -> Path:
    """The folder that torch.hub downloads into; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def found(path: str | None, places: Sequence[Path], key: str) -> Path:
    """A file of weights.

    Args:
        path: what the config says.
        places: files to look for where it says nothing.
        key: of the config.

    Raises:
        FileNotFoundError: there is none; names all that were looked for.
    """
    tried = places if path is None else [resolve_path(path)]
    for place in tried:
        if place.is_file():
            return place
    names = ", ".join(map(str, tried))
    raise FileNotFoundError(f"{key} = {path}: no such file: {names}; put one there, or name another in {key}")


def tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote, on the CPU; code in it is not run, but refused as a ValueError."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{file}: not a file of tensors alone: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file}: holds something else than named tensors")
    return state


def digest(files: Iterable[Path], told: Any) -> str:
    """16 hexadecimal digits that name the content of files, and whatever else decides what a network says."""
    whole = hashlib.sha256(repr(told).encode())
    for file in files:
        with file.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()[:16]


def folder(model: str, files: Sequence[str], key: str) -> Path:
    """The folder of a transformers checkpoint: of this machine, else of the Hugging Face hub.

    A name whose parent is a folder means a folder, and is not asked of the hub. The cache of the hub comes before
    the hub itself.

    Args:
        model: path or hub id.
        files: that it must hold.
        key: of the config.

    Raises:
        FileNotFoundError: there is no such checkpoint, or a file is missing; names it.
    """
    path = resolve_path(model)
    missing = [str(path / file) for file in files if not (path / file).is_file()]
    if not missing:
        return path
    why = f"{key} = {model}: no such files: {', '.join(missing)}"
    if path.is_dir() or path.parent.is_dir():
        raise FileNotFoundError(f"{why}; save_pretrained of transformers writes such a folder")
    try:
        return cached(model, files)
    except Exception as error:  # the hub's client raises what its HTTP library does, too
        hint = f"put them there, or name a folder that holds them in {key}"
        raise FileNotFoundError(f"{why}, nor on the hub as {model}: {error}; {hint}") from error


def cached(model: str, files: Sequence[str]) -> Path:
    """The folder of files of the hub, downloaded where its cache lacks one."""
    try:
        paths = [hf_hub_download(model, file, local_files_only=True) for file in files]
    except FileNotFoundError:
        paths = [hf_hub_download(model, file) for file in files]
    return Path(paths[0]).parent


def pretrained(load: Callable[..., tuple[Any, dict[str, Any]]], path: Path) -> Any:
    """A network of transformers in float32, in evaluation mode, without gradients.

    Args:
        load: `from_pretrained` of its class.
        path: folder of the checkpoint.

    Raises:
        ValueError: the checkpoint cannot be read, or lacks weights: transformers would make them up.
    """
    try:
        network, told = load(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are told, and refused below
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be loaded: {error}") from error
    if lacking := sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"], *told["error_msgs"]])):
        raise ValueError(f"{path / TENSORS}: lacks weights of {type(network).__name__}: {', '.join(lacking[:4])}")
    return network.eval().requires_grad_(False)
