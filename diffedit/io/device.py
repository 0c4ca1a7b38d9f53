"""The device that networks are put on."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch


def pick_device(name: str, mps: bool = False) -> torch.device:
    """The device of a setting; "auto" takes CUDA where there is one, then Apple's MPS where `mps` allows it.

    Of several, it takes that of this process among those which torchrun or srun started on this machine.

    Raises:
        ValueError: it is no device, or not one of this machine.
    """
    if name != "auto":
        return find_named(name)
    if torch.cuda.is_available():
        rank = read_local_rank()
        return torch.device("cuda" if rank is None else f"cuda:{rank % torch.cuda.device_count()}")
    return torch.device("mps" if mps and torch.backends.mps.is_available() else "cpu")


def find_named(name: str) -> torch.device:
    """The device of this name, if there is one."""
    try:
        device = torch.device(name)
    except RuntimeError:
        words = "it should be auto, cpu, cuda, cuda:1, mps, or as torch.device has it"
        raise ValueError(f"device = {name!r}: {words}") from None
    there = {"cuda": torch.cuda.device_count, "mps": lambda: int(torch.backends.mps.is_available())}
    if device.type in there and (device.index or 0) >= (count := there[device.type]()):
        raise ValueError(f"device = {name}: PyTorch finds {count} of {device.type} here; auto takes what there is")
    return device


def read_local_rank(environ: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process on this machine, as torchrun or srun say; None where neither started it."""
    names = ["LOCAL_RANK"] + ["SLURM_LOCALID"] * ("SLURM_STEP_ID" in environ)
    return next((int(environ[name]) for name in names if environ.get(name, "").isdecimal()), None)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left; on a CPU and on MPS PyTorch only says so in words."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def find_device(backbone: Any) -> torch.device:
    """Where the networks of a backbone are; one that does not say is on the CPU."""
    return torch.device(getattr(backbone, "device", "cpu"))


def name_device(device: torch.device) -> str:
    """What the device is sold as, where that can be told."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def wait_for(device: torch.device) -> None:
    """Until a device has done what it was given."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
