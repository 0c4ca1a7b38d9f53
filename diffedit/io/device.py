"""The device that networks are put on."""

import platform
from typing import Any

import torch


def pick_device(name: str, mps: bool = False) -> torch.device:
    """The device of a setting; "auto" takes CUDA where there is one, then Apple's MPS where `mps` allows it."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if mps and torch.backends.mps.is_available() else "cpu")


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
