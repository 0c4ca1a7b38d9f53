"""Where networks find their weights, how they read them, and what is said where there are none."""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from torch import Tensor

from diffedit.io.checks import refuse_adapter
from diffedit.io.files import resolve_path

CONFIG = "config.json"
TENSORS = "model.safetensors"


def get_hub_folder() -> Path:
    """The folder that torch.hub downloads into; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find_file(path: str | None, candidates: Sequence[Path], key: str) -> Path:
    """A file of weights.

    Args:
        path: the setting.
        candidates: files to look for where the setting is None.
        key: of the setting.

    Raises:
        FileNotFoundError: there is none; names all that were looked for.
    """
    if path is not None:
        candidates = [resolve_path(path)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = ", ".join(map(str, candidates))
    raise FileNotFoundError(f"{key} = {path}: no such file: {names}; put one there, or name another in {key}")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote, on the CPU; code in it is not run, but refused as a ValueError."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{file}: not a file of tensors alone: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file}: holds something else than named tensors")
    return state


def hash_files(files: Iterable[Path], identity: Any) -> str:
    """16 hexadecimal digits that name the content of files, and whatever else decides what a network answers."""
    digest = hashlib.sha256(repr(identity).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def find_checkpoint(model: str, files: Sequence[str], key: str) -> Path:
    """The folder of a transformers checkpoint: of this machine, else of the Hugging Face hub.

    A name whose parent is a folder means a folder, and is not looked up on the hub. The cache of the hub comes before
    the hub itself.

    Args:
        model: path or hub id.
        files: that it must hold.
        key: of the setting.

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
        return fetch_from_hub(model, files)
    except Exception as error:  # the hub's client raises what its HTTP library does, too
        hint = f"put them there, or name a folder that holds them in {key}"
        raise FileNotFoundError(f"{why}, nor on the hub as {model}: {error}; {hint}") from error


def fetch_from_hub(model: str, files: Sequence[str]) -> Path:
    """The folder of files of the hub, downloaded where its cache lacks one."""
    try:
        paths = [hf_hub_download(model, file, local_files_only=True) for file in files]
    except FileNotFoundError:
        paths = [hf_hub_download(model, file) for file in files]
    return Path(paths[0]).parent


def load_pretrained(from_pretrained: Callable[..., tuple[Any, dict[str, Any]]], path: Path) -> Any:
    """A network of transformers in float32, in evaluation mode, without gradients.

    Args:
        from_pretrained: of its class.
        path: folder of the checkpoint.

    Raises:
        ValueError: the checkpoint cannot be read, lacks weights (transformers would make them up), or is an adapter.
    """
    refuse_adapter(path)
    try:
        network, info = from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are listed, and refused below
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be loaded: {error}") from error
    if lacking := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"], *info["error_msgs"]])):
        raise ValueError(f"{path / TENSORS}: lacks weights of {type(network).__name__}: {', '.join(lacking[:4])}")
    return network.eval().requires_grad_(False)
